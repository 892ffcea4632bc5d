"""A corpus that the unpruned model writes itself: source sentences in, its own translations out (arXiv 2605.28042, sec. 3).

Calibration and recovery then need no references, and both see what the model would write, not what somebody else did.
"""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from export.capabilities import formats_of
from prune.checkpoint import Checkpoint
from prune.moe_model import MoeModel
from runtime.engines import open_engine
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file
from runtime.measure.evaluate import find_failures
from runtime.text.corpus import OWN_FORMAT, read_lines
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.translate.segments import Translation, translate

FORMAT = f"{OWN_FORMAT}1"
GGUF_TYPE, ONNX_TYPE = "Q8_0", "int8"  # near the unpruned model, at half of its size
HELD_OUT = 10  # every tenth translation is for development, up to MOST_HELD_OUT
MOST_HELD_OUT = 200
FEWEST = 20  # translations without a failure, below which they are no corpus
LONGEST_RATIO = 4.0  # of the two sides' characters, above which a translation has failed
Tell = Callable[[str], object]


def dev_file(corpus: Path) -> Path:
    """Where the held-out part of ``corpus`` is: beside it."""
    return corpus.with_name(f"{corpus.stem}-dev.tsv")


def own_translations(
    model: MoeModel,
    pair: Pair,
    source: Path,
    output: Path,
    tell: Tell = lambda _: None,
    quiet: bool = False,
    prompt: PromptTemplate | None = None,
) -> dict[str, Any]:
    """Translate ``source`` greedily, and write what did not fail to ``output`` (TSV) and ``dev_file(output)``.

    A stopped run goes on with its next sentence. A GGUF file translates as it is. Of a checkpoint, the model itself does on
    a GPU, in batches; on a processor a file of 8 bits does, which is made beside the output and removed at the end.

    Returns:
        What was done: counts of sentences by failure, the engine, and hashes of text and model. It lies beside the output
        as JSON, too.

    Raises:
        RequestError: an unreadable source or model.
        WorkError: hardly anything was translated without failure.
    """
    lines = list(dict.fromkeys(line.strip() for line in read_lines(source) if line.strip()))
    if not lines:
        raise RequestError(f"{source} holds no sentences: one a line is expected.")
    text = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    journal = _Journal(
        output.with_name(f".{output.name}.partial"),
        {"format": FORMAT, "model": model.fingerprint, "pair": str(pair), "text": text}
        | ({"prompt": json.dumps(prompt.to_dict())} if prompt else {}),
    )
    rows = journal.read()
    engine_name = journal.engine
    if len(rows) < len(lines):
        tell(f"translating {len(lines) - len(rows)} sentences with the unpruned model")
        with contextlib.ExitStack() as stack:
            bar = stack.enter_context(
                tqdm(total=len(lines), initial=len(rows), desc="translate", unit="sentence", disable=quiet or None)
            )
            engine_name, done = stack.enter_context(_translating(model, pair, lines[len(rows) :], output, tell, prompt))
            journal.begin(engine_name)
            for translation in done:
                rows.append((translation.text, sorted(failures_of(translation, pair.target))))
                journal.add(*rows[-1])
                bar.update(1)
    about = _write(lines, rows, output)
    about |= {"format": FORMAT, "pair": str(pair), "model": str(model.source), "engine": engine_name}
    about |= {"source": str(source), "source_sha256": text}
    with new_file(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    _remove_model(output)
    journal.remove()
    failed = ", ".join(f"{count} {kind}" for kind, count in about["failures"].items())
    tell(
        f"{about['kept']} of {about['sentences']} own translations are kept"
        + (f" (left out: {failed})" if failed else "")
    )
    return about


def failures_of(translation: Translation, language: str) -> set[str]:
    """Failures that show without a reference; lengths are compared with the source's."""
    found = find_failures(translation, "", language) - {"length"}
    if translation.text:
        one, other = sorted((len(translation.source) + 10, len(translation.text) + 10))
        found |= {"length"} if other > LONGEST_RATIO * one else set()
    if "\t" in translation.text or "\n" in translation.text:
        found.add("several lines")
    return found


def _write(lines: list[str], rows: list[tuple[str, list[str]]], output: Path) -> dict[str, Any]:
    """The two files, and counts.

    Raises:
        WorkError: too few translations are good.
    """
    good = [(line.replace("\t", " "), text) for line, (text, failures) in zip(lines, rows, strict=True) if not failures]
    if len(good) < min(FEWEST, (len(lines) + 1) // 2):
        raise WorkError(
            f"Of {len(lines)} sentences the model translated {len(good)} without failure: it is no teacher for itself.",
            next_command="the same with --corpus: a TSV file of sentences and their translations",
        )
    held_out = good[::HELD_OUT][:MOST_HELD_OUT] if len(good) >= HELD_OUT else []
    kept = [pair for i, pair in enumerate(good) if i % HELD_OUT or i // HELD_OUT >= len(held_out)]
    for path, segments in ((dev_file(output), held_out or good), (output, kept)):
        with new_file(path) as temporary:
            temporary.write_text("".join(f"{a}\t{b}\n" for a, b in segments), encoding="utf-8")
    failures = Counter(failures[0] for _, failures in rows if failures)
    return {"sentences": len(lines), "kept": len(good), "held_out": len(held_out), "failures": dict(failures)}


class _Journal:
    """What a stopped run has translated: a line of JSON for each sentence, after one that says for which request."""

    def __init__(self, path: Path, key: dict[str, str]) -> None:
        self.path, self._key, self.engine = path, key, ""

    def read(self) -> list[tuple[str, list[str]]]:
        """Text and failures by sentence, in order; none where the file is of another request."""
        rows: list[tuple[str, list[str]]] = []
        try:
            head, *lines = self.path.read_text(encoding="utf-8").split("\n")
            about = json.loads(head)
            if about | {"engine": ""} != self._key | {"engine": ""}:
                return []
            self.engine = about["engine"]
            for line in lines:
                text, failures = json.loads(line)
                rows.append((text, failures))
        except (OSError, ValueError, TypeError, KeyError):  # not there, or the last line of a killed run
            pass
        return rows

    def begin(self, engine: str) -> None:
        """Write anew what is known; another engine than before is told beside it."""
        rows = self.read()
        names = dict.fromkeys(filter(None, (*self.engine.split(" + "), engine)))
        self.engine = " + ".join(names)
        with new_file(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._key | {"engine": self.engine}))
            for row in rows:
                file.write("\n" + json.dumps(row))

    def add(self, text: str, failures: list[str]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([text, failures]))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _translating(
    model: MoeModel, pair: Pair, lines: list[str], output: Path, tell: Tell, prompt: PromptTemplate | None
) -> Iterator[tuple[str, Iterator[Translation]]]:
    """The name of what translates, and its translations in order."""
    if isinstance(model, Checkpoint):
        from prune.device import choose_device

        device, _ = choose_device()
        if device.type != "cpu":
            from prune.generate import generate

            yield f"transformers on {device.type}", generate(model.folder, pair, lines, device, prompt=prompt)
            return
        artefact, kind = _eight_bits(model, pair, output, tell)
    else:
        artefact, kind = Path(model.source), "as it is"
    with (
        contextlib.closing(open_engine(artefact, prompt=prompt)) as engine,
        contextlib.closing(translate(engine, pair, lines, exact=True)) as done,
    ):
        yield f"{engine.name}, {kind}", done


def _model_places(output: Path) -> tuple[Path, Path]:
    return output.with_name(f".{output.stem}-{GGUF_TYPE}.gguf"), output.with_name(f".{output.stem}-{ONNX_TYPE}")


def _eight_bits(checkpoint: Checkpoint, pair: Pair, output: Path, tell: Tell) -> tuple[Path, str]:
    """The model as a file that a processor runs fast, in the first format that holds it exactly; made once."""
    gguf, onnx = _model_places(output)
    able = formats_of(checkpoint)
    if able.gguf is None:
        if not gguf.exists():
            from export.gguf import export_gguf

            tell(f"writing the unpruned model as {GGUF_TYPE}, to translate with it")
            export_gguf(checkpoint.folder, gguf, GGUF_TYPE, "none", pair=pair)
        return gguf, GGUF_TYPE
    if not onnx.exists():
        from export.onnx import export_onnx

        tell(f"writing the unpruned model as ONNX {ONNX_TYPE}, to translate with it")
        export_onnx(checkpoint.folder, onnx, ONNX_TYPE)
    return onnx, ONNX_TYPE


def _remove_model(output: Path) -> None:
    gguf, onnx = _model_places(output)
    gguf.unlink(missing_ok=True)
    shutil.rmtree(onnx, ignore_errors=True)
    for beside in gguf.parent.glob(f"{gguf.name}*"):
        beside.unlink()
