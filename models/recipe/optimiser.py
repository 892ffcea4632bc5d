"""Muon for the matrices inside the layers, AdamW for the rest.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers") replaces a matrix's momentum by the nearest
semi-orthogonal matrix, found by five Newton-Schulz steps. Stacked experts are orthogonalised as a batch.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from models.recipe.precision import COMPUTE

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of Jordan et al.


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration on [..., rows, columns]; singular values end up near 1."""
    a, b, c = _COEFFICIENTS
    x = matrices.to(COMPUTE)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """``stack`` in a group says of how many matrices one expert's rows consist (gate and up: 2)."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "stack": 1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                direction = parameter.grad.lerp(buffer, group["momentum"])  # Nesterov
                rows = parameter.shape[-2] // group["stack"]
                update = orthogonalise(direction.reshape(-1, rows, parameter.shape[-1])).view_as(parameter)
                scale = max(1.0, rows / parameter.shape[-1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)
