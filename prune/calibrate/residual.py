"""The hidden states that a layer's routed experts add to, found while the model runs, whatever its norms are called."""

from typing import Any

import torch
from transformers import PreTrainedModel

from prune.checkpoint import Checkpoint


class Residuals:
    """Watches what each MoE layer's own modules are given and give.

    The module whose output goes into the experts is the norm before them, and what that is given is the hidden state.
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Checkpoint) -> None:
        self._factor = float(checkpoint.config.get("residual_multiplier") or 1)
        self._layers: dict[int, Any] = {}
        self._seen: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._handles: list[Any] = []
        for i in checkpoint.moe_layers:
            prefix, _, _ = checkpoint.module("experts", i).partition(f".{i}.")
            self._layers[i] = model.get_submodule(f"{prefix}.{i}")

    def attach(self) -> None:
        for i, layer in self._layers.items():
            for child in layer.children():
                self._handles.append(child.register_forward_hook(self._note(i)))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()

    def _note(self, i: int) -> Any:
        def note(module: Any, given: tuple[Any, ...], output: Any) -> None:
            tensors = given and isinstance(given[0], torch.Tensor) and isinstance(output, torch.Tensor)
            if tensors and given[0].shape == output.shape:
                self._seen.setdefault(i, []).append((given[0], output))

        return note

    def before_experts(self, i: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """The hidden states [T, H] behind the experts' input ``hidden`` [T, H]; None where no module shows them.

        An output that lies where the input lies is that input: what was seen is still held, so its place is nobody else's.
        """
        for given, output in reversed(self._seen.pop(i, [])):
            if output.data_ptr() == hidden.data_ptr() and output.numel() == hidden.numel():
                return given.reshape(hidden.shape)
        return None

    def turn(self, before: torch.Tensor | None, added: torch.Tensor) -> torch.Tensor:
        """1 - cos(h, h + r) [T] for hidden states ``before`` and what the experts add, both [T, H]; NaN where unknown."""
        if before is None:
            return added.new_full(added.shape[:1], torch.nan)
        start = before.float()
        return 1 - torch.nn.functional.cosine_similarity(start, start + self._factor * added, dim=-1)
