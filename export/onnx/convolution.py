"""Short convolutions instead of attention, as LFM2 has them: gates around a causal convolution of each channel.

The cache of such a layer is named and shaped as transformers.js expects it: ``past_conv.N`` and ``present_conv.N``
[B, hidden, kernel], the last inputs of the convolution, zeros before the first token.
"""

import numpy as np
from onnx import TensorProto

from export.onnx.builder import Builder
from export.onnx.positions import Positions


class Convolution:
    """The convolution of a layer; appends nodes and returns the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        self.builder, self.positions = builder, positions

    def cache(self, layer: int, side: str) -> dict[str, tuple[int, list]]:
        """Inputs (side ``past``) or outputs (``present``) of a layer, with data type and shape."""
        channels, _, kernel = self.builder.tensors.values("convolution", layer=layer).shape
        return {f"{side}_conv.{layer}": (TensorProto.FLOAT, ["batch", channels, kernel])}

    def __call__(self, x: str, layer: int) -> str:
        builder, graph = self.builder, self.builder.graph
        weight = builder.tensors.values("convolution", layer=layer)  # [channels, 1, kernel]
        channels, _, kernel = weight.shape
        bias = builder.tensors.bias("convolution", layer=layer)
        label = f"{layer}.convolution"
        gates = [f"{label}.{part}" for part in ("before", "after", "x")]
        projected = builder.linear("convolution_input", x, layer)
        graph.node("Split", [projected], gates, axis=-1, num_outputs=3)
        inner = graph.node("Mul", [gates[0], gates[2]], f"{label}.inner")
        inner = graph.node("Transpose", [inner], f"{label}.channels", perm=[0, 2, 1])
        (past,), (present,) = self.cache(layer, "past"), self.cache(layer, "present")
        inner = graph.node("Concat", [past, inner], f"{label}.whole", axis=2)
        self._keep(inner, present, channels, kernel)
        parameters = [graph.constant(f"{label}.weight", weight)]
        if bias is not None:
            parameters.append(graph.constant(f"{label}.bias", bias))
        inner = graph.node("Conv", [inner, *parameters], f"{label}.all", group=channels, kernel_shape=[kernel])
        # The first output is that of the last token before the new ones.
        start, end = (
            graph.constant("convolution.start", np.array([1])),
            graph.constant("convolution.end", np.array([2**62])),
        )
        axis = graph.constant("convolution.axis", np.array([2]))
        inner = graph.node("Slice", [inner, start, end, axis], f"{label}.new")
        inner = graph.node("Transpose", [inner], f"{label}.tokens", perm=[0, 2, 1])
        return builder.linear("convolution_output", graph.node("Mul", [gates[1], inner], f"{label}.gated"), layer)

    def _keep(self, whole: str, present: str, channels: int, kernel: int) -> None:
        """The last inputs of each sequence, which in a padded batch are not the last columns."""
        graph = self.builder.graph
        steps = graph.constant("convolution.steps", np.arange(kernel))
        last = graph.node("Add", [self.positions.new, steps], f"{present}.columns")
        last = graph.node(
            "Unsqueeze", [last, graph.constant("convolution.one", np.array([1]))], f"{present}.columns.3d"
        )
        shape = graph.constant("convolution.shape", np.array([1, channels, 1]))
        graph.node("GatherElements", [whole, graph.node("Expand", [last, shape], f"{present}.where")], present, axis=2)
