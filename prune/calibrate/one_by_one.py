"""Experts that stay in memory in a smaller type than they compute in: each is converted when a token needs it.

A layer of gpt-oss-20b has 0.8 billion weights. In bf16 they take 1.6 GB, in float32 3.2 GB, and twice that where the next
layer is read meanwhile.
"""

import math
from typing import Any

import torch
from torch import nn

from prune.checkpoint import Checkpoint
from runtime.machine import memory_left


class _Parameter:
    """A parameter [experts, ...] whose parts come in ``dtype``."""

    def __init__(self, values: torch.Tensor, dtype: torch.dtype) -> None:
        self._values, self._dtype = values, dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._values[index].to(self._dtype)


class _Module:
    """An experts module as its forward sees it: its parameters are ``_Parameter``."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return _Parameter(value, self._dtype) if isinstance(value, nn.Parameter) else value


def one_by_one(module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """As an experts implementation: the module's own loop over its experts, in the type of ``hidden`` [T, H]."""
    return type(module).forward.__wrapped__(_Module(module, hidden.dtype), hidden, index, weights)


def lacks_memory_for_layers(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether two layers in ``dtype``, the one that is computed and the one that is read, do not fit into the memory."""
    largest = 0
    for layer in checkpoint.moe_layers:
        prefix = checkpoint.prefix(layer)
        shapes = (tensor.shape for name, tensor in checkpoint.floats.items() if name.startswith(prefix))
        largest = max(largest, sum(map(math.prod, shapes)))
    return device.type == "cpu" and 2 * largest * dtype.itemsize > memory_left()
