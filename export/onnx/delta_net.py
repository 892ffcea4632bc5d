"""Gated delta nets instead of attention, as Qwen3-Next has them (arXiv 2412.06464): a convolution, then LinearAttention.

Of each sequence a layer keeps ``past_conv.N``, as convolution.py has it, and ``past_recurrent.N`` [B, value heads, key
size, value size]. Padding leaves both as they were: its decay is 1 and its update rate 0.

Operator: onnxruntime docs/ContribOperators.md (LinearAttention).
"""

from functools import cached_property

import numpy as np
from onnx import TensorProto

from export.onnx.builder import Builder
from export.onnx.convolution import Convolution
from export.onnx.nodes import MICROSOFT
from export.onnx.positions import Positions

_L2_EPSILON = 1e-6  # of transformers' l2norm


class DeltaNet(Convolution):
    """The delta net of a layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        config = builder.config
        self.key_heads, self.value_heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
        self.key, self.value = config["linear_key_head_dim"], config["linear_value_head_dim"]
        self.keys, self.values = self.key_heads * self.key, self.value_heads * self.value

    def cache(self, layer: int, side: str) -> dict[str, tuple[int, list]]:
        state = ["batch_size", self.value_heads, self.key, self.value]
        return super().cache(layer, side) | {f"{side}_recurrent.{layer}": (TensorProto.FLOAT, state)}

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
        past, present = ([*self.cache(layer, side)][1] for side in ("past", "present"))
        heads = {"q_num_heads": self.value_heads, "kv_num_heads": self.value_heads, "update_rule": "gated_delta"}
        inputs = [self._unit(query), self._unit(key), value, past, decay, rate]
        graph.node("LinearAttention", inputs, [f"{label}.attention", present], MICROSOFT, **heads)
        normed = [self._by_head(f"{label}.attention", self.value), self._scale("delta_norm", layer)]
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

    @cached_property
    def _used(self) -> str:
        """1 where a sequence has a new token and 0 at its padding: [B, S, 1]."""
        graph = self.builder.graph
        used = graph.node("Less", [self.positions.steps, self.positions.new], f"{self.positions.new}.is")
        used = graph.node("Cast", [used], f"{used}.float", to=TensorProto.FLOAT)
        return graph.node("Unsqueeze", [used, graph.constant("delta.last", np.array([-1]))], f"{used}.each")

    def _unit(self, x: str) -> str:
        """Each head [B, S, key heads * key] divided by its length, and repeated for the value heads that share it."""
        graph, root = self.builder.graph, self.key**-0.5
        ones = graph.constant("delta.unit", np.full(self.key, root, np.float32))
        inputs = [self._by_head(x, self.key), ones]
        x = graph.node("RMSNormalization", inputs, f"{x}.unit", axis=-1, epsilon=_L2_EPSILON / self.key)
        heads = np.repeat(np.arange(self.key_heads), self.value_heads // self.key_heads)
        return self._joined(graph.node("Gather", [x, graph.constant("delta.heads", heads)], f"{x}.each", axis=2))

    def _scale(self, role: str, layer: int) -> str:
        return self.builder.graph.constant(f"{layer}.{role}", self.builder.tensors.values(role, layer=layer))

    def _silu(self, x: str, label: str) -> str:
        graph = self.builder.graph
        return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{label}.sigmoid")], f"{label}.silu")

    def _by_head(self, x: str, size: int) -> str:
        shape = self.builder.graph.constant(f"delta.split.{size}", np.array([0, 0, -1, size]))
        return self.builder.graph.node("Reshape", [x, shape], f"{x}.heads")

    def _joined(self, x: str) -> str:
        shape = self.builder.graph.constant("delta.join", np.array([0, 0, -1]))
        return self.builder.graph.node("Reshape", [x, shape], f"{x}.joined")
