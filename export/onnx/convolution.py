"""Short convolutions instead of attention, as LFM2 has them: gates around a causal convolution of each channel.

The cache of such a layer is named and shaped as transformers.js expects it: ``past_conv.N`` and ``present_conv.N``
[B, hidden, kernel], the last inputs of the convolution, zeros before the first token.
"""

import numpy as np
from onnx import TensorProto

from export.onnx.builder import Builder
from export.onnx.positions import Positions


class Convolution:
    """The convolution of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        self.builder, self.positions = builder, positions

    def cache(self, layer: int, side: str) -> dict[str, tuple[int, list]]:
        """Inputs (side ``past``) or outputs (``present``) of a layer, with data type and shape."""
        channels, _, kernel = self._kernel(layer).shape
        return {f"{side}_conv.{layer}": (TensorProto.FLOAT, ["batch_size", channels, kernel])}

    def mix(self, x: str, layer: int) -> str:
        """The gated convolution of hidden states [B, S, hidden]; ``output`` projects it back."""
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.convolution"
        before, after, inner = (f"{label}.{part}" for part in ("before", "after", "x"))
        projected = builder.linear("convolution_input", x, layer)
        graph.node("Split", [projected], [before, after, inner], axis=-1, num_outputs=3)
        inner = graph.node("Mul", [before, inner], f"{label}.inner")
        return graph.node("Mul", [after, self._causal(inner, layer)], f"{label}.gated")

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("convolution_output", mixed, layer)

    def _kernel(self, layer: int) -> np.ndarray:
        """The weights [channels, 1, kernel]."""
        return self.builder.tensors.values("convolution", layer=layer)

    def _causal(self, x: str, layer: int) -> str:
        """Each channel of [B, S, channels] convolved with what came before, which the cache keeps."""
        graph = self.builder.graph
        past, present = (next(iter(self.cache(layer, side))) for side in ("past", "present"))
        past = graph.node("Transpose", [past], f"{past}.rows", perm=[0, 2, 1])
        rows = graph.node("Concat", [past, x], f"{layer}.convolution.rows", axis=1)
        self._keep(rows, present, layer)
        return self._convolved(rows, layer)

    def _convolved(self, rows: str, layer: int) -> str:
        """Of [B, kernel + S, hidden] the sum of shifted products: for one token ORT's Conv takes many times longer."""
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.convolution"
        weight = self._kernel(layer)
        kernel, total = weight.shape[-1], ""
        axis = graph.constant("convolution.axis", np.array([1]))
        for tap in range(kernel):
            bounds = [tap + 1, tap + 1 - kernel or np.iinfo(np.int64).max]
            bounds = [graph.constant(f"convolution.{value}", np.array([value])) for value in bounds]
            part = graph.node("Slice", [rows, *bounds, axis], f"{label}.{tap}")
            tap_weight = graph.constant(f"{label}.{tap}.weight", weight[:, 0, tap])
            part = graph.node("Mul", [part, tap_weight], f"{label}.{tap}.product")
            total = graph.node("Add", [total, part], f"{label}.{tap}.sum") if total else part
        return builder.biased(total, builder.tensors.bias("convolution", layer=layer))

    def _keep(self, rows: str, present: str, layer: int) -> None:
        """The last inputs of each sequence, which in a padded batch are not the last rows."""
        graph, kernel = self.builder.graph, self._kernel(layer).shape[-1]
        steps = graph.constant("convolution.steps", np.arange(kernel))
        last = graph.node("Add", [self.positions.new, steps], f"{present}.steps")
        last = graph.node("Unsqueeze", [last, graph.constant("convolution.each", np.array([2]))], f"{present}.where")
        kept = graph.node("GatherND", [rows, last], f"{present}.rows", batch_dims=1)
        graph.node("Transpose", [kept], present, perm=[0, 2, 1])
