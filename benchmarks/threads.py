"""Seconds of ``slimmoe translate`` with its default threads against each number of threads, on a quiet and a busy machine.

    python -m benchmarks.threads FILE.gguf DIR/onnx --pair en-de      prints a Markdown table

Each time is that of the whole command with ``--exact``, start and loading included, the fastest of some runs that take
turns. The busy machine is this one with two processes that do nothing but compute.
"""

import argparse
import contextlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.engines import open_engine
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.measure.speed import thread_counts
from runtime.text.pairs import parse_pair

DATA = Path(__file__).parents[1] / "runtime" / "text" / "data"
WORDS = 6  # of each short line
CASES = ((2000, False), (700, False), (700, True), (6, True), (6, False))  # lines, and whether others compute meanwhile
Setting = int | None  # threads; None: the default


def write_lines(file: Path, count: int, language: str) -> None:
    """Short lines, no two of them alike: the first words of our own segments and a number."""
    segments = [line for name in ("calibration", "dev", "test") for line in (DATA / f"{name}.{language}").open()]
    starts = [" ".join(segment.split()[:WORDS]) for segment in segments]
    file.write_text("".join(f"{starts[i % len(starts)]} {i}\n" for i in range(count)), encoding="utf-8")


def seconds(artefact: Path, pair: str, lines: Path, threads: Setting, limit: float) -> float:
    """Of one command; infinite where it takes longer than ``limit``."""
    command = [sys.executable, "-m", "slimmoe", "translate", str(artefact), "--pair", pair, "--exact"]
    command += ["--threads", str(threads)] if threads else []
    started = time.perf_counter()
    with lines.open() as source:
        try:
            subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return float("inf")
    return time.perf_counter() - started


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that compute all the time, until the block ends."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def measure(
    artefact: Path, pair: str, lines: Path, settings: Sequence[Setting], runs: int, limit: float
) -> list[float]:
    """The fastest of ``runs`` for each setting; those that run out of time are not tried again."""
    best = [float("inf")] * len(settings)
    for turn in range(runs):
        for i, threads in enumerate(settings):
            if turn == 0 or best[i] < limit:
                best[i] = min(best[i], seconds(artefact, pair, lines, threads, limit))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--pair", default="en-de")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a run is ended")
    parser.add_argument("--hogs", type=int, default=2)
    chosen = parser.parse_args()
    settings: list[Setting] = [None, *thread_counts(usable_cores())]
    titles = ["default", *(f"--threads {count}" for count in settings[1:]), "default / best"]
    print("| engine | lines | added load |", " | ".join(titles), "|")
    print("|---|---:|---|" + "---:|" * len(titles))
    engines, loads = [], []
    for artefact in chosen.artefacts:
        with contextlib.closing(open_engine(artefact, 1)) as engine:
            engines.append(engine.name)
        for count, is_busy in CASES:
            with tempfile.TemporaryDirectory() as folder:
                lines = Path(folder) / "lines.txt"
                write_lines(lines, count, parse_pair(chosen.pair).source)
                with busy(chosen.hogs if is_busy else 0), OtherLoad() as others:
                    found = measure(artefact, chosen.pair, lines, settings, chosen.runs, chosen.limit)
            loads += [] if is_busy else [others.share]
            cells = [f"> {chosen.limit:.0f}" if value > chosen.limit else f"{value:.1f}" for value in found]
            beside = f"{chosen.hogs} processes" if is_busy else "none"
            ratio = f"{found[0] / min(found[1:]):.2f}" if min(found) < chosen.limit else "-"
            print(f"| {engines[-1].split()[0]} | {count} | {beside} |", " | ".join([*cells, ratio]), "|", flush=True)
    versions = f"{', '.join(engines)}, Python {platform.python_version()}"
    print(f"\n{processor()}, {usable_cores()} cores, {versions}; seconds, the fastest of {chosen.runs}.", end=" ")
    print(f"Programs not ours used {max(loads):.0%} of the cores at most where no load was added.")


if __name__ == "__main__":
    main()
