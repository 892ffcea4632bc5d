"""Observing a GGUF model's experts in llama.cpp's graph: the sums of ``prune.calibrate.observe``, in numpy."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from prune.calibrate.resume import Partial
from prune.calibrate.stats import ROLES, SUMS
from runtime.engines.llama_graph import CHOSEN, GATES, OUTPUTS, WEIGHTED, GraphTensor
from runtime.errors import RequestError, WorkError


class Listing:
    """A watcher that only notes the names in a graph, in the order of their evaluation."""

    def __init__(self) -> None:
        self.names: list[tuple[str, int]] = []

    def wants(self, name: str, layer: int) -> bool:
        self.names.append((name, layer))
        return False

    def see(self, tensor: GraphTensor) -> bool:
        return True


class GgufObserver:
    """A watcher that adds up what LayerStats describes, and ends each graph after the last MoE layer's experts.

    ``sums``: by layer, float64 [2, len(SUMS) + experts, experts]; the rows after the first len(SUMS) are ``gram``.

    Args:
        moe_layers: number of experts by layer.
        names: of a graph, as ``Listing`` has them.

    Raises:
        RequestError: a graph that weights its experts in a way that is not known here.
    """

    def __init__(self, moe_layers: dict[int, int], names: Iterable[tuple[str, int]]) -> None:
        self.sums = {i: np.zeros((len(ROLES), len(SUMS) + n, n)) for i, n in moe_layers.items()}
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
        self._role = np.empty(0, np.int64)  # of each token of the graph: 0 prompt, 1 response
        self._chosen = self._gate = np.empty((0, 0))

    def begin(self, role: np.ndarray) -> None:
        """Tell the roles [T] of the tokens that the next graph will hold, in its order."""
        self._role = role

    def wants(self, name: str, layer: int) -> bool:
        return (name, layer) in self._stages

    def see(self, tensor: GraphTensor) -> bool:
        stage, values = self._stages[tensor.name, tensor.layer], tensor.read()
        if stage == "output":
            outputs = values[0].astype(np.float32, copy=False)
            self._add(tensor.layer, outputs @ outputs.swapaxes(1, 2))
            return tensor.layer != self._last
        # Copies, since the graph goes on to use its memory for other tensors; ``_add`` counts their tokens.
        if stage == "chosen":
            self._chosen = values[0, 0].astype(np.int64)
        else:
            self._gate = values.reshape(-1, self._chosen.shape[1]).astype(np.float32)
        return True

    def _add(self, layer: int, inner: np.ndarray) -> None:
        """Add up the graph's tokens by the inner products [T, k, k] of their experts' outputs."""
        sums, index, gate = self.sums[layer], self._chosen, self._gate
        if not len(inner) == len(index) == len(gate) == len(self._role):
            raise WorkError(f"llama.cpp computed {len(inner)} of {len(self._role)} tokens in layer {layer}.")
        _, width, experts = sums.shape
        norm = np.sqrt(np.maximum(np.diagonal(inner, axis1=1, axis2=2), 0))
        top1 = (np.arange(gate.shape[1]) == gate.argmax(1)[:, None]).astype(np.float32)
        values = np.stack((np.ones_like(gate), gate, norm, gate * norm, top1, top1 * np.exp(gate)))
        products = inner * gate[:, :, None] * gate[:, None, :]
        # Places in the flat sums: [role, sum, expert] and [role, len(SUMS) + expert, expert].
        base, row = self._role[:, None] * width, np.arange(len(SUMS))[:, None, None]
        places = ((base + row) * experts + index).ravel()
        pairs = ((base + len(SUMS) + index)[:, :, None] * experts + index[:, None, :]).ravel()
        for where, what in ((places, values), (pairs, products)):
            sums += np.bincount(where, what.ravel(), sums.size).reshape(sums.shape)

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
            if not np.isfinite(sums).all():
                raise WorkError(f"Layer {i} computes values that are not numbers: the file's weights are damaged.")
