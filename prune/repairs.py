"""Faults of released transformers versions that change what an MoE model computes, and their repair after loading.

Plain transformers of such a version meets the fault in a cut checkpoint as it does in the uncut one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import transformers
from packaging.specifiers import SpecifierSet
from torch import nn


@dataclass(frozen=True)
class Repair:
    """``apply`` repairs a loaded model of ``model_type`` in transformers ``versions`` (as pip writes them)."""

    model_type: str
    versions: str
    apply: Callable[[nn.Module], None]


def _nllb_experts_forward(
    self: Any, hidden_states: torch.Tensor, router_mask: torch.Tensor, router_probs: torch.Tensor
) -> torch.Tensor:
    """The released forward takes the 0/1 mask [tokens, experts] for expert indices, so only experts 0 and 1 ever run.

    The gates [tokens, experts] alone say who runs: they are zero where an expert was not chosen or is full.
    """
    output = torch.zeros_like(hidden_states)
    for i in range(self.num_experts):
        tokens = router_probs[:, i].nonzero().squeeze(-1)
        if not len(tokens):
            continue
        result = self[f"expert_{i}"](hidden_states[tokens]) * router_probs[tokens, i, None]
        if self.moe_token_dropout > 0:
            result = self.token_dropout(result) if self.training else result * (1 - self.moe_token_dropout)
        output.index_add_(0, tokens, result.to(output.dtype))
    return output


def _repair_nllb(model: nn.Module) -> None:
    for module in model.modules():
        if type(module).__name__ == "NllbMoeExperts":
            module.forward = MethodType(_nllb_experts_forward, module)  # type: ignore[method-assign]


REPAIRS = (Repair("nllb-moe", "==5.23.*", _repair_nllb),)


def repair(model: Any) -> None:
    """Apply what the model's type and the installed transformers call for."""
    for entry in REPAIRS:
        if entry.model_type == model.config.model_type and transformers.__version__ in SpecifierSet(entry.versions):
            entry.apply(model)
