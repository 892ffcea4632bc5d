"""Mutates files of ours, corpora and what is in model folders, and reads each: the answer is a value or one sentence.

    python -m benchmarks.fuzz_readers --minutes 5 [--seed 0] [--only template ...]

Plans, statistics, importance matrices, rows, records of checks, slimmoe.json, TSV, PO and WMT24++ files, streams of lines,
glossaries;
of checkpoints the config, a shard's header, the index, the tokenizer and its config, the chat template; of ONNX folders the
graph, its self-test and its configs. A finding is any exception but SlimmoeError, more than 5 seconds of the processor for
a file, or more than 300 MB of memory beyond the start. Each place in the code is told once, and its file is kept as
fuzz-finding.READER.NUMBER. Two thirds of the mutations of JSON put unlikely values into it, all others change bytes.
"""

import argparse
import itertools
import json
import logging
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from benchmarks.fuzz_gguf import limits
from export.capabilities import formats_of
from export.fit import fit
from export.gguf.imatrix import write_imatrix
from export.onnx import export_onnx
from export.verification import read_record
from prune.calibrate.imatrix import Entry, ImportanceMatrix, read_imatrix
from prune.calibrate.stats import LayerStats, Stats
from prune.checkpoint import Checkpoint
from prune.plan.plan import Layer, Plan, make_plan
from prune.rewrite.shape import check_plan, cut_shape
from prune.tokenizer import check_tokenizer
from runtime.engines import open_engine
from runtime.errors import SlimmoeError
from runtime.formats.model_folder import INDEX, read_checkpoint
from runtime.formats.provenance import read_provenance
from runtime.measure.rows import finished_rows
from runtime.report.bench_run import read_run
from runtime.report.markdown import markdown
from runtime.text.corpus import read_segments
from runtime.text.lines import read_stream
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from runtime.translate.glossary import read_glossary
from tests.tiny import write_tiny_checkpoint

SECONDS, MEMORY = 5, 300_000_000
PATIENCE = 300  # seconds on the clock, of a machine however busy
TURN = 0.5  # seconds that a reader has before the next one
EN_DE = Pair("en", "de")
UNLIKELY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J", "../x", [], {},
    [[]], {"x": 1}, "en-de + de-en", "x" * 10_000,
]  # fmt: skip
PIECES = [
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b"\t", b"\xe2\x80\xa8", b"\x1f\x8b", b'"', b"[" * 5000, b"\\", b"{",
]  # fmt: skip
JINJA = [
    "{% for x in range(10**9) %}", "{% for x in messages %}", "{% endfor %}", "{% if x is defined %}", "{% else %}",
    "{% endif %}", "{% set messages = messages * 9999 %}", "{% macro f(x) %}", "{% endmacro %}", "{% call f(1) %}", "{{ f(f) }}",
    "{{ 'a' * 10**10 }}", "{{ messages | tojson }}", "{{ x.__class__ }}", "{{ messages[9].content }}", "{{ 1 / 0 }}",
    "{{ ''.format_map }}", "{{ '%0999999999d' % 1 }}", "{{ messages | batch(10**9) }}", "{% include 'x' %}", "{# ", "{% raw %}",
    "{{ raise_exception('no') }}", "{{ messages | map('upper') | sort }}", "{% generation %}", "{% endgeneration %}", "{{ [x",
    "{{ cycler(*range(9**9)) }}", "{{ lipsum(9999) }}", "{{ strftime_now('%') }}", "{{ dict(a=messages) }}", "{% break %}",
]  # fmt: skip
PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "%d file"\nmsgid_plural "%d files"\n'
PO += 'msgstr[0] "%d Datei"\nmsgstr[1] "%d Dateien"\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgctxt "c"\nmsgid "Save"\nmsgstr "Ü"\n'
TBX = '<?xml version="1.0"?><tbx><text><body><conceptEntry><langSec xml:lang="en"><termSec><term>fi<hi>le</hi></term></termSec>'
TBX += (
    '</langSec><langSec xml:lang="de"><term>Datei</term><note>&amp;</note></langSec></conceptEntry></body></text></tbx>'
)


@dataclass(frozen=True)
class Reader:
    """One kind of file: its name in a folder, a right one's bytes, what reads the folder, and what else is in that.

    ``kind`` is how it is mutated: as JSON, as a Jinja template, as a safetensors file's header, else as bytes.
    """

    file: str
    right: bytes
    read: Callable[[Path], object]
    kind: str = ""
    beside: Path | None = None


def _report(folder: Path) -> None:
    markdown(read_run(folder), "x")


def _stream(folder: Path) -> None:
    with (folder / "x.txt").open("rb") as file:
        list(read_stream(file, "x"))


def _glossary(folder: Path) -> None:
    (file,) = folder.glob("x.*")
    read_glossary(file, EN_DE).find("Save the file.")


def _template(folder: Path) -> None:
    template = ChatTemplate.from_folder(folder)
    template.prompt(EN_DE, "Save.")
    template.completion(EN_DE, "Save.", "Sichern.")
    template.ends_of_turn(re.compile("<[|]end[|]>"))


def _engine(folder: Path) -> None:
    """As a translation does: loads, tests itself and writes a little."""
    engine = open_engine(folder, 1)
    engine.generate(engine.encode(engine.template.prompt(EN_DE, "Save the file.")), 2)
    engine.close()


def _shorten_vocabulary(path: Path) -> None:
    """Leave the tokenizer few tokens, so that much is read in little time."""
    values = json.loads(path.read_text(encoding="utf-8"))
    model = values["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < 400}
    model["merges"] = [pair for pair in model["merges"] if {*pair, "".join(pair)} <= model["vocab"].keys()]
    path.write_text(json.dumps(values), encoding="utf-8")


def of_models(folder: Path) -> dict[str, Reader]:
    """Readers of what is in a checkpoint and in an ONNX folder; tiny ones are written into ``folder``."""
    checkpoint = write_tiny_checkpoint(folder / "checkpoint")
    _shorten_vocabulary(checkpoint / "tokenizer.json")
    onnx = folder / "onnx"
    export_onnx(checkpoint, onnx, "int4")
    whole = Checkpoint(checkpoint)
    layers = [Layer(layer, count, [0, 1, 2]) for layer, count in whole.moe_layers.items()]
    plan = Plan("fuzz", whole.fingerprint, "en-de", "gate", "uniform", 0.5, 0, 2, layers)

    def look_into(copy: Path) -> None:
        """All that verbs do with a folder before they load weights or start another program."""
        found = Checkpoint(copy)
        formats_of(found)
        check_plan(found, plan)
        cut_shape(found, plan)
        fit(found, 1 << 33)

    def reader(home: Path, name: str, read: Callable[[Path], object], kind: str = "JSON") -> Reader:
        return Reader(name, (home / name).read_bytes(), read, kind, home)

    graph, matrix = "onnx/model_q4.onnx", folder / "matrix"
    entries = {
        f"blk.{i}.ffn_down_exps.weight": Entry(np.ones((8, 4), np.float32), np.ones(8, np.float32)) for i in (0, 1)
    }
    write_imatrix(ImportanceMatrix(entries), matrix)
    shard = save({"a": np.ones((2, 3)), "b": np.ones(4, np.float16)}, {"format": "pt"})
    return {
        "config": reader(checkpoint, "config.json", look_into),
        "shard": Reader("model.safetensors", shard, read_checkpoint, "safetensors"),
        "index": reader(checkpoint, INDEX, look_into),
        "tokenizer": reader(checkpoint, "tokenizer.json", check_tokenizer),
        "tokenizer's config": reader(checkpoint, "tokenizer_config.json", _template),
        "template": reader(checkpoint, "chat_template.jinja", _template, "Jinja"),
        "imatrix": Reader("matrix", matrix.read_bytes(), lambda f: read_imatrix(f / "matrix")),
        "ONNX graph": reader(onnx, graph, _engine, ""),
        "ONNX self-test": reader(onnx, f"{graph}_test.json", _engine),
        "ONNX config": reader(onnx, "config.json", _engine),
        "ONNX ends": reader(onnx, "generation_config.json", _engine),
        "ONNX tokenizer": reader(onnx, "tokenizer.json", _engine),
        "ONNX tokenizer's config": reader(onnx, "tokenizer_config.json", _engine),
    }


def readers(folder: Path) -> dict[str, Reader]:
    """All, with right files that are written into ``folder`` first."""
    layers = {i: LayerStats(*np.ones((6, 2, 4)), gram=np.ones((2, 4, 4))) for i in range(2)}
    stats = Stats(layers, "m", "f" * 32, "en-de", 2, {"corpus": "x", "segments": 3, "seconds": 1.5})
    stats.save(folder / "stats")
    plan = make_plan(stats, 0.5).to_dict()
    row = {
        "format": "slimmoe-bench/1", "artefact": "a.gguf", "type": "Q8_0", "pair": "en-de", "threads": 2, "chrf": 50.0,
        "provenance": {"ratio": 0.5, "recoveries": [{"method": "full", "steps": 3}]}, "memory_series": [[0, 1, 2]],
        "speed": [{"threads": 2, "prefill_tokens_per_second": 1.0, "decode_tokens_per_second": 1.0}], "engine": "llama.cpp 1",
        "failures": {"empty": 1}, "samples": [["a", "b", "c"]], "scatter": {"x": 0.1}, "chrf_interval": [1, 2],
    }  # fmt: skip
    check = dict.fromkeys(("artefact", "against", "engine", "bar", "reason"), "x") | {"passed": True, "tokens": 3}
    record = {"format": "slimmoe-verify/1", "checks": [check]}
    made = plan | {"recoveries": [{"method": "lora", "best_step": 0}], "left_out": ["x"], "ragged": False}
    lines = "\n".join(f"Save the file {i}.\tSichern Sie die Datei {i}." for i in range(30)).encode()
    wmt = [{"source": f"Save {i}.", "target": f"Sichern {i}.", "is_bad_source": False} for i in range(3)]
    return {
        "plan": Reader("plan.json", json.dumps(plan).encode(), lambda f: Plan.load(f / "plan.json"), "JSON"),
        "statistics": Reader(
            "stats", (folder / "stats").read_bytes(), lambda f: Stats.load(f / "stats"), "safetensors"
        ),
        "rows": Reader("bench.jsonl", json.dumps(row).encode(), lambda f: finished_rows(f / "bench.jsonl"), "JSON"),
        "report": Reader("bench.jsonl", json.dumps(row).encode(), _report, "JSON"),
        "checks": Reader("verify.json", json.dumps(record).encode(), lambda f: read_record(f / "verify.json"), "JSON"),
        "provenance": Reader("slimmoe.json", json.dumps(made).encode(), read_provenance, "JSON"),
        "TSV": Reader("x.tsv", lines, lambda f: read_segments(f / "x.tsv", EN_DE)),
        "PO": Reader("x.po", PO.encode(), lambda f: read_segments(f / "x.po", EN_DE)),
        "WMT24++": Reader("en-de_DE.jsonl", json.dumps(wmt[0]).encode(), lambda f: read_segments(f, EN_DE), "JSON"),
        "lines": Reader("x.txt", lines, _stream),
        "glossary": Reader("x.csv", b'en,de,fr\nfile,Datei,fichier\n"side, bar",Leiste\n', _glossary),
        "TBX": Reader("x.tbx", TBX.encode(), _glossary),
        **of_models(folder / "models"),
    }


def _mutate_json(value: Any, chance: random.Random) -> Any:
    """The value with an unlikely one somewhere in it, or with a key gone."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice([*value])
        if chance.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return value | {key: _mutate_json(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _mutate_json(value[place], chance), *value[place + chance.choice((0, 1)) :]]
    return chance.choice(UNLIKELY)


def _mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(data) + 1)
        piece = chance.choice([*PIECES, chance.randbytes(1), struct.pack("<Q", chance.choice((0, 2**31, 2**63)))])
        data = data[:place] + piece + data[place + chance.choice((0, 0, 1, len(piece), 50)) :]
    return data


def _mutate_template(text: str, chance: random.Random) -> str:
    """The template with tags of others in it, or parts of it gone."""
    parts = re.split(r"({[{%#].*?[}%#]})", text)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(parts) + 1)
        parts[place : place + chance.choice((0, 0, 1, 3))] = [chance.choice([*JINJA, *parts, ""])]
    return "".join(parts)


def mutated(reader: Reader, chance: random.Random) -> bytes:
    """A file that is wrong somewhere, or only odd."""
    right = reader.right
    if not reader.kind or chance.random() > 0.7:
        return _mutate_bytes(right, chance)
    if reader.kind == "Jinja":
        return _mutate_template(right.decode(), chance).encode()
    if reader.kind == "JSON":
        return json.dumps(_mutate_json(json.loads(right), chance)).encode()
    length = struct.unpack("<Q", right[:8])[0]
    header = json.dumps(_mutate_json(json.loads(right[8 : 8 + length]), chance)).encode()
    return struct.pack("<Q", len(header)) + header + right[8 + length :]


def read_one(name: str, reader: Reader, folder: Path, data: bytes) -> str:
    """Read ``data`` in a folder that is made where it is not there; returns how it ended.

    Raises:
        BaseException: whatever is no sentence. Other programs' panics are no Exception.
    """
    home = folder / name.replace(" ", "-")
    if not home.exists():
        shutil.copytree(reader.beside, home) if reader.beside else home.mkdir()
    (home / reader.file).write_bytes(data)
    started = time.process_time()
    try:
        reader.read(home)
    except SlimmoeError as error:
        assert error.sentence.strip() and "\n" not in error.sentence.strip(), "not one sentence"
        return "refused"
    finally:
        took = time.process_time() - started
        assert took < SECONDS, f"it took {took:.1f} s of the processor"
    return "read"


class Findings:
    """What was no sentence: each place in the code told once, with its file kept."""

    def __init__(self) -> None:
        self.places: set[tuple[str, str, int | None]] = set()

    def add(self, kind: str, data: bytes, error: BaseException) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = (kind, frame.filename, frame.lineno)
        if place not in self.places:
            self.places.add(place)
            kept = Path(f"fuzz-finding.{kind.replace(' ', '-')}.{len(self.places)}")
            kept.write_bytes(data)
            traceback.print_exception(error)
            print(f"{kind}: kept as {kept}", file=sys.stderr, flush=True)


def main(minutes: float, seed: int, only: list[str]) -> None:
    """Read for so long, as long with each reader, and tell how often each gave a value and how often a sentence.

    Raises:
        SystemExit: a finding.
    """
    logging.disable()
    chance, counts, found = random.Random(seed), Counter[tuple[str, str]](), Findings()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nothing is worn out by it
    with tempfile.TemporaryDirectory(dir=memory) as name:
        known = {kind: each for kind, each in readers(Path(name)).items() if not only or kind in only}
        for kind, reader in known.items():
            assert read_one(kind, reader, Path(name), reader.right) == "read", kind
        ends = time.monotonic() + 60 * minutes
        for kind, reader in itertools.cycle(known.items()):
            if (now := time.monotonic()) > ends:
                break
            with limits(MEMORY, PATIENCE):  # anew each time: libraries keep some of what they are given
                while time.monotonic() < now + TURN:
                    data = mutated(reader, chance)
                    signal.alarm(PATIENCE)
                    try:
                        counts[kind, read_one(kind, reader, Path(name), data)] += 1
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:
                        counts[kind, "found"] += 1
                        found.add(kind, data, error)
    for kind in known:
        read, refused, failed = (counts[kind, each] for each in ("read", "refused", "found"))
        print(f"{kind}: {read + refused + failed} files, {read} read, {refused} refused, {failed} findings")
    if found.places:
        sys.exit(f"findings in {len(found.places)} places")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], help="a reader's name; repeat it for several")
    chosen = parser.parse_args()
    main(chosen.minutes, chosen.seed, chosen.only)
