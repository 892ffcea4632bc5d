"""The linear least-squares problem of one MoE layer: its normal equations, summed up over tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Equations:
    """Sums over tokens for one layer, the updates of all experts stacked to D [E * I, H].

    ``left`` sum of p p' [E * I, E * I] and ``right`` sum of p r' [E * I, H], where p stacks the gate-weighted inputs
    g_j h_j of the chosen experts' output matrices and r is what the layer's output lacks; ``square`` sum of r'r.
    """

    left: Tensor
    right: Tensor
    square: float = 0.0

    @classmethod
    def zeros(cls, rows: int, width: int, device: torch.device) -> "Equations":
        return cls(torch.zeros(rows, rows, device=device), torch.zeros(rows, width, device=device))

    def add(self, inputs: Tensor, index: Tensor, lacking: Tensor) -> None:
        """Tokens with gate-weighted inputs [T, k, I] of experts ``index`` [T, k], and what is lacking [T, H]."""
        size, experts = inputs.shape[-1], len(self.left) // inputs.shape[-1]
        place = torch.full((len(index), experts), -1, device=index.device)  # of an expert among a token's choices
        slots = torch.arange(index.shape[1], device=index.device).expand_as(index)
        place.scatter_(1, index, slots)
        chosen = (place >= 0).float()
        together = (chosen.T @ chosen).tolist()
        for i in range(experts):
            rows = (place[:, i] >= 0).nonzero()[:, 0]
            own = inputs[rows, place[rows, i]]
            self.right[i * size : (i + 1) * size] += own.T @ lacking[rows]
            for j in range(i, experts):
                if not together[i][j]:
                    continue
                both = (place[rows, j] >= 0).nonzero()[:, 0]
                other = inputs[rows[both], place[rows[both], j]]
                self.left[i * size : (i + 1) * size, j * size : (j + 1) * size] += own[both].T @ other
        self.square += lacking.square().sum().item()

    def error(self, update: Tensor) -> float:
        """Sum of squares that ``update`` [E * I, H] leaves."""
        full = self._full()
        return self.square - 2 * (update * self.right).sum().item() + (update * (full @ update)).sum().item()

    def _full(self) -> Tensor:
        full = self.left.triu()
        full += full.triu(1).T
        return full

    def solve(self, ridge: float) -> Tensor:
        """D that minimises the sum of squares plus ``ridge`` times the mean diagonal times the square of D."""
        full = self._full()
        full.diagonal().add_(ridge * full.diagonal().mean().clamp(min=torch.finfo(full.dtype).tiny))
        return torch.cholesky_solve(self.right, torch.linalg.cholesky(full))

    def __add__(self, other: "Equations") -> "Equations":
        return Equations(self.left + other.left, self.right + other.right, self.square + other.square)
