"""Where each sequence of a batch stands, from ``attention_mask`` [B, past + S], which is padded on the right."""

from functools import cached_property

import numpy as np
from onnx import TensorProto

from export.onnx.nodes import Graph


class Positions:
    """Names of what the mask tells; nodes for it are appended where it is first asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def _used(self) -> str:
        """Tokens of each sequence so far, the new ones included: int64 [B, 1]."""
        axis = self._graph.constant("mask.axis", np.array([1]))
        return self._graph.node("ReduceSum", ["attention_mask", axis], "mask.used", keepdims=1)

    @cached_property
    def _given(self) -> str:
        """New tokens of the longest sequence: int64 [1]."""
        return self._graph.node("Shape", ["input_ids"], "ids.length", start=1, end=2)

    @cached_property
    def last(self) -> str:
        """The last position of each sequence: int32 [B]."""
        graph = self._graph
        last = graph.node("Sub", [self._used, graph.constant("mask.one", np.array(1))], "mask.last")
        flat = graph.node("Reshape", [last, graph.constant("mask.flat", np.array([-1]))], "mask.last.flat")
        return graph.node("Cast", [flat], "mask.last.int32", to=TensorProto.INT32)

    @cached_property
    def total(self) -> str:
        """The length of the longest sequence so far: int32 [1]."""
        total = self._graph.node("Shape", ["attention_mask"], "mask.length", start=1, end=2)
        return self._graph.node("Cast", [total], "mask.length.int32", to=TensorProto.INT32)

    @cached_property
    def new(self) -> str:
        """New tokens of each sequence: int64 [B, 1]. A prompt may be shorter than the longest; later ones are not."""
        return self._graph.node("Min", [self._used, self._given], "ids.new")

    @cached_property
    def ids(self) -> str:
        """Positions of the new tokens: int64 [B, S]."""
        graph = self._graph
        zero, one = graph.constant("ids.zero", np.array(0)), graph.constant("ids.one", np.array(1))
        length = graph.node("Squeeze", [self._given], "ids.length.scalar")
        steps = graph.node("Range", [zero, length, one], "ids.steps")
        return graph.node("Add", [graph.node("Sub", [self._used, self.new], "ids.past"), steps], "ids.positions")
