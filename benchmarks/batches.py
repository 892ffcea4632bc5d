"""Seconds that a document of many sentences takes in batches, against one sentence at a time, on a quiet and a busy machine.

    python -m benchmarks.batches FILE.gguf DIR --pair en-de      prints a Markdown table

The ways take turns in one run, and of each the fastest time counts. Loading is left out, reading and writing of the document
is not. A translation differs where it is another than that of its sentence alone.
"""

import argparse
import contextlib
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from benchmarks.threads import DATA, busy
from runtime.engines import open_engine
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.files import Job, translate_documents
from runtime.translate.paragraphs import ParagraphTranslator, room
from runtime.translate.segments import translate


@dataclass
class Way:
    """A way to translate a document, and what was measured of it."""

    name: str
    exact: bool
    alone: bool = False  # one thread for the whole document; else as many workers of one thread as there are cores
    hogs: int = 0  # other processes that compute meanwhile; the engine then chooses its threads
    choice: str = ""  # of threads, in the last run
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def write_document(file: Path, count: int, language: str) -> None:
    """A paragraph for each sentence: those of our own sets, again and again with a number behind them."""
    sentences = [
        line.strip() for name in ("test", "dev", "calibration") for line in (DATA / f"{name}.{language}").open()
    ]
    texts = [
        text if number < len(sentences) else f"{text} {number}"
        for number, text in enumerate(islice(cycle(sentences), count))
    ]
    file.write_text("".join(f"{text}\n\n" for text in texts), encoding="utf-8")


def run(way: Way, artefact: Path, pair: Pair, document: Path) -> None:
    """Translate the document once, and note what it took."""
    target = document.with_suffix(".out.txt")
    with busy(way.hogs), contextlib.closing(open_engine(artefact, 1 if way.alone else None)) as engine:
        if engine.threads == 1 and not way.alone and not way.hogs:  # what is free for a moment shall not decide
            engine.thread_choice = replace(engine.thread_choice, workers=usable_cores())

        way.choice = str(engine.thread_choice)
        translated = partial(translate, engine, pair, exact=way.exact)
        translator = ParagraphTranslator(translated, pair.source, room(engine, pair))
        started, used = time.perf_counter(), time.process_time()
        list(translate_documents([Job(document, target)], pair, translator, lambda *_: None))
        way.seconds.append(time.perf_counter() - started)
        way.cpu.append(time.process_time() - used)
    way.lines = target.read_text(encoding="utf-8").splitlines()
    target.unlink()


def measure(ways: Sequence[Way], artefact: Path, pair: Pair, count: int, runs: int) -> None:
    """All ways by turns."""
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "document.txt"
        write_document(document, count, pair.source)
        for _ in range(runs):
            for way in ways:
                run(way, artefact, pair, document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--hogs", type=int, default=0, help="also beside so many processes that compute")
    chosen = parser.parse_args()
    print(
        "| model | way | threads | seconds | CPU ms a sentence | / one at a time | / --exact | translations that differ |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|")
    with OtherLoad() as others:
        for artefact in chosen.artefacts:
            ways = [
                Way("one at a time", True, alone=True),
                Way("one in each worker (--exact)", True),
                Way("batches (default)", False),
                *(
                    [Way(f"batches, beside {chosen.hogs} busy processes", False, hogs=chosen.hogs)]
                    if chosen.hogs
                    else []
                ),
            ]
            measure(ways, artefact, chosen.pair, chosen.sentences, chosen.runs)
            one, exact = ways[:2]
            for way in ways:
                best = min(way.seconds)
                differ = sum(a != b for a, b in zip(way.lines, one.lines, strict=True))
                cells = [
                    artefact.name,
                    way.name,
                    way.choice,
                    f"{best:.1f}",
                    f"{1000 * min(way.cpu) / chosen.sentences:.1f}",
                ]
                cells += [f"{min(other.seconds) / best:.2f}" for other in (one, exact)]
                print("|", " | ".join([*cells, f"{differ} of {chosen.sentences}"]), "|", flush=True)
    print(f"\n{processor()}, {usable_cores()} cores, Python {platform.python_version()}; the fastest of {chosen.runs}.")
    print(f"Programs not ours used {others.share:.0%} of the cores.")


if __name__ == "__main__":
    main()
