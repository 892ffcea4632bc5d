"""What layers share that keep a state instead of keys and values: a convolution, then LinearAttention.

Of each sequence such a layer keeps ``past_conv.N``, as convolution.py has it, and ``past_recurrent.N`` [B, heads, key size,
value size]. Padding leaves both as they were: its decay is 1, and what it adds is 0.

Operator: onnxruntime docs/ContribOperators.md (LinearAttention).
"""

from functools import cached_property

import numpy as np
from onnx import TensorProto

from export.onnx.convolution import Convolution
from export.onnx.nodes import MICROSOFT

_L2_EPSILON = 1e-6  # of transformers' l2norm


class Recurrent(Convolution):
    """A layer with a state; ``state`` is heads, key size and value size. Methods append nodes and return the output's name."""

    state: tuple[int, int, int]

    def cache(self, layer: int, side: str) -> dict[str, tuple[int, list]]:
        return super().cache(layer, side) | {
            f"{side}_recurrent.{layer}": (TensorProto.FLOAT, ["batch_size", *self.state])
        }

    def _values(self, role: str, layer: int) -> np.ndarray:
        return self.builder.tensors.values(role, layer=layer)

    def _first_with(self, role: str) -> int:
        """The first layer that has a tensor, by which all of its kind are measured."""
        layers = range(self.builder.config["num_hidden_layers"])
        return next((layer for layer in layers if self.builder.tensors.has(role, layer=layer)), 0)

    def _attend(
        self, label: str, layer: int, query: str, key: str, value: str, decay: str, rate: str = "", scale: float = 1.0
    ) -> str:
        """Of [B, S, heads * size] each, with the decay's logarithm by head or by head and key: [B, S, heads * value size].

        Args:
            rate: of a delta net's updates [B, S, heads]; empty where what a key had is not taken away.
        """
        past, present = ([*self.cache(layer, side)][1] for side in ("past", "present"))
        rule = {"update_rule": "gated_delta" if rate else "gated", "scale": scale}
        heads = {"q_num_heads": self.state[0], "kv_num_heads": self.state[0]}
        inputs = [query, key, value, past, decay, *([rate] if rate else [])]
        outputs = [f"{label}.attention", present]
        return self.builder.graph.node("LinearAttention", inputs, outputs, MICROSOFT, **heads, **rule)

    @cached_property
    def _used(self) -> str:
        """1 where a sequence has a new token and 0 at its padding: [B, S, 1]."""
        graph = self.builder.graph
        used = graph.node("Less", [self.positions.steps, self.positions.new], f"{self.positions.new}.is")
        used = graph.node("Cast", [used], f"{used}.float", to=TensorProto.FLOAT)
        return graph.node("Unsqueeze", [used, graph.constant("delta.last", np.array([-1]))], f"{used}.each")

    def _unit(self, x: str, size: int) -> str:
        """Each head [B, S, heads * size] divided by its length."""
        graph, root = self.builder.graph, size**-0.5
        inputs = [self._by_head(x, size), graph.constant("delta.unit", np.full(size, root, np.float32))]
        epsilon = _L2_EPSILON / size
        return self._joined(graph.node("RMSNormalization", inputs, f"{x}.unit", axis=-1, epsilon=epsilon))

    def _scale(self, role: str, layer: int) -> str:
        return self.builder.graph.constant(f"{layer}.{role}", self._values(role, layer))

    def _silu(self, x: str, label: str) -> str:
        graph = self.builder.graph
        return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{label}.sigmoid")], f"{label}.silu")

    def _by_head(self, x: str, size: int) -> str:
        shape = self.builder.graph.constant(f"delta.split.{size}", np.array([0, 0, -1, size]))
        return self.builder.graph.node("Reshape", [x, shape], f"{x}.heads")

    def _joined(self, x: str) -> str:
        shape = self.builder.graph.constant("delta.join", np.array([0, 0, -1]))
        return self.builder.graph.node("Reshape", [x, shape], f"{x}.joined")
