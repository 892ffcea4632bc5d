"""Gated delta nets instead of attention, as Qwen3-Next has them (arXiv 2412.06464): a convolution, then LinearAttention.

The state is [B, value heads, key size, value size] (recurrent.py).
"""

import numpy as np

from export.onnx.builder import Builder
from export.onnx.positions import Positions
from export.onnx.recurrent import Recurrent


class DeltaNet(Recurrent):
    """The delta net of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        config = builder.config
        self.key_heads, self.value_heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
        self.key, self.value = config["linear_key_head_dim"], config["linear_value_head_dim"]
        self.keys, self.values = self.key_heads * self.key, self.value_heads * self.value
        self.state = self.value_heads, self.key, self.value

    def mix(self, x: str, layer: int) -> str:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.delta"
        inner, gate, rate, step = self._projections(x, layer)
        mixed = self._silu(self._causal(inner, layer), f"{label}.mixed")
        query, key, value = builder.split(mixed, [self.keys, self.keys, self.values], "query", "key", "value")
        used = self._used
        rate = graph.node("Mul", [graph.node("Sigmoid", [rate], f"{label}.rate"), used], f"{label}.rate.used")
        step = builder.biased(step, builder.tensors.values("delta_step_bias", layer=layer))
        decay = -np.exp(builder.tensors.values("delta_decay", layer=layer))
        decay = [graph.node("Softplus", [step], f"{label}.step"), graph.constant(f"{label}.decay.rate", decay)]
        decay = graph.node("Mul", [graph.node("Mul", decay, f"{label}.decay"), used], f"{label}.decay.used")
        query, key = (self._for_values(self._unit(each, self.key)) for each in (query, key))
        mixed = self._attend(label, layer, query, key, value, decay, rate, self.key**-0.5)
        normed = [self._by_head(mixed, self.value), self._scale("delta_norm", layer)]
        normed = graph.node("RMSNormalization", normed, f"{label}.normed", axis=-1, epsilon=builder.epsilon)
        return graph.node("Mul", [self._joined(normed), self._silu(gate, f"{label}.gate")], f"{label}.gated")

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("delta_output", mixed, layer)

    def _projections(self, x: str, layer: int) -> list[str]:
        """Queries, keys and values in turn; the output's gate; the update rate; the step, [B, S, ...] each."""
        builder = self.builder
        if builder.tensors.has("delta_input", layer=layer):
            roles = ("delta_input", "delta_gate")
            first = [builder.linear(role, x, layer) for role in roles]
            return first + [builder.linear(role, x, layer, exact=True) for role in ("delta_rate", "delta_step")]
        shared = self.value_heads // self.key_heads
        sizes = [self.key, self.key, shared * self.value, shared * self.value]  # as they lie for each head of keys
        packed = builder.linear("delta_inputs", x, layer, order=self._by_part(sizes))
        rates = builder.linear("delta_rates", x, layer, exact=True, order=self._by_part([shared, shared]))
        inner, gate = builder.split(packed, [2 * self.keys + self.values, self.values], "inner", "gate")
        return [inner, gate, *builder.split(rates, [self.value_heads, self.value_heads], "rate", "step")]

    def _by_part(self, sizes: list[int]) -> np.ndarray:
        """The order of rows in which each part of all heads of keys comes after the other."""
        rows = np.arange(self.key_heads * sum(sizes)).reshape(self.key_heads, -1)
        return np.concatenate([part.reshape(-1) for part in np.split(rows, np.cumsum(sizes)[:-1], axis=1)])

    def _for_values(self, x: str) -> str:
        """Queries or keys [B, S, key heads * key], each repeated for the value heads that share it."""
        heads = np.repeat(np.arange(self.key_heads), self.value_heads // self.key_heads)
        heads = self.builder.graph.constant("delta.heads", heads)
        return self._joined(self.builder.graph.node("Gather", [self._by_head(x, self.key), heads], f"{x}.each", axis=2))
