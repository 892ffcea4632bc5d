"""Measure artefacts: each in a process of its own, so that its peak memory is its own.

``python -m runtime.bench ARTEFACT ...`` is that process: it prints one JSON object.
"""

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime import comet, speed
from runtime.artefact import describe, files_of
from runtime.corpus import read_segments
from runtime.engines import Generation, open_engine
from runtime.errors import WorkError
from runtime.memory import PeakMemory
from runtime.pairs import Pair, parse_pair
from runtime.translate import Translation, translate

SAMPLES = 8  # translations kept in the row, to be read


def file_size(artefact: Path) -> int:
    """Bytes of a GGUF file, of one graph with its data, or of an ONNX folder as one would ship it."""
    return sum(path.stat().st_size for path in files_of(artefact))


def processor() -> str:
    """The CPU's name, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def translate_all(
    artefact: Path, pair: Pair, test: Path | None, threads: int | None, segments: int | None
) -> dict[str, Any]:
    """Load and translate in this process, whose memory is watched from outside; see ``bench`` for what is added."""
    started = time.perf_counter()
    with contextlib.closing(open_engine(artefact, threads)) as engine:
        row: dict[str, Any] = {
            "engine": engine.name,
            "threads": engine.threads,
            "load_seconds": round(time.perf_counter() - started, 3),
        }
        engine.generate(speed.prompt_of(engine), speed.WRITE, stop=False)  # as much memory as any row's speed run takes
        if test is not None:
            sources = [source for source, _ in read_segments(test, pair)[:segments]]
            started = time.perf_counter()
            row["translations"] = [asdict(translation) for translation in translate(engine, pair, sources)]
            row["sentences_per_second"] = round(len(sources) / (time.perf_counter() - started), 2)
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


def _run(command: list[str], artefact: Path) -> tuple[dict[str, Any], PeakMemory]:
    """What a child process prints, and the memory it was seen with."""
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
    return json.loads(output.splitlines()[-1]), memory


def bench(
    artefact: Path, pair: Pair, test: Path | None = None, threads: int | None = None, segments: int | None = None
) -> dict[str, Any]:
    """Measure one artefact in child processes: one for quality and memory, then one for speed.

    Returns:
        one row of bench.jsonl: scores with signatures and every hypothesis (see ``assess_quality``), tokens/s, load
        time, file size and peak memory (bytes), and the machine, threads and versions they hold for.

    Raises:
        WorkError: a child failed; its last line says why.
    """
    if test is not None:
        comet.require()
    with_threads = [] if threads is None else ["--threads", str(threads)]
    command = [sys.executable, "-m", "runtime.bench", str(artefact), "--pair", str(pair), *with_threads]
    for flag, value in (("--test", test), ("--segments", segments)):
        command += [] if value is None else [flag, str(value)]
    told, memory = _run(command, artefact)
    timed, _ = _run(
        [sys.executable, "-m", "runtime.speed", str(artefact), "--pair", str(pair), *with_threads], artefact
    )
    translations = told.pop("translations", None)
    row = {
        "artefact": str(artefact),
        **describe(artefact),
        "pair": str(pair),
        "size_bytes": file_size(artefact),
        "peak_bytes": memory.peak.total,
        "peak_anonymous_bytes": memory.peak.anonymous,
        "peak_file_bytes": memory.peak.file,
        "major_faults": memory.major_faults,
        "memory_series": memory.series.rows(),
        "machine": processor(),
        "python": platform.python_version(),
        **told,
        **timed,
    }
    return row if test is None or translations is None else row | assess_quality(translations, pair, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--pair", type=parse_pair, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--segments", type=int)
    chosen = parser.parse_args()
    print(json.dumps(translate_all(chosen.artefact, chosen.pair, chosen.test, chosen.threads, chosen.segments)))
