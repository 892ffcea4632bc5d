"""Exporting ONNX folders against copying the checkpoint's bytes: seconds and peak memory, in one run.

    python -m benchmarks.onnx_export --gigabytes 4.2        a synthetic bf16 Qwen3-MoE of that size, and an embedding

Writes the checkpoint to --folder (a temporary one by default), measures each quantisation and the copy in processes
of their own in interleaved runs, deletes everything, and prints one JSON object. All end with fsync; imports are not
counted, and the checkpoint is in the page cache as far as that holds it.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import work_folder
from benchmarks.streaming import write_checkpoint
from runtime.formats.onnx_folder import FILES
from runtime.measure.memory import PeakMemory

ROOT = Path(__file__).parents[1]
VOCABULARY = 151936  # Qwen3's
COPY = "copy"
EXPORT = """
from pathlib import Path
from export.onnx import export_onnx
def work(): export_onnx(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""
COPY_FILES = """
from pathlib import Path
from runtime.formats.copying import copy_range
def work():
    os.mkdir(sys.argv[2])
    for path in Path(sys.argv[1]).glob("*.safetensors"):
        with path.open("rb", buffering=0) as source, open(f"{sys.argv[2]}/{path.name}", "wb", buffering=0) as target:
            copy_range(source, target, 0, path.stat().st_size)
            os.fsync(target.fileno())
"""
TIMED = """
started, used = time.perf_counter(), time.process_time()
work()
print(time.perf_counter() - started, time.process_time() - used)
"""


def measure(way: str, model: Path, output: Path) -> dict[str, float]:
    """Seconds, processor seconds, bytes written and the most anonymous memory (proportional set size)."""
    code = COPY_FILES if way == COPY else EXPORT
    command = [sys.executable, "-c", "import os, sys, time\n" + code + TIMED, str(model), str(output), way]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with PeakMemory(child.pid, interval=0.1) as memory:
        printed, _ = child.communicate()
    assert child.returncode == 0
    seconds, cpu = map(float, printed.split())
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    shutil.rmtree(output)
    return {"seconds": seconds, "cpu": cpu, "bytes": size, "anonymous": memory.peak.anonymous}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.2, help="of the layers")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--quants", default=",".join(FILES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on a disk with room for the checkpoint three times")
    options = parser.parse_args()
    ways = [COPY, *options.quants.split(",")]
    with work_folder(options.folder) as work:
        result: dict[str, Any] = {
            "checkpoint_bytes": write_checkpoint(work / "model", options.gigabytes, options.vocabulary)
        }
        rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for repeat in range(options.repeats):
            for way in reversed(ways) if repeat % 2 else ways:
                rows[way].append(measure(way, work / "model", work / "out"))

    def median(way: str, what: str) -> float:
        return statistics.median(row[what] for row in rows[way])

    for way in ways:
        result[way] = {
            "bytes": int(rows[way][0]["bytes"]),
            "seconds": [round(row["seconds"], 1) for row in rows[way]],
            "cpu_seconds": [round(row["cpu"], 1) for row in rows[way]],
            "copies_by_time": round(median(way, "seconds") / median(COPY, "seconds"), 2),
            # For a machine that others use too.
            "copies_by_cpu_time": round(median(way, "cpu") / median(COPY, "cpu"), 2),
            "peak_anonymous_bytes": max(int(row["anonymous"]) for row in rows[way]),
        }
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    result["load_average"] = [round(load, 1) for load in os.getloadavg()]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
