"""Measure artefacts: each in a process of its own, so that its peak memory is its own.

``python -m runtime.measure.bench ARTEFACT ...`` is that process: it prints one JSON object.
"""

import argparse
import contextlib
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.engines import Generation, Offload, open_engine
from runtime.errors import SlimmoeError, WorkError
from runtime.formats.artefact import describe, files_of
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.measure import comet, speed
from runtime.measure.memory_limit import Outcome, run
from runtime.measure.rows import FORMAT, Row
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.translate.segments import Translation, translate

SAMPLES = 8  # translations kept in the row, to be read
BUSY = 0.25  # of the cores in use by others, above which a row's speeds come with a warning


def file_size(artefact: Path) -> int:
    """Bytes of a GGUF file, of one graph with its data, or of an ONNX folder as one would ship it."""
    return sum(path.stat().st_size for path in files_of(artefact))


def translate_all(
    artefact: Path,
    pair: Pair,
    test: Path | None,
    threads: int,
    segments: int | None,
    prompt: PromptTemplate | None = None,
    offload: Offload | None = None,
) -> dict[str, Any]:
    """Load and translate in this process, whose memory is watched from outside; see ``bench`` for what is added."""
    started = time.perf_counter()
    with contextlib.closing(open_engine(artefact, threads, prompt=prompt, offload=offload)) as engine:
        row: dict[str, Any] = {
            "engine": engine.name,
            "threads": engine.threads,
            "prompt": engine.template.asking.to_dict(),
            "load_seconds": round(time.perf_counter() - started, 3),
            **engine.buffers,
            **engine.on_device,
        }
        engine.generate(speed.prompt_of(engine), speed.WRITE, stop=False)  # as much memory as any row's speed run takes
        if test is not None:
            sources = [source for source, _ in read_segments(test, pair)[:segments]]
            started = time.perf_counter()
            row["translations"] = [asdict(translation) for translation in translate(engine, pair, sources, exact=True)]
            row["sentences_per_second"] = round(len(sources) / (time.perf_counter() - started), 2)
    return row


def assess_quality(told: list[dict[str, Any]], pair: Pair, test: Path) -> dict[str, Any]:
    """A row's quality, scored outside the measured process: scorers have models and memory of their own.

    ``hypotheses`` and ``references`` are lists of all segments; ``runtime.measure.compare.keep_hypotheses`` stores them.
    """
    from runtime.measure.evaluate import assess  # sacrebleu: only where there is a test set

    translations = [
        Translation(one["source"], one["text"], one["generation"] and Generation(**one["generation"]), one["refused"])
        for one in told
    ]
    references = [target for _, target in read_segments(test, pair)[: len(told)]]
    result = assess(translations, references, pair)
    texts = zip([one["source"] for one in told], references, result.hypotheses)
    scores = {key: value for key, value in asdict(result).items() if value is not None}
    scores["tokens_per_second"] = round(result.tokens_per_second, 1)
    return {"samples": list(texts)[:SAMPLES], "test": str(test)} | scores


def child(module: str, artefact: Path, pair: Pair | str, **options: object) -> list[str]:
    """The command of a process that measures an artefact; options that are None are left out."""
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", module, str(artefact), "--pair", str(pair), *given]


def parse_child_output(outcome: Outcome, artefact: Path) -> dict[str, Any]:
    """What a child process printed.

    Raises:
        WorkError: it failed; its last line says why.
    """
    if outcome.status:
        lines = outcome.errors.strip().splitlines() or [f"ended with status {outcome.status}"]
        raise WorkError(f"Measuring {artefact} failed: {lines[-1]}")
    return json.loads(outcome.output.splitlines()[-1])


def bench(
    artefact: Path,
    pair: Pair,
    test: Path | None = None,
    threads: int | None = None,
    segments: int | None = None,
    reference: bool = True,
    prompt: PromptTemplate | None = None,
    offload: Offload | None = None,
) -> Row:
    """Measure one artefact in child processes: one for quality and memory, then one for speed.

    Args:
        threads: default: all cores that this process may use, whatever else they do: numbers of two runs compare.
        reference: also time fewer threads, loading, and llama-bench (see ``runtime.measure.speed``).
        prompt: how the model is asked; default: as the artefact says.
        offload: what goes to a device; default: as ``open_engine`` chooses.

    Returns:
        one row of bench.jsonl: scores with signatures and every hypothesis (see ``assess_quality``), tokens/s, load
        time, file size, memory over time and its parts (bytes), the machine, threads and versions they hold for, and
        ``other_load``, the share of the cores that other processes kept busy meanwhile (0 to 1).

    Raises:
        RequestError: there is no such artefact.
        WorkError: it is damaged, or a child failed; its last line says why.
    """
    about = describe(artefact)
    if test is not None:
        comet.require()
    threads = threads or usable_cores()
    placed = json.dumps(offload.to_dict()) if offload else None
    timing = child("runtime.measure.speed", artefact, pair, threads=threads, offload=placed) + (
        [] if reference else ["--alone"]
    )
    with OtherLoad() as others:
        options = {"threads": threads, "test": test, "segments": segments}
        asked = json.dumps(prompt.to_dict()) if prompt else None
        translated = run(child("runtime.measure.bench", artefact, pair, **options, prompt=asked, offload=placed))
        told = parse_child_output(translated, artefact)
        timed = parse_child_output(run(timing), artefact)
    translations = told.pop("translations", None)
    row: Any = {
        "format": FORMAT,
        "artefact": str(artefact),
        **about,
        "pair": str(pair),
        "size_bytes": file_size(artefact),
        **translated.memory.row(),
        "machine": processor(),
        "python": platform.python_version(),
        **told,
        **timed,
        "other_load": round(others.share, 2),
    }
    return row if test is None or translations is None else row | assess_quality(translations, pair, test)


def busy_note(rows: Sequence[Row]) -> str | None:
    """A sentence where other processes were busy while rows were measured."""
    load = max((row.get("other_load") or 0 for row in rows), default=0)
    if load <= BUSY:
        return None
    return f"speeds were measured on a busy machine (other processes used up to {load:.0%} of its cores)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--pair", type=parse_pair, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--segments", type=int)
    parser.add_argument("--prompt", type=lambda text: PromptTemplate.from_dict(json.loads(text)))
    parser.add_argument("--offload", type=Offload.from_json)
    chosen = parser.parse_args()
    try:
        print(json.dumps(translate_all(**vars(chosen))))
    except SlimmoeError as failure:
        sys.exit(failure.sentence)
