"""Where and in which type to compute. Each choice comes with its reason, for the user to read."""

import torch

from prune.checkpoint import Checkpoint
from runtime.machine import memory_left

_ROOM = 1.1  # memory that a model's weights and what is computed with them take, per byte of the weights


def choose_device() -> tuple[torch.device, str]:
    """The best device of this machine, and why."""
    if torch.cuda.is_available():
        return torch.device("cuda"), f"GPU found: {torch.cuda.get_device_name()}"
    if torch.xpu.is_available():
        return torch.device("xpu"), f"GPU found: {torch.xpu.get_device_name()}"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "Apple GPU found"
    return torch.device("cpu"), "no GPU found"


def choose_dtype(device: torch.device, checkpoint: Checkpoint) -> tuple[torch.dtype, str]:
    """The type to compute in, and why."""
    quantised = f"; {checkpoint.quantisation.label} is dequantised" if checkpoint.quantisation else ""
    if device.type not in ("cuda", "xpu"):
        return torch.float32, f"float32 is the exact and fast type on {device.type}{quantised}"
    if quantised:
        return torch.bfloat16, quantised.removeprefix("; ")
    stored = max(checkpoint.tensors.values(), key=lambda tensor: tensor.stop - tensor.start).dtype
    if stored == "BF16":
        return torch.bfloat16, "as the checkpoint is stored"
    return torch.float32, f"the checkpoint is stored as {stored}"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether products in bf16 are faster than in float32: on GPUs, and processors with AMX or AVX-512 BF16.

    Others convert to float32 and back around every product: measured on AVX2, nine times slower.
    """
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type in ("cuda", "xpu")


def choose_training_dtype(device: torch.device, method: str) -> tuple[torch.dtype, str]:
    """The type that recovery computes in, and why; trained weights and their optimiser are float32 in any case."""
    if method != "full":
        return torch.float32, "the exact type"
    if has_fast_bf16(device):
        return torch.bfloat16, f"this {device.type} has instructions for it"
    return torch.float32, f"the fast type on this {device.type}"


def lacks_memory(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> str:
    """Why the whole model cannot be held on ``device`` in ``dtype``: how much it takes and what is left. Empty if it can."""
    size = _ROOM * dtype.itemsize * checkpoint.weights
    left = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_left()
    return f"it takes {size / 1e9:.1f} GB of memory and {left / 1e9:.1f} GB are left" if size > left else ""
