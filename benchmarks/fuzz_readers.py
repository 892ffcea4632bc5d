"""Mutates files of ours and corpora, and reads each: whatever it holds, the answer is a value or one sentence.

    python -m benchmarks.fuzz_readers --minutes 5 [--seed 0]

Plans, statistics, rows, records of checks, slimmoe.json, TSV, PO and WMT24++ files, and streams of lines. A finding is any
exception but SlimmoeError, or more than 5 seconds of the processor; the first ends the run, and its file is kept as
fuzz-finding.READER. Two thirds of the mutations of JSON put unlikely values into it, all others change bytes.
"""

import argparse
import json
import logging
import random
import shutil
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

from export.verification import read_record
from prune.calibrate.stats import LayerStats, Stats
from prune.plan.plan import Plan, make_plan
from runtime.errors import SlimmoeError
from runtime.formats.provenance import read_provenance
from runtime.measure.rows import finished_rows
from runtime.report.bench_run import read_run
from runtime.report.markdown import markdown
from runtime.text.corpus import read_segments
from runtime.text.lines import read_stream
from runtime.text.pairs import Pair

SECONDS = 5
EN_DE = Pair("en", "de")
UNLIKELY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J", "../x", [], {},
    [[]], {"x": 1}, "en-de + de-en", "x" * 10_000,
]  # fmt: skip
PIECES = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b"\t",
    b"\xe2\x80\xa8",
    b"\x1f\x8b",
    b'"',
    b"[" * 5000,
    b"\\",
    b"{",
]
PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "%d file"\nmsgid_plural "%d files"\n'
PO += 'msgstr[0] "%d Datei"\nmsgstr[1] "%d Dateien"\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgctxt "c"\nmsgid "Save"\nmsgstr "Ü"\n'


@dataclass(frozen=True)
class Reader:
    """One kind of file: its name in a folder, a right one's bytes, and what reads the folder."""

    file: str
    right: bytes
    read: Callable[[Path], object]
    is_json: bool = False


def _report(folder: Path) -> None:
    markdown(read_run(folder), "x")


def _stream(folder: Path) -> None:
    with (folder / "x.txt").open("rb") as file:
        list(read_stream(file, "x"))


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
        "plan": Reader("plan.json", json.dumps(plan).encode(), lambda f: Plan.load(f / "plan.json"), True),
        "statistics": Reader("stats", (folder / "stats").read_bytes(), lambda f: Stats.load(f / "stats")),
        "rows": Reader("bench.jsonl", json.dumps(row).encode(), lambda f: finished_rows(f / "bench.jsonl"), True),
        "report": Reader("bench.jsonl", json.dumps(row).encode(), _report, True),
        "checks": Reader("verify.json", json.dumps(record).encode(), lambda f: read_record(f / "verify.json"), True),
        "provenance": Reader("slimmoe.json", json.dumps(made).encode(), read_provenance, True),
        "TSV": Reader("x.tsv", lines, lambda f: read_segments(f / "x.tsv", EN_DE)),
        "PO": Reader("x.po", PO.encode(), lambda f: read_segments(f / "x.po", EN_DE)),
        "WMT24++": Reader("en-de_DE.jsonl", json.dumps(wmt[0]).encode(), lambda f: read_segments(f, EN_DE), True),
        "lines": Reader("x.txt", lines, _stream),
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


def mutated(reader: Reader, chance: random.Random) -> bytes:
    """A file that is wrong somewhere, or only odd."""
    if reader.is_json and chance.random() < 0.7:
        return json.dumps(_mutate_json(json.loads(reader.right), chance)).encode()
    return _mutate_bytes(reader.right, chance)


def main(minutes: float, seed: int) -> None:
    """Read for so long, and tell how often each reader gave a value and how often a sentence.

    Raises:
        SystemExit: a finding.
    """
    logging.disable()
    chance, ends = random.Random(seed), time.monotonic() + 60 * minutes
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        known = readers(Path(name))
        while time.monotonic() < ends:
            for kind, reader in known.items():
                folder = Path(name) / kind
                folder.mkdir(exist_ok=True)
                (folder / reader.file).write_bytes(mutated(reader, chance))
                started = time.process_time()
                try:
                    reader.read(folder)
                    counts[kind, "read"] += 1
                except SlimmoeError:
                    counts[kind, "refused"] += 1
                except Exception:
                    traceback.print_exc()
                    kept = shutil.copyfile(folder / reader.file, f"fuzz-finding.{kind}")
                    sys.exit(f"{kind} failed after {counts.total()} files, kept as {kept}")
                if time.process_time() - started > SECONDS:
                    kept = shutil.copyfile(folder / reader.file, f"fuzz-finding.{kind}")
                    sys.exit(f"{kind} took more than {SECONDS} s of the processor, kept as {kept}")
    for kind in known:
        print(f"{kind}: {counts[kind, 'read']} read, {counts[kind, 'refused']} refused")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    main(chosen.minutes, chosen.seed)
