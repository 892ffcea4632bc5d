"""Mutates GGUF files of tiny models and cuts each: whatever a file holds, the answer is a cut file or one sentence.

    python -m benchmarks.fuzz_gguf --minutes 5 [--seed 0]
    python -m benchmarks.fuzz_gguf --minutes 5 model.gguf ...      starts from these files' headers too

A finding is any exception but SlimmoeError, more than 200 MB of memory above the start, or more than 5 seconds for a
file; the first ends the run, prints its traceback, and its file is kept as fuzz-finding.gguf. Half of the mutations know
the format and put unlikely numbers where counts, lengths, types and offsets are; the others change bytes.
"""

import argparse
import contextlib
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.fit import fit
from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from runtime.errors import SlimmoeError
from runtime.formats.gguf_file import GgufFile
from tests.gguf_files import write_moe

MEMORY, SECONDS = 200_000_000, 5
MOST_DATA = 1 << 26  # bytes to which a file is lengthened, sparsely, so that its tensors fit
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of GGUF's numbers, by type
UNLIKELY = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    16,
    31,
    32,
    33,
    48,
    255,
    256,
    2**15,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
]
UNLIKELY += [2**40, 2**47, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 32]


def fields(data: bytes) -> Iterator[tuple[int, int]]:
    """Position and width of each number by which the rest is read, and of each value. ``data`` must be well-formed."""

    def number(at: int, width: int) -> int:
        return int.from_bytes(data[at : at + width], "little")

    yield from ((4, 4), (8, 8), (16, 8))  # version, number of tensors and of keys
    at = 24
    for _ in range(number(16, 8)):
        yield at, 8  # length of the key
        at += 8 + number(at, 8)
        yield at, 4  # type
        kind, count, at = number(at, 4), 1, at + 4
        if kind == 9:
            yield from ((at, 4), (at + 4, 8))  # type and number of elements
            kind, count, at = number(at, 4), number(at + 4, 8), at + 12
        for _ in range(count):
            yield at, _WIDTH.get(kind, 8)
            at += 8 + number(at, 8) if kind == 8 else _WIDTH[kind]
    for _ in range(number(8, 8)):
        yield at, 8  # length of the name
        at += 8 + number(at, 8)
        axes = number(at, 4)
        yield at, 4
        yield from ((at + 4 + 8 * i, 8) for i in range(axes))
        at += 4 + 8 * axes
        yield from ((at, 4), (at + 4, 8))  # type and offset
        at += 12


def shortened(path: Path) -> bytes:
    """The header of a file with its long arrays (the vocabulary) cut to three elements, so that mutations hit the rest."""
    file = GgufFile(path)
    if path.stat().st_size > MOST_DATA:
        raise SystemExit(f"{path} is larger than {MOST_DATA >> 20} MiB; give a tiny model.")
    data = path.read_bytes()
    short, at = bytearray(data[:24]), 24
    for value in file.metadata.values():
        if value.count is None or value.count <= 8:
            short += data[value.entry : value.stop]
        else:
            stop = value.start
            for _ in range(3):
                stop += 8 + int.from_bytes(data[stop : stop + 8], "little") if value.type == 8 else _WIDTH[value.type]
            short += data[value.entry : value.start - 8] + (3).to_bytes(8, "little") + data[value.start : stop]
        at = value.stop
    end = min(tensor.start for tensor in file.tensors.values())
    return bytes(short) + data[at:end]


def mutate(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    changed = bytearray(data)
    places = [*fields(data)]
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        way = draw.randrange(8)
        if way < 4:
            at, width = draw.choice(places)
            value = draw.choice(
                (
                    draw.choice(UNLIKELY),
                    draw.getrandbits(64),
                    int.from_bytes(data[at : at + width], "little") + draw.choice((-1, 1)),
                )
            )
            changed[at : at + width] = (value % 256**width).to_bytes(width, "little")
        elif way == 4:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        elif way == 5:
            at = draw.randrange(len(changed))
            changed[at : at + draw.randrange(1, 64)] = draw.randbytes(draw.randrange(0, 64)) or b"\0"
        elif way == 6:  # a piece of another file, or of this one again
            other = draw.choice(others)
            start = draw.randrange(len(other))
            at = draw.randrange(len(changed))
            changed[at:at] = other[start : start + draw.randrange(1, 400)]
        else:
            del changed[draw.randrange(min(4, len(changed)), len(changed) + 1) :]
            changed = changed or bytearray(b"GGUF")
    return bytes(changed)


def use(path: Path, work: Path) -> str:
    """Everything that slimmoe does with a GGUF file of unknown origin; returns how it ended."""
    try:
        file = GgufFile(path)
        for key in file.metadata:
            with contextlib.suppress(SlimmoeError):
                file.get(key)
        model = GgufModel(path)
        with contextlib.suppress(SlimmoeError):
            fit(model, 1 << 33, vram=3 << 29)
        layers = [Layer(layer, n, [*range(0, n, 2)]) for layer, n in model.moe_layers.items()]
        top_k = min(model.top_k, *(len(layer.keep) for layer in layers)) if layers else 1
        plan = Plan("fuzz", model.fingerprint, "en-de", "gate", "uniform", 0.5, 0, top_k, layers)
        cut = prune(path, plan, work / "cut.gguf")
        GgufModel(cut)
    except SlimmoeError:
        return "refused"
    return "cut"


@contextlib.contextmanager
def limits(memory: int = MEMORY, seconds: float = SECONDS) -> Iterator[None]:
    """Within it, so much more memory is a MemoryError; an alarm, which is set for each file, a TimeoutError."""
    used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + memory, resource.RLIM_INFINITY))

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    signal.signal(signal.SIGALRM, late)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.alarm(0)


def corpus(files: list[Path], folder: Path) -> list[bytes]:
    """Headers to start from: those given, and small ones with each feature that the reader and the cut know."""
    bias = {f"blk.{layer}.exp_probs_b.bias": np.zeros(8, np.float32) for layer in (0, 1, 2)}
    features = [
        ({}, {}),
        ({"tiny.expert_gating_func": 2}, bias),
        ({"tiny.expert_group_count": 2, "tiny.expert_group_used_count": 1, "tiny.expert_used_count": [2, 3, 2]}, bias),
        ({"tiny.nextn_predict_layers": 1}, {}),
        ({"general.alignment": 64}, {"blk.0.ffn_up_exps.scale": np.zeros(8, np.float32)}),
    ]
    made = [write_moe(folder / f"{i}.gguf", *each, layers=3) for i, each in enumerate(features)]
    return [shortened(path) for path in [*made, *files]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # thousands of cuts whose chat template allows no Modelfile
    draw, ends, slowest = random.Random(options.seed), Counter(), 0.0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # fsync costs nothing there
    with tempfile.TemporaryDirectory(dir=memory) as work, limits():
        seeds = corpus(options.files, Path(work))
        path, until = Path(work) / "fuzz.gguf", time.monotonic() + 60 * options.minutes
        for seed in seeds:  # untouched, each is cut
            path.write_bytes(seed)
            with path.open("r+b") as file:
                file.truncate(MOST_DATA)
            assert use(path, Path(work)) == "cut"
        while time.monotonic() < until:
            path.write_bytes(mutate(draw.choice(seeds), seeds, draw))
            if draw.random() < 0.9:
                with path.open("r+b") as file:
                    file.truncate(MOST_DATA)
            started = time.monotonic()
            signal.alarm(SECONDS)
            try:
                ends[use(path, Path(work))] += 1
            except BaseException:
                traceback.print_exc()
                shutil.copyfile(path, "fuzz-finding.gguf")
                sys.exit(f"execution {ends.total()} with seed {options.seed}: see fuzz-finding.gguf")
            signal.alarm(0)
            slowest = max(slowest, time.monotonic() - started)
    print(
        f"{ends.total()} executions, seed {options.seed}, {len(seeds)} files: {dict(ends)}, slowest {slowest:.2f} s, no finding"
    )


if __name__ == "__main__":
    main()
