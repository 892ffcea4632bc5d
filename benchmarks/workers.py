"""Tokens a second of many sentences by threads, workers and places of a batch, in turns.

    python -m benchmarks.workers FILE.gguf DIR [--sentences 32] [--tokens 24]

Each sentence is made to have as many tokens, whatever the model writes, so that one with random weights will do.
"""

import argparse
import contextlib
import platform
import time
from pathlib import Path

from benchmarks.threads import DATA
from runtime.engines import Request, open_engine
from runtime.engines.scheduler import Scheduler
from runtime.engines.threads import Threads
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.text.pairs import Pair, parse_pair


def speed(artefact: Path, pair: Pair, sentences: list[str], tokens: int, threads: Threads, places: int) -> float:
    """Tokens a second, loading left out."""
    with contextlib.closing(open_engine(artefact, threads.count)) as engine:
        engine.thread_choice = threads
        prompts = [engine.encode(engine.template.prompt(pair, sentence)) for sentence in sentences]
        with contextlib.closing(Scheduler(engine, places=places)) as scheduler:
            started = time.perf_counter()
            futures = [scheduler.submit(Request(prompt, tokens, stop=False)) for prompt in prompts]
            written = sum(len(future.result().token_ids) for future in futures)
            return written / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--runs", type=int, default=2)
    chosen = parser.parse_args()
    cores, places = usable_cores(), (1, 16)
    ways = [Threads(1, 1, ""), Threads(cores, 1, ""), Threads(1, cores, "")]
    sentences = (DATA / f"test.{chosen.pair.source}").read_text(encoding="utf-8").splitlines()[: chosen.sentences]
    print("| model | threads | one at a time in each worker | batches |\n|---|---|---:|---:|")
    with OtherLoad() as others:
        for artefact in chosen.artefacts:
            found: dict[tuple[str, int], float] = {}
            for _ in range(chosen.runs):
                for way in ways:
                    for each in places:
                        measured = speed(artefact, chosen.pair, sentences, chosen.tokens, way, each)
                        found[str(way), each] = max(measured, found.get((str(way), each), 0.0))
            for way in ways:
                cells = [f"{found[str(way), each]:.0f}" for each in places]
                print("|", " | ".join([artefact.name, str(way), *cells]), "|", flush=True)
    print(f"\n{processor()}, {cores} cores, Python {platform.python_version()}; the fastest of {chosen.runs}.")
    print(f"Programs not ours used {others.share:.0%} of the cores.")


if __name__ == "__main__":
    main()
