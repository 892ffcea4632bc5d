"""Mamba2's state space instead of attention (arXiv 2405.21060): a convolution, then a state that decays head by head.

What the paper calls C, B and x are a query, a key and, times the step, a value of LinearAttention. The state is [B, heads,
state size, head size] (recurrent.py).
"""

import numpy as np

from export.onnx.builder import Builder
from export.onnx.positions import Positions
from export.onnx.recurrent import Recurrent


class StateSpace(Recurrent):
    """The state space of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        names, config = builder.decoder.state_space, builder.config
        self.heads, self.size, self.groups = (int(config[names[name]]) for name in ("heads", "size", "groups"))
        self.shared = self.groups * self.size
        self.inner = self._values("convolution", self._first_with("convolution")).shape[0] - 2 * self.shared
        self.head = self.inner // self.heads
        self.state = self.heads, self.size, self.head
        limits = [config[names["least_step"]]] if "least_step" in names else config.get("time_step_limit") or [0.0]
        # transformers writes infinity as {"__float__": "Infinity"}
        self.limits = [float(each["__float__"] if isinstance(each, dict) else each) for each in limits]

    def mix(self, x: str, layer: int) -> str:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.state"
        packed = builder.linear("state_input", x, layer)
        sizes = [self.inner, self.inner + 2 * self.shared, self.heads]
        gate, inner, step = builder.split(packed, sizes, "gate", "inner", "step")
        mixed = self._silu(self._causal(inner, layer), f"{label}.mixed")
        value, key, query = builder.split(mixed, [self.inner, self.shared, self.shared], "value", "key", "query")
        step = graph.node("Softplus", [builder.biased(step, self._values("state_step_bias", layer))], f"{label}.step")
        if self.limits not in ([0.0], [0.0, float("inf")]):
            bounds = [graph.constant(f"state.limit.{n}", np.array(v, np.float32)) for n, v in enumerate(self.limits)]
            step = graph.node("Clip", [step, *bounds], f"{label}.step.clipped")
        step = graph.node("Mul", [step, self._used], f"{label}.step.used")
        rate = graph.constant(f"{label}.rate", -np.exp(self._values("state_decay", layer)))
        decay = graph.node("Mul", [step, rate], f"{label}.decay")
        each = graph.node("Unsqueeze", [step, graph.constant("state.axis", np.array([3]))], f"{label}.step.each")
        heads = self._by_head(value, self.head)
        added = self._joined(graph.node("Mul", [heads, each], f"{label}.added"))
        found = self._attend(label, layer, self._for_heads(query), self._for_heads(key), added, decay)
        skip = graph.constant(f"{label}.skip", np.repeat(self._values("state_skip", layer), self.head))
        found = graph.node("Add", [found, graph.node("Mul", [value, skip], f"{label}.past")], f"{label}.found")
        found = graph.node("Mul", [found, self._silu(gate, f"{label}.gate")], f"{label}.gated")
        return self._normed(found, layer)

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("state_output", mixed, layer)

    def _for_heads(self, x: str) -> str:
        """Keys or queries [B, S, groups * size], which the heads of a group share, for each head."""
        heads = self.builder.graph.constant("state.heads", np.repeat(np.arange(self.groups), self.heads // self.groups))
        each = self.builder.graph.node("Gather", [self._by_head(x, self.size), heads], f"{x}.each", axis=2)
        return self._joined(each)

    def _normed(self, x: str, layer: int) -> str:
        """The RMS norm of each group's part of [B, S, inner]."""
        graph, part = self.builder.graph, self.inner // self.groups
        ones = graph.constant("state.ones", np.ones(part, np.float32))
        inputs, label = [self._by_head(x, part), ones], f"{layer}.state.normed"
        x = graph.node("RMSNormalization", inputs, label, axis=-1, epsilon=self.builder.epsilon)
        return graph.node("Mul", [self._joined(x), self._scale("state_norm", layer)], f"{label}.scaled")
