"""Measure artefacts: each in a process of its own, so that its peak memory is its own.

``python -m runtime.bench ARTEFACT ...`` is that process: it prints one JSON object.
"""

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime import comet
from runtime.artefact import describe
from runtime.corpus import read_segments
from runtime.engines import Engine, Generation, open_engine
from runtime.errors import WorkError
from runtime.memory import PeakMemory
from runtime.pairs import Pair, parse_pair
from runtime.translate import Translation, translate

SAMPLES = 8  # translations kept in the row, to be read
PROMPT, WRITE, REPEATS = 128, 64, 5  # tokens in, tokens out, and how often: the median counts


def file_size(artefact: Path) -> int:
    """Bytes of a GGUF file, or of an ONNX folder as one would ship it."""
    if artefact.is_file():
        return artefact.stat().st_size
    return sum(path.stat().st_size for path in artefact.rglob("*") if path.is_file())


def processor() -> str:
    """The CPU's name, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def measure_speed(engine: Engine, text: str) -> dict[str, float]:
    """Median tokens/s of prefill (128 tokens) and decode (64 tokens) from an empty cache."""
    ids = engine.encode(text)
    prompt = (ids * (PROMPT // max(len(ids), 1) + 1))[:PROMPT]
    prefill, decode = [], []
    for _ in range(REPEATS):
        run = engine.generate(prompt, WRITE, stop=False)
        prefill.append(PROMPT / run.prefill_seconds)
        decode.append(WRITE / run.decode_seconds)
    return {
        "prefill_tokens_per_second": round(statistics.median(prefill), 1),
        "decode_tokens_per_second": round(statistics.median(decode), 1),
    }


def measure(artefact: Path, pair: Pair, test: Path | None, threads: int | None, segments: int | None) -> dict[str, Any]:
    """Load, warm up and measure in this process; see ``bench`` for what is added around it."""
    started = time.perf_counter()
    with contextlib.closing(open_engine(artefact, threads)) as engine:
        loaded = time.perf_counter() - started
        row: dict[str, Any] = {
            "engine": engine.name,
            "threads": engine.threads,
            "load_seconds": round(loaded, 3),
        }
        warm_up = engine.template.prompt(pair, "The file could not be opened.")
        engine.generate(engine.encode(warm_up), 16)
        if test is not None:
            sources = [source for source, _ in read_segments(test, pair)[:segments]]
            row["translations"] = [asdict(translation) for translation in translate(engine, pair, sources)]
        row |= measure_speed(engine, warm_up)
    return row


def assess_quality(told: list[dict[str, Any]], pair: Pair, test: Path) -> dict[str, Any]:
    """A row's quality, scored outside the measured process: scorers have models and memory of their own.

    ``hypotheses`` and ``references`` are lists of all segments; ``runtime.compare.keep_hypotheses`` stores them.
    """
    from runtime.evaluate import assess  # sacrebleu: only where there is a test set

    translations = [
        Translation(one["source"], one["text"], one["generation"] and Generation(**one["generation"])) for one in told
    ]
    references = [target for _, target in read_segments(test, pair)[: len(told)]]
    result = assess(translations, references, pair)
    texts = zip([one["source"] for one in told], references, result.hypotheses)
    scores = {key: value for key, value in asdict(result).items() if value is not None}
    speed = round(result.tokens_per_second, 1)
    return {"samples": list(texts)[:SAMPLES], "test": str(test)} | scores | {"tokens_per_second": speed}


def bench(
    artefact: Path, pair: Pair, test: Path | None = None, threads: int | None = None, segments: int | None = None
) -> dict[str, Any]:
    """Measure one artefact in a child process.

    Returns:
        one row of bench.jsonl: scores with signatures and every hypothesis (see ``assess_quality``), tokens/s, load
        time, file size and peak memory (bytes), and the machine, threads and versions they hold for.

    Raises:
        WorkError: the child failed; its last line says why.
    """
    if test is not None:
        comet.require()
    command = [sys.executable, "-m", "runtime.bench", str(artefact), "--pair", str(pair)]
    for flag, value in (("--test", test), ("--threads", threads), ("--segments", segments)):
        command += [] if value is None else [flag, str(value)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with PeakMemory(child.pid) as memory:
            output, errors = child.communicate()
    except BaseException:
        child.kill()
        raise
    if child.returncode:
        lines = errors.strip().splitlines() or [f"ended with status {child.returncode}"]
        raise WorkError(f"Measuring {artefact} failed: {lines[-1]}")
    row = {
        "artefact": str(artefact),
        **describe(artefact),
        "pair": str(pair),
        "size_bytes": file_size(artefact),
        "peak_bytes": memory.peak.total,
        "peak_anonymous_bytes": memory.peak.anonymous,
        "machine": processor(),
        "python": platform.python_version(),
        **json.loads(output.splitlines()[-1]),
    }
    told = row.pop("translations", None)
    return row if test is None or told is None else row | assess_quality(told, pair, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--pair", type=parse_pair, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--segments", type=int)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.artefact, chosen.pair, chosen.test, chosen.threads, chosen.segments)))
