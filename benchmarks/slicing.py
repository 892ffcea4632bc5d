"""Cutting a GGUF file against copying as many bytes: seconds and peak memory on a synthetic Q8_0 MoE, in one run.

    python -m benchmarks.slicing --gigabytes 4.3              cuts 50 % and 75 %, from the disk and from the page cache

Writes the file to --folder (a temporary one by default), measures each way in processes of its own, interleaved, deletes
everything, and prints one JSON object. Both ways end with fsync; imports are not counted, whole processes are told apart.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFValueType

from benchmarks import work_folder
from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_writer import encode, encode_tensor

ROOT = Path(__file__).parents[1]
HIDDEN, INTERMEDIATE, EXPERTS, TOP_K, VOCABULARY = 1024, 512, 64, 8, 32000
Q8_0, F32 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32
_ROW = 34 / 32  # bytes per weight of Q8_0

CUT = """
from prune.plan.plan import Plan
from prune.rewrite import prune
plan = Plan.load(sys.argv[2])
def work(): prune(sys.argv[1], plan, sys.argv[3])
"""
COPY = """
from runtime.formats.copying import copy_range
def work():
    with open(sys.argv[1], "rb", buffering=0) as source, open(sys.argv[3], "wb", buffering=0) as target:
        copy_range(source, target, 0, int(sys.argv[2]))
        os.fsync(target.fileno())
"""
TIMED = """
started, used = time.perf_counter(), time.process_time()
work()
print(time.perf_counter() - started, time.process_time() - used)
"""


def write_model(path: Path, gigabytes: float) -> int:
    """A file of about this size with random weights; returns its bytes."""
    expert = {"gate": (INTERMEDIATE, HIDDEN), "up": (INTERMEDIATE, HIDDEN), "down": (HIDDEN, INTERMEDIATE)}
    layers = max(1, round(gigabytes * 1e9 / (3 * EXPERTS * HIDDEN * INTERMEDIATE * _ROW)))
    tensors: list[tuple[str, tuple[int, ...], GGMLQuantizationType]] = [
        ("token_embd.weight", (VOCABULARY, HIDDEN), Q8_0)
    ]
    for layer in range(layers):
        at = f"blk.{layer}."
        tensors += [(at + f"attn_{name}.weight", (HIDDEN, HIDDEN), Q8_0) for name in ("q", "k", "v", "output")]
        tensors += [(at + f"{name}_norm.weight", (HIDDEN,), F32) for name in ("attn", "ffn")]
        tensors.append((at + "ffn_gate_inp.weight", (EXPERTS, HIDDEN), F32))
        tensors += [(at + f"ffn_{name}_exps.weight", (EXPERTS, *shape), Q8_0) for name, shape in expert.items()]
    keys = {"general.architecture": "qwen3moe", "qwen3moe.block_count": layers}
    keys |= {"qwen3moe.expert_count": EXPERTS, "qwen3moe.expert_used_count": TOP_K}
    entries = [encode(key, value) for key, value in keys.items()]
    words = b"".join(struct.pack("<Q6s", 6, b"%06d" % i) for i in range(VOCABULARY))
    key = b"tokenizer.ggml.tokens"
    kind = struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, VOCABULARY)
    entries.append(struct.pack("<Q", len(key)) + key + kind + words)
    sizes = [int(math.prod(shape) * (_ROW if kind == Q8_0 else 4)) for _, shape, kind in tensors]
    noise = os.urandom(1 << 24)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries))
        offset = 0
        for (tensor, shape, kind), size in zip(tensors, sizes, strict=True):
            file.write(encode_tensor(tensor, shape, kind, offset))
            offset += -(-size // 32) * 32
        file.write(bytes(-file.tell() % 32))
        for size in sizes:
            for start in range(0, size, len(noise)):
                file.write(noise[: min(len(noise), size - start)])
            file.write(bytes(-file.tell() % 32))
        file.flush()
        os.fsync(file.fileno())
    GgufFile(path)
    return path.stat().st_size


def write_plan(model: GgufModel, ratio: float, path: Path) -> None:
    """Experts that stay are scattered, as they are in plans."""
    draw, count = random.Random(0), round(EXPERTS * (1 - ratio))
    layers = [Layer(i, n, sorted(draw.sample(range(n), count))) for i, n in model.moe_layers.items()]
    top_k = min(TOP_K, count)
    Plan("synthetic", model.fingerprint, "en-de", "random", "uniform", ratio, 0, top_k, layers).save(path)


def drop_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(code: str, source: Path, argument: str, output: Path, cold: bool) -> dict[str, float]:
    """Seconds of the work and of the whole process, and the most anonymous memory it was seen with."""
    if cold:
        drop_cache(source)
    else:
        with source.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass
    command = [sys.executable, "-c", "import os, sys, time\n" + code + TIMED, str(source), argument, str(output)]
    started, anonymous = time.perf_counter(), 0
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status")
        for line in status.read_text().splitlines() if status.exists() else []:
            if line.startswith("RssAnon"):
                anonymous = max(anonymous, int(line.split()[1]) << 10)
        time.sleep(0.01)
    process = time.perf_counter() - started
    assert child.stdout and child.returncode == 0
    seconds, cpu = map(float, child.stdout.read().split())
    row = {"seconds": seconds, "cpu": cpu, "process_seconds": process, "peak_anonymous_bytes": anonymous}
    row["bytes"] = output.stat().st_size
    output.unlink()
    return row


def compare(source: Path, plan: Path, work: Path, cold: bool, repeats: int) -> dict[str, Any]:
    """Both ways interleaved, each the first in half of the repeats; the ratio is of medians."""
    output, rows = work / "out.gguf", {"cut": [], "copy": []}
    size = int(measure(CUT, source, str(plan), output, cold)["bytes"])  # unmeasured: the first pays for Python's files
    for repeat in range(repeats):
        for way in ("cut", "copy") if repeat % 2 else ("copy", "cut"):
            code, argument = (CUT, str(plan)) if way == "cut" else (COPY, str(size))
            rows[way].append(measure(code, source, argument, output, cold))
    cuts, copies = rows["cut"], rows["copy"]
    seconds = {way: statistics.median(row["seconds"] for row in found) for way, found in rows.items()}
    cpu = {way: statistics.median(row["cpu"] for row in found) for way, found in rows.items()}
    return {
        "bytes": size,
        "cut_seconds": [round(row["seconds"], 2) for row in cuts],
        "copy_seconds": [round(row["seconds"], 2) for row in copies],
        "cut_MB_per_second": round(size / seconds["cut"] / 1e6),
        "speed_ratio": round(seconds["copy"] / seconds["cut"], 3),
        # For a machine that others use too.
        "speed_ratio_by_cpu_time": round(cpu["copy"] / cpu["cut"], 3),
        "cut_process_seconds": round(statistics.median(row["process_seconds"] for row in cuts), 2),
        "peak_anonymous_bytes": max(int(row["peak_anonymous_bytes"]) for row in cuts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on a disk with room for the file and its half")
    options = parser.parse_args()
    with work_folder(options.folder) as work:
        source = work / "model.gguf"
        result: dict[str, Any] = {"file_bytes": write_model(source, options.gigabytes)}
        model = GgufModel(source)
        for ratio in (0.5, 0.75):
            write_plan(model, ratio, work / "plan.json")
            for cold in (True, False):
                found = compare(source, work / "plan.json", work, cold, options.repeats)
                result[f"{ratio:.0%} from {'disk' if cold else 'page cache'}"] = found
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    result["load_average"] = [round(load, 1) for load in os.getloadavg()]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
