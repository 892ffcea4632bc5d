"""Speed of an artefact in a process of its own: ``python -m runtime.measure.speed ARTEFACT --pair en-de`` prints JSON."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.engines import Engine, Generation, Offload, open_engine
from runtime.errors import SlimmoeError
from runtime.formats.artefact import files_of
from runtime.llama_paths import library_folder
from runtime.machine import usable_cores
from runtime.measure.memory_limit import drop_cache
from runtime.processes import ends_with_us
from runtime.text.pairs import Pair, parse_pair

PROMPT, WRITE = 128, 64  # tokens in, tokens out
REPEATS = 5  # at least so many and so long; the fastest counts: what else runs can only slow one down
SECONDS = float(os.environ.get("SLIMMOE_SPEED_SECONDS", "3"))  # tests, which judge no speeds, set 0
TURN = 3  # repeats of llama-bench and of our own loop by turns, for at least so many seconds and turns
TURN_SECONDS, TURNS = 4 * SECONDS, 4
_SENTENCE = "The file could not be opened."


def _llama_bench_path() -> Path:
    """Of the library in use, which another one's would not compare with."""
    return library_folder() / "llama-bench"


def thread_counts(most: int) -> list[int]:
    """``most`` threads, and the powers of two below."""
    return [*(1 << i for i in range(most.bit_length()) if 1 << i < most), most]


def prompt_of(engine: Engine) -> list[int]:
    """128 token ids of ordinary text."""
    ids = engine.encode(_SENTENCE)
    return (ids * (PROMPT // max(len(ids), 1) + 1))[:PROMPT]


def measure_speed(engine: Engine, pair: Pair) -> dict[str, Any]:
    """Speed with the engine's threads, one sequence at a time.

    Returns:
        ``threads``; of at least five repeats and three seconds the fastest ``prefill_tokens_per_second`` (128 tokens, empty
        cache), ``decode_tokens_per_second`` (the 64 tokens after them) and ``first_token_seconds`` (from a sentence as
        text to the first token of its translation); ``scatter``, the distance of each from its slowest as a share of the
        median.
    """
    prompt, text = prompt_of(engine), engine.template.prompt(pair, _SENTENCE)
    engine.generate(prompt, WRITE, stop=False)  # a first one finds caches cold
    prefill: list[float] = []
    decode: list[float] = []
    first: list[float] = []
    began = time.monotonic()
    while len(first) < REPEATS or time.monotonic() - began < SECONDS:
        run = engine.generate(prompt, WRITE, stop=False)
        prefill.append(PROMPT / run.prefill_seconds)
        decode.append(WRITE / run.decode_seconds)
        started = time.perf_counter()
        engine.generate(engine.encode(text), 0)
        first.append(time.perf_counter() - started)
    names = ("prefill_tokens_per_second", "decode_tokens_per_second", "first_token_seconds")
    spread = [(max(values) - min(values)) / statistics.median(values) for values in (prefill, decode, first)]
    return {
        "threads": engine.threads,
        **dict(zip(names, (round(max(prefill), 1), round(max(decode), 1), round(min(first), 4)))),
        "scatter": dict(zip(names, (round(value, 3) for value in spread))),
    }


def load_seconds(artefact: Path, threads: int, offload: Offload | None = None) -> dict[str, float]:
    """Seconds to load with the file out of the page cache, and with it there; the engine's library is loaded already."""
    drop_cache(files_of(artefact))
    found = {}
    for name in ("load_cold_seconds", "load_warm_seconds"):
        started = time.perf_counter()
        open_engine(artefact, threads, offload=offload).close()
        found[name] = round(time.perf_counter() - started, 3)
    return found


def llama_bench(artefact: Path, engine: Engine) -> dict[str, float]:
    """Tokens/s of the fastest repeat by llama-bench of the same build, on the same file, threads, device and lengths."""
    place = engine.on_device
    on_device = ["-dev", place["device"], "-ngl", str(place["gpu_layers"])] if place else []
    on_device += ["-ncmoe", str(place["layers"] - place["gpu_layers"] + place["cpu_experts"])] if place else []

    def run(*lengths: str) -> float:
        first = files_of(artefact)[0]
        command = [
            str(_llama_bench_path()),
            "-m",
            str(first),
            *on_device,
            "-t",
            str(engine.threads),
            "-r",
            str(TURN),
            "-o",
            "jsonl",
        ]
        done = subprocess.run([*command, *lengths], capture_output=True, text=True, check=True, **ends_with_us())
        return max(json.loads(done.stdout.splitlines()[0])["samples_ts"])

    return {
        "prefill_tokens_per_second": run("-p", str(PROMPT), "-n", "0"),
        "decode_tokens_per_second": run("-p", "0", "-n", str(WRITE), "-d", str(PROMPT)),
    }


def against_llama_bench(engine: Engine, artefact: Path) -> dict[str, float]:
    """llama-bench and our own loop by turns, and of each the fastest repeat of all: what else runs can only slow one down.

    Medians would compare how busy the machine was: where its speed changes by a half from one second to the next, those
    of five turns lay 20 % apart for the same file.

    Returns:
        llama-bench's tokens/s, and ``prefill_share`` and ``decode_share``: our tokens/s over its own.
    """
    prompt = prompt_of(engine)
    theirs: list[dict[str, float]] = []
    runs: list[Generation] = []
    started = time.monotonic()
    while len(theirs) < TURNS or time.monotonic() - started < TURN_SECONDS:
        runs += [engine.generate(prompt, WRITE, stop=False) for _ in range(TURN)]
        theirs.append(llama_bench(artefact, engine))
    best = {name: max(told[name] for told in theirs) for name in theirs[0]}
    ours = {
        "prefill_share": PROMPT / min(run.prefill_seconds for run in runs),
        "decode_share": WRITE / min(run.decode_seconds for run in runs),
    }
    shares = {name: value / best[name.replace("share", "tokens_per_second")] for name, value in ours.items()}
    return {name: round(value, 3) for name, value in (best | shares).items()}


def measure(
    artefact: Path, pair: Pair, threads: Sequence[int], reference: bool = True, offload: Offload | None = None
) -> dict[str, Any]:
    """Speed by number of threads; the last one's is the row's own.

    Args:
        reference: also run llama-bench, of a GGUF file where set-up built it, and take the times of loading.
    """
    row: dict[str, Any] = {"speed": []}
    for count in threads:
        with contextlib.closing(open_engine(artefact, count, offload=offload)) as engine:
            row["speed"].append(measure_speed(engine, pair))
            comparable = artefact.suffix == ".gguf" and engine.on_device.get("backend") != "RPC"
            if reference and count == threads[-1] and comparable and _llama_bench_path().exists():
                row["llama_bench"] = against_llama_bench(engine, artefact)
    own = row["speed"][-1]
    row |= {name: own[name] for name in ("prefill_tokens_per_second", "decode_tokens_per_second", "scatter")}
    return row | (load_seconds(artefact, threads[-1], offload) if reference else {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--pair", type=parse_pair, required=True)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="and fewer")
    parser.add_argument("--alone", action="store_true", help="with these threads only, and nothing beside")
    parser.add_argument("--offload", type=Offload.from_json)
    chosen = parser.parse_args()
    counts = [chosen.threads] if chosen.alone else thread_counts(chosen.threads)
    try:
        print(json.dumps(measure(chosen.artefact, chosen.pair, counts, not chosen.alone, chosen.offload)))
    except SlimmoeError as failure:
        sys.exit(failure.sentence)
