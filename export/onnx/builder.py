"""What all parts of the graph share: the checkpoint's facts and tensors, the nodes, and norms and linear layers."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from onnx import TensorProto

from export.onnx.nodes import MICROSOFT, Graph
from export.onnx.quantise import Storage, exact_linear
from export.onnx.tensors import Matrix, Tensors, joined
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint
from prune.families.decoder import Decoder
from runtime.errors import RequestError


def _decoder_of(checkpoint: Checkpoint) -> Decoder:
    if decoder := checkpoint.family.decoder:
        return decoder
    family = checkpoint.family
    sentence = f"The ONNX export does not know models of type {family.model_type!r}"
    sentence += f": {family.onnx_refused}." if family.onnx_refused else "."
    other = None if family.gguf.refused else f"slimmoe gguf {checkpoint.folder} -o FILE.gguf"
    raise RequestError(sentence, next_command=other)


class _Config(dict[str, Any]):
    """config.json with the family's defaults; a key that is in neither is a sentence."""

    def __missing__(self, key: str) -> NoReturn:
        raise RequestError(f"config.json has no {key!r}, which the ONNX export needs.")


class Builder:
    """Appends nodes to a graph; every method returns the name of its output."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        storage: Storage,
        weights: Weights,
        tensors: Tensors | None = None,
        half: bool = False,
    ) -> None:
        """Begin a graph; ``tensors`` are those of another graph of the same model, if only both together use all.

        With ``half`` activations are float16.

        Raises:
            RequestError: the family has no [decoder] section, or the config asks for what no graph computes.
        """
        self.decoder = decoder = _decoder_of(checkpoint)
        self.checkpoint, self.storage, self.weights = checkpoint, storage, weights
        given = {key: value for key, value in checkpoint.config.items() if value is not None}
        self.config = _Config({"num_hidden_layers": checkpoint.layer_count} | decoder.defaults | given)
        self.tensors, self.graph = tensors or Tensors(checkpoint, decoder), Graph(weights, half)
        self.epsilon = float(self.config[decoder.epsilon])
        for key, expected in ({"hidden_act": "silu"} | decoder.fixed).items():
            value = self.config.get(key, expected)
            if (bool(value) if isinstance(expected, bool) else value) != expected:
                raise RequestError(f"The ONNX export knows {key} {expected!r} only, not {value!r}.")

    def factor(self, key: str | None) -> float:
        """A factor by the key of its value; 1 where the family or the config has none."""
        return float(self.config.get(key, 1.0)) if key else 1.0

    def scaled(self, x: str, factor: float) -> str:
        if factor == 1:
            return x
        return self.graph.node(
            "Mul", [x, self.graph.constant(f"{x}.factor", np.array(factor, np.float32))], f"{x}.scaled"
        )

    def embedding(self, ids: str) -> tuple[str, Matrix]:
        """Embeddings of ids [B, S] as the first layer takes them, and their table."""
        matrix = self.tensors.matrix("embedding.weight", "embedding")
        self.tensors.leave_out("embedding")
        x = self.storage.embedding(self.graph, ids, matrix)
        factor = self.factor(self.decoder.embedding_multiplier)
        if self.decoder.embedding_root and self.config[self.decoder.embedding_root]:
            factor *= matrix.shape[1] ** 0.5
        return self.scaled(x, factor), matrix

    def logits(self, x: str, embedding: Matrix) -> int:
        """The output layer; returns the size of the vocabulary."""
        x = self.scaled(x, 1 / self.factor(self.decoder.logits_divisor))
        tied = not self.tensors.has("output") or self.config.get("tie_word_embeddings")
        if tied:
            self.tensors.leave_out("output")
        output = embedding if tied else self.tensors.matrix("output.weight", "output")
        bias = self.tensors.bias("output")
        name = "logits.half" if self.graph.half else "logits"
        plain = self.storage.output(self.graph, x, output, name if bias is None else "logits.plain")
        self.biased(plain, bias, name)
        if self.graph.half:
            self.graph.node("Cast", [name], "logits", to=TensorProto.FLOAT)
        return output.shape[0]

    def linear(self, role: str, x: str, layer: int, exact: bool = False, order: np.ndarray | None = None) -> str:
        """A linear layer with its bias, if it has one.

        Args:
            exact: never quantise it, and compute it in float32, as which the output comes (``Graph.narrowed``).
            order: its outputs in another order.
        """
        label = f"{layer}.{role}"
        matrix = self.tensors.matrix(f"{label}.weight", role, order, layer=layer)
        bias = self.tensors.bias(role, layer=layer)
        bias = bias if bias is None or order is None else bias[order]
        product = exact_linear if exact else self.storage.linear
        return self.biased(product(self.graph, x, matrix, label), bias, exact=exact)

    def linears(self, roles: Sequence[str], label: str, x: str, layer: int) -> str:
        """Linear layers of the same input as one product, which is faster; their outputs are one after the other."""
        matrices = [self.tensors.matrix(f"{layer}.{role}.weight", role, layer=layer) for role in roles]
        biases = [self.tensors.bias(role, layer=layer) for role in roles]
        bias = None
        if any(each is not None for each in biases):
            zeros = (np.zeros(matrix.shape[0], np.float32) for matrix in matrices)
            bias = np.concatenate([zero if each is None else each for each, zero in zip(biases, zeros)])
        weight = joined(f"{layer}.{label}.weight", matrices)
        return self.biased(self.storage.linear(self.graph, x, weight, f"{layer}.{label}"), bias)

    def split(self, x: str, sizes: Sequence[int], *names: str) -> list[str]:
        """The last axis in parts."""
        counts = self.graph.constant("split." + ".".join(map(str, sizes)), np.array(sizes))
        self.graph.node("Split", [x, counts], outputs := [f"{x}.{name}" for name in names], axis=-1)
        return outputs

    def biased(self, x: str, bias: np.ndarray | None, output: str = "", exact: bool = False) -> str:
        if bias is None:
            return x
        return self.graph.node("Add", [x, self.graph.constant(f"{x}.bias", bias, exact)], output or f"{x}.biased")

    def norm(self, role: str, x: str, layer: int | None = None, epsilon: float | None = None) -> str:
        """RMS or layer norm over the last axis; ``epsilon`` where it is not that of the config."""
        label, inputs = self._norm(role, layer)
        kind = {"rms": "RMSNormalization", "layer": "LayerNormalization"}[self.decoder.norm]
        return self.graph.node(kind, [x, *inputs], label, axis=-1, epsilon=epsilon or self.epsilon)

    def scale(self, role: str, layer: int | None = None) -> np.ndarray:
        """What a norm multiplies by; some families store how far that is from 1."""
        place = {} if layer is None else {"layer": layer}
        return self.tensors.values(role, **place) + np.float32(self.decoder.norm_offset)

    def add_norm(self, role: str, x: str, skip: str, layer: int | None = None) -> tuple[str, str]:
        """The norm of x + skip, and the sum itself; twice the sum where the family has no such norm."""
        if role not in self.decoder.layer | self.decoder.model:
            total = self.graph.node("Add", [x, skip], f"{skip}.sum")
            return total, total
        label, inputs = self._norm(role, layer)
        kind = {"rms": "SkipSimplifiedLayerNormalization", "layer": "SkipLayerNormalization"}[self.decoder.norm]
        outputs = [label, "", "", f"{label}.sum"]
        self.graph.node(kind, [x, skip, *inputs], outputs, MICROSOFT, epsilon=self.epsilon)
        return outputs[0], outputs[3]

    def _norm(self, role: str, layer: int | None) -> tuple[str, list[str]]:
        place = {} if layer is None else {"layer": layer}
        label = ".".join([*map(str, place.values()), role])
        parts = {"scale": self.scale(role, layer), "bias": self.tensors.bias(role, **place)}
        return label, [self.graph.constant(f"{label}.{part}", v) for part, v in parts.items() if v is not None]
