"""Checkpoints as transformers models: loading, choosing a device, and masking experts instead of cutting them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from prune.checkpoint import Checkpoint
from prune.device import choose_device as choose_device
from prune.plan import Plan


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A checkpoint folder in evaluation mode. Safetensors only; no code from the folder is run."""
    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    if dtype == torch.float64:  # torch's grouped matrix product has no such kernel
        model.set_experts_implementation("eager")
    return model.to(device).eval()


class _MaskLogits(TorchFunctionMode):
    """Within it, every linear layer's outputs in the ``dropped`` columns are -inf."""

    def __init__(self, dropped: list[int]) -> None:
        super().__init__()
        self.dropped = dropped

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.linear:
            result[..., self.dropped] = float("-inf")
        return result


@contextlib.contextmanager
def masked(model: PreTrainedModel, checkpoint: Checkpoint, plan: Plan) -> Iterator[None]:
    """Within it, the whole model routes as if it were cut by ``plan``: what a cut must agree with.

    The router's own forward runs, with the logits of dropped experts at -inf, so nothing about its form is assumed.
    """
    originals = []
    for layer in plan.layers:
        router: Any = model.get_submodule(checkpoint.module("router", layer.layer))
        dropped = sorted(set(range(layer.experts)) - set(layer.keep))

        def forward(*args: Any, original: Any = router.forward, dropped: list[int] = dropped, **kwargs: Any) -> Any:
            with _MaskLogits(dropped):
                return original(*args, **kwargs)

        originals.append(router)
        router.forward = forward
    try:
        yield
    finally:
        for router in originals:
            del router.forward  # the class's own shows again
