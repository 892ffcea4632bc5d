"""Masking experts instead of cutting them: the reference that every cut must agree with."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.rewrite.shape import groups_after


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

    The router's own forward runs, with the logits and selection biases of dropped experts at -inf, and with the
    plan's top-k and the groups of the cut, so nothing about its form is assumed.
    """
    groups = groups_after(checkpoint, plan)
    settings, keys = {"top_k": plan.top_k}, checkpoint.family.config.top_k
    top_k_keys = keys if isinstance(keys, tuple) else ()
    if groups != checkpoint.groups:
        settings |= {"num_group": 1, "topk_group": 1}
    with contextlib.ExitStack() as stack:
        for layer in plan.layers:
            dropped = sorted(set(range(layer.experts)) - set(layer.keep))
            router: Any = model.get_submodule(checkpoint.module("router", layer.layer))
            stack.enter_context(_masked_router(router, dropped, settings, top_k_keys))
            if checkpoint.selection_bias:
                path, _, name = checkpoint.module("selection_bias", layer.layer).rpartition(".")
                stack.enter_context(_masked_bias(getattr(model.get_submodule(path), name), dropped))
        yield


@contextlib.contextmanager
def _masked_router(
    router: Any, dropped: list[int], settings: dict[str, int], top_k_keys: tuple[str, ...]
) -> Iterator[None]:
    original = router.forward
    before = [(router, name, value) for name, value in settings.items() if hasattr(router, name)]
    if not hasattr(router, "top_k"):  # it reads the config in each call
        before += [(router.config, key, settings["top_k"]) for key in top_k_keys if hasattr(router.config, key)]
    before = [(owner, name, getattr(owner, name), value) for owner, name, value in before]

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _MaskLogits(dropped):
            return original(*args, **kwargs)

    router.forward = forward
    for owner, name, _, value in before:
        setattr(owner, name, value)
    try:
        yield
    finally:
        del router.forward  # the class's own shows again
        for owner, name, value, _ in before:
            setattr(owner, name, value)


@contextlib.contextmanager
def _masked_bias(bias: torch.Tensor, dropped: list[int]) -> Iterator[None]:
    before = bias.detach().clone()
    bias.data[..., dropped] = float("-inf")
    try:
        yield
    finally:
        bias.data.copy_(before)
