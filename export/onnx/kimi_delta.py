"""Kimi delta attention (arXiv 2510.26692): a gated delta net whose decay is one number for each place of a head's key.

The state is [B, heads, head size, head size] (recurrent.py).
"""

import numpy as np

from export.onnx.builder import Builder
from export.onnx.positions import Positions
from export.onnx.recurrent import Recurrent

_KERNELS = ("convolution_query", "convolution_key", "convolution_value")


class KimiDelta(Recurrent):
    """The delta attention of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        layer = self._first_with("kimi_decay")
        self.heads = self._values("kimi_decay", layer).size
        self.inner = self._values("kimi_step_bias", layer).size
        self.head = self.inner // max(self.heads, 1)
        self.state = self.heads, self.head, self.head

    def mix(self, x: str, layer: int) -> str:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.delta"
        inner = builder.linears(["query", "key", "value"], "delta.qkv", x, layer)
        mixed = self._silu(self._causal(inner, layer), f"{label}.mixed")
        query, key, value = builder.split(mixed, [self.inner] * 3, "query", "key", "value")
        rate = graph.node("Sigmoid", [builder.linear("kimi_rate", x, layer, exact=True)], f"{label}.rate")
        rate = graph.node("Mul", [rate, self._used], f"{label}.rate.used")
        step = builder.biased(self._in_two("kimi_step", x, layer), self._values("kimi_step_bias", layer))
        step = graph.node("Softplus", [step], f"{label}.step")
        rates = np.repeat(-np.exp(self._values("kimi_decay", layer).reshape(-1)), self.head)
        decay = graph.node("Mul", [step, graph.constant(f"{label}.decay.rate", rates)], f"{label}.decay")
        decay = graph.node("Mul", [decay, self._used], f"{label}.decay.used")
        query, key = (self._unit(each, self.head) for each in (query, key))
        found = self._attend(label, layer, query, key, value, decay, rate, self.head**-0.5)
        normed = [self._by_head(found, self.head), self._scale("kimi_norm", layer)]
        normed = graph.node("RMSNormalization", normed, f"{label}.normed", axis=-1, epsilon=builder.epsilon)
        gate = graph.node("Sigmoid", [self._in_two("kimi_gate", x, layer)], f"{label}.gate")
        return graph.node("Mul", [self._joined(normed), gate], f"{label}.gated")

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("attention_output", mixed, layer)

    def _in_two(self, role: str, x: str, layer: int) -> str:
        """A linear layer of low rank, too small to be quantised."""
        down = self.builder.linear(f"{role}_down", x, layer, exact=True)
        return self.builder.linear(f"{role}_up", down, layer, exact=True)

    def _kernel(self, layer: int) -> np.ndarray:
        if self.builder.tensors.has("convolution", layer=layer):
            return super()._kernel(layer)
        return np.concatenate([self._values(role, layer) for role in _KERNELS])
