"""Observing a model's experts from inside transformers' registry of experts implementations, without changing a model."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from prune.batches import Batch
from prune.calibrate.residual import Residuals
from prune.calibrate.resume import Partial
from prune.calibrate.stats import ROLES, SUMS, rows
from prune.checkpoint import Checkpoint
from runtime.errors import RequestError, WorkError

EASY_EP = SUMS.index("easy_ep")
ROW_BYTES = 32 << 20  # of expert outputs in float32 held at once on a CPU; more tokens are taken in parts
GPU_FACTOR = 16  # and so many times more on a GPU, which wants larger matrices


ExpertsForward = Callable[..., torch.Tensor]  # (module, hidden [T, H], index [T, k], weights [T, k]) -> [T, H]


def usual_experts(module: Any) -> ExpertsForward:
    """What computes an experts module now, with the module as its first argument.

    Raises:
        RequestError: a class that transformers' registry of experts implementations does not serve.
    """
    eager = getattr(type(module).forward, "__wrapped__", None)  # what the registry's decorator wraps
    if eager is None or not hasattr(module, "config"):
        raise RequestError(f"Experts of the class {type(module).__name__} cannot be observed; see docs/adding.md.")
    return ALL_EXPERTS_FUNCTIONS.get(module.config._experts_implementation, eager)


@contextlib.contextmanager
def experts_replaced(model: Any, forward: ExpertsForward) -> Iterator[None]:
    """Within it, all experts of a model are computed by ``forward``."""
    name, before = f"slimmoe_{id(forward)}", model.config._experts_implementation
    ALL_EXPERTS_FUNCTIONS[name] = forward
    model.set_experts_implementation(name)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
        del ALL_EXPERTS_FUNCTIONS[name]


@contextlib.contextmanager
def _hook(module: torch.nn.Module, told: Callable[..., None]) -> Iterator[None]:
    """Within it, ``told`` gets the module, its inputs and its output after each call."""
    handle = module.register_forward_hook(told)
    try:
        yield
    finally:
        handle.remove()


class Observer:
    """Within it, the model computes what it did, and adds up what LayerStats describes.

    The experts get every token once for each of its top-k choices, with a gate weight of 1: one call of the
    implementation that the model used before, on as many rows as it computes anyway, gives each chosen expert's own
    output f_j(t).

    Args:
        row_bytes: of expert outputs at once, see ROW_BYTES.

    ``sums``: by layer, float64 [2, rows(experts), experts], as LayerStats.from_sums reads them.

    Raises:
        RequestError: an experts class that the registry does not serve.
    """

    def __init__(
        self, model: PreTrainedModel, checkpoint: Checkpoint, device: torch.device, row_bytes: int = ROW_BYTES
    ) -> None:
        self._row_bytes = row_bytes
        place = torch.device("cpu") if device.type == "mps" else device  # mps has no float64
        self.sums = {
            i: torch.zeros(len(ROLES), rows(n), n, dtype=torch.float64, device=place)
            for i, n in checkpoint.moe_layers.items()
        }
        self._role = torch.empty(0)  # of each token of the batch: 0 prompt, 1 response, 2 padding
        self._layers: dict[torch.nn.Module, int] = {}
        self._usual: dict[torch.nn.Module, Callable[..., torch.Tensor]] = {}  # called as usual(module, ...)
        self._hooked = checkpoint.family.modules.scaled_inputs
        self._routers: dict[torch.nn.Module, torch.nn.Module] = {}  # by the experts they route to, where hooked
        self._scores: dict[
            torch.nn.Module, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # by router: its last input, and they
        for i in checkpoint.moe_layers:
            module: Any = model.get_submodule(checkpoint.module("experts", i))
            self._layers[module] = i
            if self._hooked:
                self._routers[module] = model.get_submodule(checkpoint.module("router", i))
            else:
                self._usual[module] = usual_experts(module)
        self._model, self._stack = model, contextlib.ExitStack()
        self._residuals = Residuals(model, checkpoint)

    def __enter__(self) -> "Observer":
        if not self._hooked:
            self._stack.enter_context(experts_replaced(self._model, self._forward))
        for experts, router in self._routers.items():
            self._stack.enter_context(_hook(router, self._keep_scores))
            self._stack.enter_context(_hook(experts, self._hook_outputs))
        self._residuals.attach()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._residuals.detach()
        self._stack.__exit__(kind, error, trace)

    def _keep_scores(self, module: Any, inputs: Any, output: Any) -> None:
        """Of a router that gives scores [T, E], zero where an expert was not chosen."""
        self._scores[module] = inputs[0].reshape(-1, inputs[0].shape[-1]), output[0].detach()

    def _hook_outputs(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        """Of experts that get every token scaled by its score, and give [E * T, H]: that is f_j(t) times the gate."""
        router: Any = self._routers[module]
        hidden, scores = self._scores[router]
        gate, index = scores.topk(router.top_k)
        chosen = output.view(-1, len(index), output.shape[-1])[index.T, torch.arange(len(index), device=index.device)]
        chosen = chosen.transpose(0, 1).float() / gate.float()[..., None].clamp(min=1e-30)
        added = (gate.float()[:, None] @ chosen)[:, 0]
        turn = self._residuals.turn(self._residuals.before_experts(self._layers[module], hidden), added)
        self._add(self._layers[module], self._role, index, gate.float(), chosen @ chosen.mT, turn)

    def begin(self, batch: Batch) -> None:
        """Tell which tokens the next forward pass will bring."""
        self._role = torch.where(batch.mask.bool(), batch.response.long(), 2).reshape(-1)

    def resume(self, partial: Partial) -> int:
        """Take over the sums that an interrupted run left; returns its position, 0 where there is none."""
        known = partial.load()
        if known is None:
            return 0
        for i, sums in known[1].items():
            self.sums[i].copy_(torch.from_numpy(sums))
        return known[0]

    def save(self, partial: Partial, position: int) -> None:
        """Keep the sums so far, for ``resume``."""
        partial.save(position, {i: sums.cpu().numpy() for i, sums in self.sums.items()})

    def require_numbers(self) -> None:
        """Refuse sums that hold NaN or infinity.

        Raises:
            WorkError: names the first such layer.
        """
        for i, sums in self.sums.items():
            seen = torch.cat((sums[:, :EASY_EP], sums[:, EASY_EP + 1 :]), 1)  # easy_ep is NaN where nothing shows it
            if not torch.isfinite(seen).all():
                raise WorkError(
                    f"Layer {i} computes values that are not numbers: the checkpoint's weights are damaged."
                )

    def _forward(self, module: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """As an experts implementation: hidden [T, H], index and weights [T, k]; returns [T, H]."""
        usual, layer, (tokens, width), k = self._usual[module], self._layers[module], hidden.shape, index.shape[1]
        most = self._row_bytes * (1 if hidden.device.type == "cpu" else GPU_FACTOR)
        part = max(1, most // (4 * k * width))
        results, before = [], self._residuals.before_experts(layer, hidden)
        for start in range(0, tokens, part):
            here = slice(start, start + part)
            repeated, chosen = hidden[here].repeat_interleave(k, 0), index[here].reshape(-1, 1)
            outputs = usual(module, repeated, chosen, torch.ones_like(chosen, dtype=weights.dtype))
            outputs, gate = outputs.view(-1, k, width).float(), weights[here].float()
            added = (gate[:, None] @ outputs)[:, 0]
            turn = self._residuals.turn(None if before is None else before[here], added)
            self._add(layer, self._role[here], index[here], gate, outputs @ outputs.mT, turn)
            results.append(added.to(hidden.dtype))
        return torch.cat(results)

    def _add(
        self,
        layer: int,
        role: torch.Tensor,
        index: torch.Tensor,
        gate: torch.Tensor,
        inner: torch.Tensor,
        turn: torch.Tensor,
    ) -> None:
        """Add up tokens of roles and turns [T], with index and gate [T, k] and inner products of the outputs [T, k, k]."""
        sums = self.sums[layer]
        _, width, experts = sums.shape
        role, index, gate, inner, turn = (x.to(sums.device) for x in (role, index, gate, inner, turn))
        norm = inner.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        top1 = torch.nn.functional.one_hot(gate.argmax(1), gate.shape[1]).to(gate.dtype)
        values = torch.stack(
            (torch.ones_like(gate), gate, norm, gate * norm, top1, top1 * gate.exp(), turn[:, None] * gate * norm)
        )
        products = inner * gate[:, :, None] * gate[:, None, :]
        # Rows of the flat sums, by role: SUMS, then one for each expert of ``gram``, then of ``together``. Padding goes to
        # a third role.
        base, row = role[:, None] * width, torch.arange(len(SUMS), device=sums.device)[:, None, None]
        flat = torch.zeros((len(ROLES) + 1) * width * experts, dtype=torch.float64, device=sums.device)
        flat.index_add_(0, ((base + row) * experts + index).reshape(-1), values.double().reshape(-1))
        for number, pairs in enumerate((products, torch.ones_like(products))):
            places = (base + len(SUMS) + number * experts + index)[:, :, None] * experts + index[:, None, :]
            flat.index_add_(0, places.reshape(-1), pairs.double().reshape(-1))
        sums += flat.view(-1, width, experts)[: len(ROLES)]
