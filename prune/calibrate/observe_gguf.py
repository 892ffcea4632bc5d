"""Observing a GGUF model's experts in llama.cpp's graph: the sums of ``prune.calibrate.observe``, in numpy."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from prune.calibrate.resume import Partial
from prune.calibrate.stats import ROLES, SUMS, rows
from runtime.engines.llama_graph import BEFORE, CHOSEN, GATES, NORMED, OUTPUTS, WEIGHTED, GraphTensor
from runtime.errors import RequestError, WorkError

EASY_EP = SUMS.index("easy_ep")


def _normed_states(normed: GraphTensor) -> GraphTensor | None:
    """The hidden states that a norm was given, of its result: a product of the norm proper with its scales."""
    norm = normed.source()
    return norm and norm.source()


class Listing:
    """A watcher that notes the names in a graph, in the order of their evaluation.

    ``misnamed``: layers whose norm before the experts is given others than the hidden states that are called so. Of Jamba
    llama.cpp gives that name to what attention adds to them.
    """

    def __init__(self) -> None:
        self.names: list[tuple[str, int]] = []
        self.misnamed: set[int] = set()

    def wants(self, name: str, layer: int) -> bool:
        self.names.append((name, layer))
        return name == NORMED and (BEFORE, layer) in self.names

    def see(self, tensor: GraphTensor) -> bool:
        before = _normed_states(tensor)
        if before and before.name != BEFORE:
            self.misnamed.add(tensor.layer)
        return True


class GgufObserver:
    """A watcher that adds up what LayerStats describes, and ends each graph after the last MoE layer's experts.

    ``sums``: by layer, float64 [2, rows(experts), experts], as LayerStats.from_sums reads them.

    Args:
        moe_layers: number of experts by layer.
        names: of a graph, as ``Listing`` has them.
        residual_scale: what the experts' sum is multiplied by before it is added to the hidden state.
        misnamed: as ``Listing`` has them.
        gate_scales: as ``GgufModel`` has them: what is part of the gates, and of the graph's outputs.

    Raises:
        RequestError: a graph that weights its experts in a way that is not known here.
    """

    def __init__(
        self,
        moe_layers: dict[int, int],
        names: Iterable[tuple[str, int]],
        residual_scale: float = 1.0,
        misnamed: Collection[int] = (),
        gate_scales: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        self.sums = {i: np.zeros((len(ROLES), rows(n), n)) for i, n in moe_layers.items()}
        self._scale, self._gate_scales = residual_scale, gate_scales or {}
        self._last = max(moe_layers)
        names = list(names)
        place, times = {name: i for i, name in enumerate(names)}, Counter(names)
        self._stages: dict[tuple[str, int], str] = {}
        for layer in moe_layers:
            gate, output = (
                next((name for name in reversed(stages) if (name, layer) in place), stages[0])
                for stages in (GATES, OUTPUTS)
            )
            used = [(name, layer) for name in (CHOSEN, gate, output, WEIGHTED)]
            order = [place.get(name, -1) for name in used]
            # Twice: several groups of experts in one layer. In another order: gates that weight the experts' inputs.
            if order != sorted(order) or any(times[name] != 1 for name in used):
                raise RequestError(
                    f"llama.cpp computes the experts of layer {layer} in a way that cannot be observed: "
                    "calibrate the checkpoint that the GGUF file was made of.",
                    next_command="slimmoe calibrate DIR --pair en-de -o stats.safetensors",
                )
            self._stages |= dict(zip(used, ("chosen", "gate", "output")))
            before = NORMED if layer in misnamed else BEFORE
            if times[before, layer] == 1 and place[before, layer] < order[0]:
                self._stages[before, layer] = "before"
        self._role = np.empty(0, np.int64)  # of each token of the graph: 0 prompt, 1 response
        self._chosen: np.ndarray = np.empty((0, 0), np.int64)
        self._gate: np.ndarray = np.empty((0, 0), np.float32)
        self._before: np.ndarray | None = None  # the hidden states [T, H] that the layer's experts add to

    def begin(self, role: np.ndarray) -> None:
        """Tell the roles [T] of the tokens that the next graph will hold, in its order."""
        self._role = role

    def wants(self, name: str, layer: int) -> bool:
        return (name, layer) in self._stages

    def see(self, tensor: GraphTensor) -> bool:
        stage = self._stages[tensor.name, tensor.layer]
        if tensor.name == NORMED:  # the hidden states are there still, for the experts' sum to be added to
            tensor = _normed_states(tensor) or tensor
        values = tensor.read()
        if stage == "output":
            outputs = values[0].astype(np.float32, copy=False)
            if tensor.layer in self._gate_scales:
                scales = self._gate_scales[tensor.layer][self._chosen]
                self._gate = self._gate * scales
                outputs = outputs / np.where(scales == 0, 1, scales)[..., None]
            self._add(tensor.layer, outputs @ outputs.swapaxes(1, 2), self._turn(outputs))
            return tensor.layer != self._last
        # Copies, since the graph goes on to use its memory for other tensors; ``_add`` counts their tokens.
        if stage == "before":
            self._before = values.reshape(-1, values.shape[-1]).astype(np.float32)
        elif stage == "chosen":
            self._chosen = values[0, 0].astype(np.int64)
        else:
            self._gate = values.reshape(-1, self._chosen.shape[1]).astype(np.float32)
        return True

    def _turn(self, outputs: np.ndarray) -> np.ndarray:
        """1 - cos(h, h + r) of each token, see LayerStats; NaN where the graph does not show the hidden state h."""
        before, self._before = self._before, None
        if before is None or len(before) != len(outputs):
            return np.full(len(outputs), np.nan, np.float32)
        after = before + self._scale * (self._gate[:, None] @ outputs)[:, 0]
        norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        return 1 - (before * after).sum(1) / np.maximum(norms, np.finfo(np.float32).tiny)

    def _add(self, layer: int, inner: np.ndarray, turn: np.ndarray) -> None:
        """Add up the graph's tokens by the inner products [T, k, k] of their experts' outputs, and their turns [T]."""
        sums, index, gate = self.sums[layer], self._chosen, self._gate
        if not len(inner) == len(index) == len(gate) == len(self._role):
            raise WorkError(f"llama.cpp computed {len(inner)} of {len(self._role)} tokens in layer {layer}.")
        _, width, experts = sums.shape
        norm = np.sqrt(np.maximum(np.diagonal(inner, axis1=1, axis2=2), 0))
        top1 = (np.arange(gate.shape[1]) == gate.argmax(1)[:, None]).astype(np.float32)
        values = np.stack(
            (np.ones_like(gate), gate, norm, gate * norm, top1, top1 * np.exp(gate), turn[:, None] * gate * norm)
        )
        products = inner * gate[:, :, None] * gate[:, None, :]
        # Rows of the flat sums, by role: SUMS, then one for each expert of ``gram``, then of ``together``.
        base, row = self._role[:, None] * width, np.arange(len(SUMS))[:, None, None]
        parts = [((base + row) * experts + index, values)]
        for number, pairs in enumerate((products, np.ones_like(products))):
            first = (base + len(SUMS) + number * experts + index)[:, :, None]
            parts.append((first * experts + index[:, None, :], pairs))
        for places, what in parts:
            sums += np.bincount(places.ravel(), what.ravel(), sums.size).reshape(sums.shape)

    def resume(self, partial: Partial) -> int:
        """Take over the sums that an interrupted run left; returns its position, 0 where there is none."""
        known = partial.load()
        if known is None:
            return 0
        self.sums = known[1]
        return known[0]

    def require_numbers(self) -> None:
        """Refuse sums that hold NaN or infinity.

        Raises:
            WorkError: names the first such layer.
        """
        for i, sums in self.sums.items():
            if not np.isfinite(np.delete(sums, EASY_EP, 1)).all():  # easy_ep is NaN where nothing shows it
                raise WorkError(f"Layer {i} computes values that are not numbers: the file's weights are damaged.")
