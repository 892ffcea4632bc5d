"""Self-attention as one GroupQueryAttention node, which also rotates queries and keys and keeps the cache.

Operator: onnxruntime docs/ContribOperators.md (GroupQueryAttention, RotaryEmbedding).
"""

import numpy as np

from export.onnx.builder import Builder
from export.onnx.nodes import MICROSOFT
from export.onnx.positions import Positions
from export.onnx.rotary import Rotary, rotary
from runtime.errors import RequestError


class Attention:
    """The attention of every layer, by layer; methods append nodes and return the output's name."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        config = builder.config
        self.builder, self.positions = builder, positions
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head = config.get("head_dim") or config["hidden_size"] // self.heads
        multiplier = builder.decoder.attention_multiplier
        self.scale = builder.factor(multiplier) if multiplier else self.head**-0.5
        self.positioned = builder.decoder.rotates(config)
        self.rotary = rotary(config, self.head) if self.positioned else Rotary(np.zeros(0, np.float32), 1.0, 0)
        self._windows = [self._window(layer) for layer in range(config["num_hidden_layers"])]

    def cache(self, layer: int, side: str) -> dict[str, tuple[int, list]]:
        """Inputs (side ``past``) or outputs (``present``) of a layer, with data type and shape."""
        prefix = {"past": "past_key_values", "present": "present"}[side]
        kind = self.builder.graph.type, ["batch_size", self.kv_heads, side, self.head]
        return {f"{prefix}.{layer}.{part}": kind for part in ("key", "value")}

    def mix(self, x: str, layer: int) -> str:
        """What the heads make of hidden states [B, S, hidden]; ``output`` projects it back."""
        builder = self.builder
        query, key, value = self.projections(x, layer)
        past, present = ([*self.cache(layer, side)] for side in ("past", "present"))
        attributes = {"num_heads": self.heads, "kv_num_heads": self.kv_heads, "scale": self.scale}
        tables = ["", ""]
        if self._rotates(layer) and not builder.decoder.norm_after_rotary:
            tables = self._tables()
            attributes |= {"do_rotary": 1, "rotary_interleaved": int(builder.decoder.rotary_interleaved)}
        if self._windows[layer]:
            attributes["local_window_size"] = self._windows[layer]
        inputs = [query, key, value, *past, self.positions.last, self.positions.total, *tables]
        if builder.tensors.has("sinks", layer=layer):
            sinks = builder.graph.constant(f"{layer}.sinks", builder.tensors.values("sinks", layer=layer))
            inputs += ["", "", sinks]
        mixed = builder.graph.node(
            "GroupQueryAttention", inputs, [f"{layer}.attention", *present], MICROSOFT, **attributes
        )
        return self.values_of(mixed)

    def output(self, mixed: str, layer: int) -> str:
        return self.builder.linear("attention_output", mixed, layer)

    def projections(self, x: str, layer: int) -> tuple[str, str, str]:
        """Queries, keys and values [B, S, heads * head]; or, in the queries' place, all three in turn."""
        builder, has = self.builder, self.builder.tensors.has
        packed = builder.linears(["query", "key", "value"], "qkv", x, layer)
        normed, late = has("query_norm", layer=layer), builder.decoder.norm_after_rotary and self._rotates(layer)
        if not normed and not late:
            return packed, "", ""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        scales = [builder.scale(f"{role}_norm", layer) for role in ("query", "key")] if normed else []
        if builder.decoder.norm == "rms" and not late and all(scale.size == self.head for scale in scales):
            both, value = builder.split(packed, [queries + keys, keys], "queries_keys", "value")
            both = self._normed_by_head(both, scales[0], scales[1], f"{layer}.queries_keys")
            return builder.graph.node("Concat", [both, value], f"{layer}.qkv.normed", axis=-1), "", ""
        query, key, value = builder.split(packed, [queries, keys, keys], "query", "key", "value")
        return self._finished("query", query, layer), self._finished("key", key, layer), value

    def values_of(self, mixed: str) -> str:
        """The operator's output as the output projection takes it."""
        return mixed

    def _window(self, layer: int) -> int:
        """How many tokens a position sees, itself included; 0: all of them."""
        config, key = self.builder.config, self.builder.decoder.sliding_window
        uses = config.get("use_sliding_window")
        if uses and not key:
            raise RequestError("The ONNX export does not know sliding-window attention of this family.")
        if not key or uses is False:
            return 0
        types = config.get("layer_types")
        if uses and types is None:
            raise RequestError("config.json does not say by layer_types which layers have sliding-window attention.")
        return (config.get(key) or 0) if types is None or types[layer] == "sliding_attention" else 0

    def _rotates(self, layer: int) -> bool:
        if not self.positioned:
            return False
        return not self.builder.decoder.rotary_in_windows_only or not any(self._windows) or self._windows[layer] > 0

    def _tables(self) -> list[str]:
        """Cosines and sines [positions, rotated / 2]."""
        graph, weights, names = self.builder.graph, self.builder.weights, ["rotary.cos", "rotary.sin"]
        if names[0] not in weights:
            shape = self.rotary.positions, len(self.rotary.frequencies)
            tables = [(name, graph.type, shape) for name in names]
            weights.declare(tables, lambda: [tuple(each.astype(graph.dtype) for each in self.rotary.tables())])
        return [weights.use(name) for name in names]

    def _normed_by_head(self, x: str, query: np.ndarray, key: np.ndarray, label: str) -> str:
        """RMS norm of each head of queries and keys [B, S, (heads + kv_heads) * head], by the scales [head] of both.

        The scales are a product of their own: onnxruntime's norm takes three times as long where heads have several.
        """
        graph = self.builder.graph
        ones = graph.constant("heads.ones", np.ones(self.head, np.float32))
        scales = np.concatenate([np.tile(query, self.heads), np.tile(key, self.kv_heads)])
        x = self._by_head(x)
        x = graph.node("RMSNormalization", [x, ones], f"{label}.normed", axis=-1, epsilon=self.builder.epsilon)
        return graph.node("Mul", [self._joined(x), graph.constant(f"{label}.scale", scales)], f"{label}.scaled")

    def _finished(self, role: str, x: str, layer: int) -> str:
        """Queries or keys [B, S, heads * head], rotated already and normalised where the family does that."""
        builder, norm = self.builder, f"{role}_norm"
        if builder.decoder.norm_after_rotary and self._rotates(layer):
            x = self._rotated(role, x)
        if not builder.tensors.has(norm, layer=layer):
            return x
        if builder.tensors.values(norm, layer=layer).size != self.head:
            return builder.norm(norm, x, layer)
        return self._joined(builder.norm(norm, self._by_head(x), layer))

    def _by_head(self, x: str, size: int | None = None) -> str:
        """[B, S, heads * size] as [B, S, heads, size]; ``size`` is that of a head, unless given."""
        size = size or self.head
        heads = self.builder.graph.constant(f"heads.split.{size}", np.array([0, 0, -1, size]))
        return self.builder.graph.node("Reshape", [x, heads], f"{x}.heads")

    def _joined(self, x: str) -> str:
        whole = self.builder.graph.constant("heads.join", np.array([0, 0, -1]))
        return self.builder.graph.node("Reshape", [x, whole], f"{x}.joined")

    def _rotated(self, role: str, x: str) -> str:
        heads = self.heads if role == "query" else self.kv_heads
        rotated = 2 * len(self.rotary.frequencies)
        attributes = {"num_heads": heads, "rotary_embedding_dim": rotated} if rotated != self.head else {}
        return self.builder.graph.node(
            "RotaryEmbedding",
            [x, self.positions.ids, *self._tables()],
            f"{x}.rotated",
            MICROSOFT,
            interleaved=int(self.builder.decoder.rotary_interleaved),
            **attributes,
        )
