"""The graph of an MoE decoder: attention as GroupQueryAttention, experts as one MoE or QMoE node for each layer.

Inputs ``input_ids`` [B, S], ``attention_mask`` [B, past + S] (padded on the right) and ``past_key_values.N.key/value``
[B, KV heads, past, head]; outputs ``logits`` [B, S, vocabulary] and ``present.N.key/value``. Positions come from the
mask. Where past and present share one buffer, it may be longer than the mask, which says how much of it is in use.
The optional input ``num_logits_to_keep`` [1] restricts ``logits`` to the last positions (0, the default: all of them).
"""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from export.onnx.nodes import MICROSOFT, Graph
from export.onnx.quantise import Float32, Storage
from export.onnx.tensors import Tensors
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint
from runtime.errors import RequestError

KEEP = "num_logits_to_keep"


def _rope_theta(config: dict[str, Any]) -> float:
    """Base of the rotary embedding, as transformers 5 (``rope_parameters``) or 4 (``rope_theta``) wrote it."""
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise RequestError(f"The ONNX export knows plain rotary embeddings only, not {kind!r}.")
    return float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))


def _require_plain(config: dict[str, Any]) -> None:
    """Refuse what the graph would silently compute otherwise."""
    if config.get("hidden_act", "silu") != "silu":
        raise RequestError(f"The ONNX export knows the activation 'silu' only, not {config['hidden_act']!r}.")
    if config.get("use_sliding_window"):
        raise RequestError("The ONNX export does not know sliding-window attention, which this model uses.")


class _Decoder:
    """Builds the graph from the checkpoint's sizes; every method appends nodes and returns the output's name."""

    def __init__(self, checkpoint: Checkpoint, storage: Storage, weights: Weights) -> None:
        self.checkpoint, self.storage = checkpoint, storage
        self.config = config = checkpoint.config
        self.tensors, self.graph = Tensors(checkpoint), Graph(weights)
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head = config.get("head_dim") or config["hidden_size"] // self.heads
        self.epsilon = config["rms_norm_eps"]
        self.rope = self._rope(weights)
        self.lengths = self._lengths()

    def _rope(self, weights: Weights) -> list[str]:
        """Cosines and sines [positions, head / 2], in float32 throughout as transformers computes them."""
        exponents = np.arange(0, self.head, 2, dtype=np.float32) / self.head
        frequencies = 1 / np.float32(_rope_theta(self.config)) ** exponents
        angles = np.outer(np.arange(self.config["max_position_embeddings"], dtype=np.float32), frequencies)
        weights.declare([("rope.cos", TensorProto.FLOAT, angles.shape)], lambda: [(np.cos(angles),)])
        weights.declare([("rope.sin", TensorProto.FLOAT, angles.shape)], lambda: [(np.sin(angles),)])
        return [weights.use("rope.cos"), weights.use("rope.sin")]

    def _lengths(self) -> list[str]:
        """From the mask: the last position of each sequence [B], and the longest length."""
        graph = self.graph
        axis, one = graph.constant("mask.axis", np.array([1])), graph.constant("mask.one", np.array(1))
        used = graph.node("ReduceSum", ["attention_mask", axis], "mask.used", keepdims=0)
        last = graph.node("Sub", [used, one], "mask.last")
        total = graph.node("Shape", ["attention_mask"], "mask.length", start=1, end=2)
        return [graph.node("Cast", [name], f"{name}.int32", to=TensorProto.INT32) for name in (last, total)]

    def keep(self, *names: str) -> list[str]:
        """Of hidden states [B, S, hidden] the last ``num_logits_to_keep`` positions, or all where that is 0."""
        graph = self.graph
        start = graph.node("Neg", [graph.optional_input(KEEP, np.array([0]))], "kept.start")
        end = graph.constant("kept.end", np.array([np.iinfo(np.int64).max]))
        axis = graph.constant("kept.axis", np.array([1]))
        return [graph.node("Slice", [name, start, end, axis], f"{name}.kept") for name in names]

    def norm(self, role: str, x: str, **place: int) -> str:
        """RMS norm over the last axis."""
        label = ".".join([*map(str, place.values()), role])
        scale = self.graph.constant(f"{label}.scale", self.tensors.values(role, **place))
        return self.graph.node("RMSNormalization", [x, scale], label, axis=-1, epsilon=self.epsilon)

    def add_norm(self, role: str, x: str, skip: str, **place: int) -> tuple[str, str]:
        """RMS norm of x + skip, and the sum itself."""
        label = ".".join([*map(str, place.values()), role])
        scale = self.graph.constant(f"{label}.scale", self.tensors.values(role, **place))
        outputs = [label, "", "", f"{label}.sum"]
        self.graph.node("SkipSimplifiedLayerNormalization", [x, skip, scale], outputs, MICROSOFT, epsilon=self.epsilon)
        return outputs[0], outputs[3]

    def linear(self, role: str, x: str, layer: int) -> str:
        matrix = self.tensors.matrix(f"{layer}.{role}.weight", role, layer=layer)
        return self.storage.linear(self.graph, x, matrix, f"{layer}.{role}")

    def projection(self, role: str, x: str, layer: int) -> str:
        """Query or key [B, S, heads * head], each head normalised where the family does that."""
        x, norm = self.linear(role, x, layer), f"{role}_norm"
        if not self.tensors.has(norm, layer=layer):
            return x
        heads = self.graph.constant("heads.split", np.array([0, 0, -1, self.head]))
        whole = self.graph.constant("heads.join", np.array([0, 0, -1]))
        x = self.graph.node("Reshape", [x, heads], f"{x}.heads")
        return self.graph.node("Reshape", [self.norm(norm, x, layer=layer), whole], f"{x}.normed")

    def attention(self, x: str, layer: int) -> str:
        query, key = (self.projection(role, x, layer) for role in ("query", "key"))
        value = self.linear("value", x, layer)
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        mixed = self.graph.node(
            "GroupQueryAttention",
            [query, key, value, *past, *self.lengths, *self.rope],
            [f"{layer}.attention", *present],
            MICROSOFT,
            num_heads=self.heads,
            kv_num_heads=self.kv_heads,
            do_rotary=1,
            scale=self.head**-0.5,
        )
        return self.linear("attention_output", mixed, layer)

    def experts(self, x: str, layer: int, count: int) -> str:
        graph, tensors = self.graph, self.tensors
        # Never quantised: a little noise in a router changes which experts run.
        weight = tensors.matrix(f"{layer}.router.weight", "router", layer=layer)
        router = Float32().linear(graph, x, weight, f"{layer}.router")
        rows = graph.constant(f"{layer}.router.shape", np.array([-1, count]))
        normalise = self.config.get(self.checkpoint.family.decoder["normalise_gates"])
        return self.storage.experts(
            graph,
            x,
            graph.node("Reshape", [router, rows], f"{layer}.router.rows"),
            tensors.experts(f"{layer}.experts.up.weight", "expert_gate", "expert_up", layer=layer, experts=count),
            tensors.experts(f"{layer}.experts.down.weight", "expert_down", layer=layer, experts=count),
            f"{layer}.experts",
            k=min(self.checkpoint.top_k, count),
            normalize_routing_weights=int(bool(normalise)),
        )

    def dense(self, x: str, layer: int) -> str:
        """The feed-forward network of a layer without experts."""
        gate, up = self.linear("dense_gate", x, layer), self.linear("dense_up", x, layer)
        silu = self.graph.node("Mul", [gate, self.graph.node("Sigmoid", [gate], f"{layer}.sigmoid")], f"{layer}.silu")
        return self.linear("dense_down", self.graph.node("Mul", [silu, up], f"{layer}.inner"), layer)

    def build(self) -> ModelProto:
        embedding = self.tensors.matrix("embedding.weight", "embedding")
        x = self.storage.embedding(self.graph, "input_ids", embedding)
        normed = self.norm("input_norm", x, layer=0)
        for layer in range(self.layers):
            mixed = self.attention(normed, layer)
            if layer + 1 == self.layers:  # nothing after the last attention looks at other positions
                x, mixed = self.keep(x, mixed)
            normed, x = self.add_norm("post_norm", x, mixed, layer=layer)
            count = self.checkpoint.moe_layers.get(layer)
            mixed = self.experts(normed, layer, count) if count else self.dense(normed, layer)
            if layer + 1 < self.layers:
                normed, x = self.add_norm("input_norm", x, mixed, layer=layer + 1)
            else:
                normed, x = self.add_norm("final_norm", x, mixed)
        tied = not self.tensors.has("output") or self.config.get("tie_word_embeddings")
        output = embedding if tied else self.tensors.matrix("output.weight", "output")
        self.storage.output(self.graph, normed, output, "logits")
        self.tensors.check()
        # transformers.js knows batch_size by that name
        ids, mask = (TensorProto.INT64, ["batch_size", "sequence"]), (TensorProto.INT64, ["batch_size", "total"])
        logits = (TensorProto.FLOAT, ["batch_size", "sequence", output.shape[0]])
        return self.graph.model(
            {"input_ids": ids, "attention_mask": mask} | self._cache("past_key_values", "past"),
            {"logits": logits} | self._cache("present", "present"),
        )

    def _cache(self, side: str, length: str) -> dict[str, tuple[int, list]]:
        kind = TensorProto.FLOAT, ["batch_size", self.kv_heads, length, self.head]
        return {f"{side}.{layer}.{part}": kind for layer in range(self.layers) for part in ("key", "value")}


def build_graph(checkpoint: Checkpoint, storage: Storage, weights: Weights) -> ModelProto:
    """The model's graph; ``weights`` then knows what has to be written beside it.

    Raises:
        RequestError: the family has no [decoder] facts, or the model has parts that the graph does not know.
        WorkError: tensors are missing.
    """
    if not checkpoint.family.decoder:
        raise RequestError(
            f"The ONNX export does not know models of type {checkpoint.family.model_type!r}.",
            next_command=f"slimmoe gguf {checkpoint.folder} -o FILE.gguf",
        )
    _require_plain(checkpoint.config)
    return _Decoder(checkpoint, storage, weights).build()
