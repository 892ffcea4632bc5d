"""Attention of models with an encoder, as MultiHeadAttention nodes: within the source, within the target, and across.

Operator: onnxruntime docs/ContribOperators.md (MultiHeadAttention).
"""

import numpy as np
from onnx import TensorProto

from export.onnx.builder import Builder
from export.onnx.nodes import MICROSOFT


class Heads:
    """What the three kinds share. Layers are numbered through, the encoder's first, as the checkpoint has them."""

    def __init__(self, builder: Builder, heads: int, first: int) -> None:
        self.builder, self.heads, self.first = builder, heads, first
        self.head = builder.config["d_model"] // heads

    def cache(self, layer: int, side: str, of: str) -> dict[str, tuple[int, list]]:
        """Inputs (side ``past``) or outputs (``present``) that hold keys and values ``of`` "encoder" or "decoder"."""
        prefix = {"past": "past_key_values", "present": "present"}[side]
        kind = TensorProto.FLOAT, ["batch_size", self.heads, f"{side}_{of}", self.head]
        return {f"{prefix}.{layer - self.first}.{of}.{part}": kind for part in ("key", "value")}

    def attend(self, layer: int, inputs: list[str], present: list[str] | None = None, causal: bool = False) -> str:
        """The node itself; ``inputs`` as the operator has them."""
        label = f"{layer}.{'decoder' if causal else 'source'}.attention"
        return self.builder.graph.node(
            "MultiHeadAttention",
            inputs,
            [label, *(present or [])],
            MICROSOFT,
            num_heads=self.heads,
            unidirectional=int(causal),
        )


class SourceAttention(Heads):
    """Of every source token to all others, but not to padding."""

    def __init__(self, builder: Builder, heads: int, mask: str) -> None:
        super().__init__(builder, heads, 0)
        self.mask = mask  # int32 [B, source], 0: padding

    def __call__(self, x: str, layer: int) -> str:
        projected = [self.builder.linear(role, x, layer) for role in ("query", "key", "value")]
        return self.builder.linear("attention_output", self.attend(layer, [*projected, "", self.mask]), layer)


class TargetAttention(Heads):
    """Of every target token to itself and those before it, which are in the cache."""

    def __call__(self, x: str, layer: int) -> str:
        projected = [self.builder.linear(role, x, layer) for role in ("query", "key", "value")]
        past, present = ([*self.cache(layer, side, "decoder")] for side in ("past", "present"))
        mixed = self.attend(layer, [*projected, "", "", "", *past], present, causal=True)
        return self.builder.linear("attention_output", mixed, layer)


class CrossAttention(Heads):
    """Of every target token to the encoder's output, whose keys and values are computed once.

    They are the cached ones and those of the rows for which none are cached yet: all rows at first, and then none.
    """

    def __init__(self, builder: Builder, heads: int, first: int, states: str, mask: str) -> None:
        super().__init__(builder, heads, first)
        graph, self.mask = builder.graph, mask
        known = graph.node("Shape", [next(iter(self.cache(first, "past", "encoder")))], "cross.known", start=2, end=3)
        bounds = graph.constant("cross.end", np.array([np.iinfo(np.int64).max]))
        axis = graph.constant("cross.axis", np.array([1]))
        self.new = graph.node("Slice", [states, known, bounds, axis], "cross.new")

    def __call__(self, x: str, layer: int) -> str:
        query = self.builder.linear("cross_query", x, layer)
        past, present = ([*self.cache(layer, side, "encoder")] for side in ("past", "present"))
        for role, before, after in zip(("cross_key", "cross_value"), past, present, strict=True):
            self._extend(role, before, after, layer)
        return self.builder.linear("cross_output", self.attend(layer, [query, *present, "", self.mask]), layer)

    def _extend(self, role: str, past: str, present: str, layer: int) -> None:
        graph = self.builder.graph
        shape = graph.constant("cross.heads", np.array([0, 0, self.heads, self.head]))
        new = graph.node("Reshape", [self.builder.linear(role, self.new, layer), shape], f"{present}.heads")
        new = graph.node("Transpose", [new], f"{present}.new", perm=[0, 2, 1, 3])
        graph.node("Concat", [past, new], present, axis=2)
