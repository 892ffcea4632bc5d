"""Mamba's selective state space instead of attention, as Jamba has it (arXiv 2312.00752, 2403.19887).

Every channel after the convolution is a head of LinearAttention of its own: one value, and a key and a query that are the same
for all channels, with a decay for each channel and place in the state. The state is [B, channels, state size, 1] (recurrent.py).
"""

import numpy as np

from export.onnx.builder import Builder
from export.onnx.positions import Positions
from export.onnx.recurrent import Recurrent


class SelectiveState(Recurrent):
    """The state space of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        self.channels, self.size = self._values("channel_decay", self._first_with("channel_decay")).shape
        self.state = self.channels, self.size, 1

    def mix(self, x: str, layer: int) -> str:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.state"
        packed = builder.linear("state_input", x, layer)
        inner, gate = builder.split(packed, [self.channels, self.channels], "inner", "gate")
        mixed = self._silu(self._causal(inner, layer), f"{label}.mixed")
        parts = builder.linear("state_parts", mixed, layer, exact=True)
        rank = builder.tensors.matrix("", "state_parts", layer=layer).shape[0] - 2 * self.size
        named = dict(zip(("step", "key", "query"), builder.split(parts, [rank, self.size, self.size], "s", "k", "q")))
        step, key, query = (builder.norm(f"state_{name}_norm", part, layer) for name, part in named.items())
        step = graph.node("Softplus", [builder.linear("state_step", step, layer, exact=True)], f"{label}.step")
        step = graph.node("Mul", [step, self._used], f"{label}.step.used")
        added = graph.node("Mul", [step, mixed], f"{label}.added")
        rate = graph.constant(f"{label}.rate", -np.exp(self._values("channel_decay", layer)))
        each = graph.node("Unsqueeze", [step, graph.constant("state.axis", np.array([3]))], f"{label}.step.each")
        decay = self._joined(graph.node("Mul", [each, rate], f"{label}.decay"))
        found = self._attend(label, layer, self._for_channels(query), self._for_channels(key), added, decay)
        skip = graph.constant(f"{label}.skip", self._values("state_skip", layer))
        found = graph.node("Add", [found, graph.node("Mul", [mixed, skip], f"{label}.past")], f"{label}.found")
        return graph.node("Mul", [found, self._silu(gate, f"{label}.gate")], f"{label}.gated")

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("state_output", mixed, layer)

    def _for_channels(self, x: str) -> str:
        """The same keys or queries [B, S, size] for each channel."""
        graph = self.builder.graph
        times = graph.constant("state.channels", np.array([1, 1, self.channels]))
        return graph.node("Tile", [x, times], f"{x}.each")
