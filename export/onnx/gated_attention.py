"""Attention whose output has a gate for each number, computed with the queries, as Qwen3-Next has it."""

import numpy as np

from export.onnx.attention import Attention
from export.onnx.builder import Builder
from export.onnx.positions import Positions


class GatedAttention(Attention):
    """Each head's rows of the query projection are its query, and then its gate."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        self._gate = ""

    def projections(self, x: str, layer: int) -> tuple[str, str, str]:
        builder, size = self.builder, self.heads * self.head
        rows = np.arange(2 * size).reshape(self.heads, 2, self.head).swapaxes(0, 1).reshape(-1)
        both = builder.linear("query", x, layer, order=rows)
        query, self._gate = builder.split(both, [size, size], "query", "gate")
        packed, keys = builder.linears(["key", "value"], "kv", x, layer), self.kv_heads * self.head
        key, value = builder.split(packed, [keys, keys], "key", "value")
        return self._finished("query", query, layer), self._finished("key", key, layer), value

    def values_of(self, mixed: str) -> str:
        graph = self.builder.graph
        gate = graph.node("Sigmoid", [self._gate], f"{mixed}.gate")
        return graph.node("Mul", [mixed, gate], f"{mixed}.gated")
