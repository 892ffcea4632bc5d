"""What slimmoe does on one GPU, held against this machine's processor: under nine minutes, and nothing is downloaded.

    python -m benchmarks.on_gpu [MODEL] -o rows.jsonl             all parts that can run here
    python -m benchmarks.on_gpu -o rows.jsonl --part recovery     one of them
    python -m benchmarks.on_gpu -o rows.jsonl --device cpu --seconds 5 --gigabytes 0    a try without a card

A row is written as soon as its part is done, so a run that is cut off keeps what it has. A part that cannot run, since
llama.cpp or onnxruntime was built without this card's toolkit, says so in ``left_out``.

- statistics: sums of a calibration on the card and on the processor, both in float32; their largest difference as a share
  of the largest sum of that kind (the bar is 1e-3), and tokens/s.
- recovery: tokens/s of ``--seconds`` of training with its dev checks, on the default model without three quarters of its
  experts, and on a synthetic model of ``--gigabytes``; arithmetic by 6 operations a weight that a token meets, as a share of
  what the card reaches in one large product of the same type.
- llama: speed and memory of Q4_K_M in llama.cpp, on the card and on the processor (``slimmoe bench``).
- onnx: a graph with activations in float16 under CUDA, against its own self-test.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import work_folder
from benchmarks.streaming import write_checkpoint
from prune.batches import batches
from prune.calibrate.from_checkpoint import BATCH_TOKENS, calibrate, in_memory_sums
from prune.checkpoint import Checkpoint
from prune.conversations import read_conversations
from prune.device import choose_device, choose_training_dtype
from prune.plan.plan import make_plan
from prune.recovery.recover import recover
from prune.recovery.settings import BATCH_TOKENS as STEP_TOKENS
from prune.recovery.settings import Settings
from prune.rewrite import prune
from runtime.errors import SlimmoeError
from runtime.machine import processor
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair, parse_pair

ROOT = Path(__file__).parents[1]
CALIBRATION, DEV = (ROOT / "runtime" / "text" / "data" / name for name in ("calibration", "dev"))
CPU = torch.device("cpu")
FIRST_STEPS = 10  # by which the length of the measured run is chosen
SIDE = 8192  # of the square matrices whose product is the card's peak


class LeftOutError(Exception):
    """A part cannot run on this machine; the text says why."""


class Card:
    """The device under test, and the model on it."""

    def __init__(self, device: torch.device, model: Path, pair: Pair, folder: Path, seconds: float, gigabytes: float):
        self.device, self.model, self.pair, self.folder = device, model, pair, folder
        self.seconds, self.gigabytes = seconds, gigabytes

    def wait(self) -> None:
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()

    def cut(self, model: Path) -> Path:
        """A model without three quarters of its experts."""
        stats, _ = calibrate(model, self.pair, CALIBRATION, limit=20_000, quiet=True)
        return prune(model, make_plan(stats, 0.75), self.folder / f"{model.name}-cut")


def statistics(card: Card) -> dict[str, Any]:
    checkpoint = Checkpoint(card.model)
    conversations = read_conversations(card.model, read_segments(CALIBRATION, card.pair), card.pair)
    work = list(batches(conversations, BATCH_TOKENS))
    tokens = sum(int(batch.mask.sum()) for batch in work)
    found, speeds = {}, {}
    for device in (card.device, CPU):
        for _ in range(2):  # the first makes kernels
            card.wait()
            started = time.perf_counter()
            side = card.folder / f"sums-{device.type}-{time.monotonic_ns()}"
            sums = in_memory_sums(checkpoint, device, torch.float32, work, side, {}, lambda _: None)
            found[device.type] = {layer: values.double().cpu().numpy() for layer, values in sums.items()}
            speeds[device.type] = tokens / (time.perf_counter() - started)
    ours, theirs = found[card.device.type], found["cpu"]
    differences = [
        float(np.abs(kind - expected).max() / max(np.abs(expected).max(), 1e-30))
        for layer, values in theirs.items()
        for kind, expected in zip(ours[layer], values, strict=True)
    ]
    return {"tokens": tokens, "largest_difference": max(differences), "tokens_per_second": speeds}


def _active_weights(checkpoint: Checkpoint) -> float:
    """Weights that a token meets, the embedding once, as the output layer."""
    experts = {name: each for name, each in checkpoint.tensors.items() if ".experts." in name}
    count = next(iter(checkpoint.moe_layers.values()))
    of_experts = sum(np.prod(each.shape) for each in experts.values())
    return float(checkpoint.weights - of_experts * (1 - checkpoint.top_k / count))


def _peak(card: Card, dtype: torch.dtype) -> float:
    """Operations a second of one large product, the best of ten."""
    side = SIDE if card.device.type != "cpu" else 1024
    a, b = (torch.randn(side, side, device=card.device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        card.wait()
        started = time.perf_counter()
        a @ b
        card.wait()
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def _recovery(card: Card, model: Path) -> dict[str, Any]:
    cut, dtype = card.cut(model), choose_training_dtype(card.device, "full")[0]

    def run(steps: int, name: str) -> float:
        settings = Settings(steps=steps, patience=steps)
        recovered = recover(
            cut, card.pair, CALIBRATION, DEV, card.folder / f"{model.name}-{name}", settings, quiet=True
        )
        return recovered["seconds"]

    first = run(FIRST_STEPS, "first")
    steps = max(FIRST_STEPS, int(FIRST_STEPS * card.seconds / first))
    speed = steps * STEP_TOKENS / run(steps, "measured")
    weights, peak = _active_weights(Checkpoint(cut)), _peak(card, dtype)
    memory = getattr(torch, card.device.type).max_memory_allocated() if card.device.type in ("cuda", "xpu") else None
    return {
        "dtype": str(dtype).removeprefix("torch."), "steps": steps, "tokens_per_second": speed, "active_weights": weights,
        "operations_per_second": 6 * weights * speed, "peak_operations_per_second": peak,
        "share_of_peak": 6 * weights * speed / peak, "device_memory_bytes": memory,
    }  # fmt: skip


def recovery(card: Card) -> dict[str, Any]:
    return _recovery(card, card.model)


def large_recovery(card: Card) -> dict[str, Any]:
    if not card.gigabytes:
        raise LeftOutError("--gigabytes 0")
    write_checkpoint(card.folder / "synthetic", card.gigabytes)
    return _recovery(card, card.folder / "synthetic") | {"gigabytes": card.gigabytes}


def llama(card: Card) -> dict[str, Any]:
    from runtime.engines.devices import find_gpu

    if card.device.type != "cpu" and find_gpu() is None:
        raise LeftOutError("llama.cpp is built for the processor: make setup where nvcc is found")
    from export.gguf import export_gguf

    file, rows = export_gguf(card.model, str(card.folder / "model.gguf"), "Q4_K_M"), {}
    for device in ("cpu", "auto") if card.device.type != "cpu" else ("cpu",):
        output = card.folder / f"{device}.jsonl"
        command = [
            sys.executable,
            "-m",
            "slimmoe",
            "bench",
            file,
            "--pair",
            card.pair,
            "--device",
            device,
            "-o",
            output,
        ]
        done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise LeftOutError(done.stderr.strip()[-300:])
        rows[device] = json.loads(output.read_text().splitlines()[-1])
    return {"rows": rows}


def onnx(card: Card) -> dict[str, Any]:
    import onnxruntime as ort

    from export.onnx import export_onnx
    from runtime.engines.onnx_check import SelfTest, self_test_file
    from runtime.engines.onnx_load import prefill
    from runtime.formats.onnx_folder import HALF_SUFFIXES

    provider = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}.get(card.device.type, "")
    if provider not in ort.get_available_providers():
        has = f"onnxruntime {ort.__version__} has no provider for {card.device.type}"
        raise LeftOutError(f"{has}: pip install onnxruntime-gpu")
    found = {}
    for quant in ("int4", "fp16"):
        folder = export_onnx(card.model, card.folder / f"onnx-{quant}", quant, activations="fp16")
        graph = folder / "onnx" / f"model{HALF_SUFFIXES[quant]}.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling, options.profile_file_prefix = True, str(card.folder / f"profile-{quant}")
        session = ort.InferenceSession(graph, options, providers=[provider])
        test = SelfTest.load(self_test_file(graph))
        off = test.deviation(0, prefill(session, test.prompt))
        ids = (test.prompt * 64)[:512]
        started, runs = time.perf_counter(), 0
        while time.perf_counter() - started < 2:
            prefill(session, ids)
            runs += 1
        speed = runs * len(ids) / (time.perf_counter() - started)
        events = json.loads(Path(session.end_profiling()).read_text())
        placed = {(each["name"], each["args"]["provider"]) for each in events if "provider" in each.get("args", {})}
        found[quant] = {
            "deviation": off, "tolerance": test.tolerance, "prefill_tokens_per_second": speed,
            "nodes": {name: sum(where == name for _, where in placed) for name in {where for _, where in placed}},
        }  # fmt: skip
    return found


PARTS: dict[str, Callable[[Card], dict[str, Any]]] = {
    "statistics": statistics, "onnx": onnx, "recovery": recovery, "large_recovery": large_recovery, "llama": llama,
}  # fmt: skip


def main(card: Card, parts: list[str], output: Path) -> None:
    """Do each part and append its row."""
    name = torch.cuda.get_device_name() if card.device.type == "cuda" else card.device.type
    about = {
        "device": name, "processor": processor(), "torch": torch.__version__, "python": platform.python_version(),
        "model": str(card.model), "pair": str(card.pair),
    }  # fmt: skip
    for part in parts:
        started = time.perf_counter()
        try:
            found = PARTS[part](card)
        except (LeftOutError, SlimmoeError, RuntimeError, ImportError) as error:
            found = {"left_out": f"{type(error).__name__}: {error}"}
        row = {"part": part, **about, "seconds": round(time.perf_counter() - started, 1), **found}
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "models" / "default")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--device", help="default: the GPU that is found")
    parser.add_argument("--seconds", type=float, default=60, help="of each recovery")
    parser.add_argument("--gigabytes", type=float, default=2, help="of the synthetic model; 0: none")
    parser.add_argument("--part", action="append", choices=PARTS)
    chosen = parser.parse_args()
    device = torch.device(chosen.device) if chosen.device else choose_device()[0]
    if device.type == "cpu" and not chosen.device:
        parser.error("no GPU was found; --device cpu tries the parts without one")
    with work_folder(None) as folder:
        card = Card(device, chosen.model, chosen.pair, folder, chosen.seconds, chosen.gigabytes)
        main(card, chosen.part or list(PARTS), chosen.output)
