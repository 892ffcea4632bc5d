"""Where each sequence of a batch stands, from ``attention_mask`` [B, past + S].

The operators want sequences padded on the right, and the cache holds them so. Callers may pad on the left, as
transformers does: such a prompt is turned round on its way in, and its hidden states are turned back before the logits.
"""

from functools import cached_property

import numpy as np
from onnx import TensorProto

from export.onnx.nodes import Graph


class Positions:
    """Names of what the mask tells; nodes for it are appended where it is first asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def _constant(self, name: str, value: list[int] | int) -> str:
        return self._graph.constant(f"mask.{name}", np.array(value))

    @cached_property
    def _used(self) -> str:
        """Tokens of each sequence so far, the new ones included: int64 [B, 1]."""
        return self._graph.node("ReduceSum", ["attention_mask", self._constant("axis", [1])], "mask.used", keepdims=1)

    @cached_property
    def _given(self) -> str:
        """New tokens of the longest sequence: int64 [1]."""
        return self._graph.node("Shape", ["input_ids"], "ids.length", start=1, end=2)

    @cached_property
    def _longest(self) -> str:
        """Tokens of the longest sequence so far: int64 [1]."""
        return self._graph.node("Shape", ["attention_mask"], "mask.length", start=1, end=2)

    @cached_property
    def steps(self) -> str:
        """0, 1, 2, ... for the new tokens: int64 [S]."""
        length = self._graph.node("Squeeze", [self._given], "ids.length.scalar")
        return self._graph.node("Range", [self._constant("zero", 0), length, self._constant("one", 1)], "ids.steps")

    @cached_property
    def _padding(self) -> str:
        """Padding on the left, which is there if the last column of the mask is not: int64 [B, 1]."""
        graph = self._graph
        last = graph.node("Gather", ["attention_mask", self._constant("end", [-1])], "mask.end.used", axis=1)
        return graph.node("Mul", [graph.node("Sub", [self._longest, self._used], "mask.unused"), last], "mask.left")

    @cached_property
    def last(self) -> str:
        """The last position of each sequence: int32 [B]."""
        graph = self._graph
        used = graph.node("Reshape", [self._used, self._constant("flat", [-1])], "mask.used.flat")
        last = graph.node("Sub", [used, self._constant("one", 1)], "mask.last")
        return graph.node("Cast", [last], "mask.last.int32", to=TensorProto.INT32)

    @cached_property
    def total(self) -> str:
        """The length of the longest sequence so far: int32 [1]."""
        return self._graph.node("Cast", [self._longest], "mask.length.int32", to=TensorProto.INT32)

    @cached_property
    def new(self) -> str:
        """New tokens of each sequence: int64 [B, 1]. A prompt may be shorter than the longest; later ones are not."""
        return self._graph.node("Min", [self._used, self._given], "ids.new")

    @cached_property
    def ids(self) -> str:
        """Positions of the new tokens: int64 [B, S]."""
        past = self._graph.node("Sub", [self._used, self.new], "ids.past")
        return self._graph.node("Add", [past, self.steps], "ids.positions")

    def padded_right(self, ids: str) -> str:
        """``ids`` [B, S], sequences that are padded on the left turned round. A single new token stays where it is."""
        graph = self._graph
        where = graph.node("Add", [self.steps, self._padding], "ids.from")
        where = graph.node("Mod", [where, self._given], "ids.from.within")
        return graph.node("GatherElements", [ids, where], "ids.right", axis=1)

    @cached_property
    def as_given(self) -> str:
        """For each of the caller's positions, where its hidden state is: int64 [B, S, 1]."""
        graph = self._graph
        where = graph.node("Sub", [self.steps, self._padding], "ids.to")
        where = graph.node("Mod", [where, self._given], "ids.to.within")
        return graph.node("Unsqueeze", [where, self._constant("end", [-1])], "ids.to.rows")
