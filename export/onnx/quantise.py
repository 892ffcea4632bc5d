"""How weights are stored and multiplied: as float32, or as 4- or 8-bit integers in blocks with one scale each.

Both classes emit the same four things (embedding, linear layer, experts, output layer), so the graph is written once.
Operators and layouts: onnxruntime docs/ContribOperators.md (MatMulNBits, QMoE, MoE, GatherBlockQuantized, FusedMatMul).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from onnx import TensorProto

from export.onnx.nodes import MICROSOFT, Graph
from export.onnx.tensors import Matrix
from runtime.errors import RequestError

BLOCK = 32  # weights along a row that share a scale
# Where the extreme of a block is tried on the integer axis: clipping it a little often serves the other 31 better.
_RANGES = {4: np.linspace(7.0, 9.0, 9), 8: np.array([128.0])}


def quantise(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantise blocks of a row to ``w = scale * (q - 2^(bits-1))``, scales by least squares.

    Of the ranges tried, the one with the least squared error is kept (llama.cpp's ``make_qx_quants`` does the same).

    Args:
        weights: float32 [rows, columns]; columns a multiple of ``BLOCK``.
        bits: 4 or 8.

    Returns:
        q as uint8 [rows, columns * bits / 8] (of two 4-bit integers the first is in the low half), and float32 scales
        [rows, columns / BLOCK].
    """
    rows, columns = weights.shape
    zero = 1 << (bits - 1)
    blocks = weights.reshape(-1, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    extreme[extreme == 0] = 1
    best = np.full(len(blocks), -1, np.float32)
    scales = np.zeros(len(blocks), np.float32)
    integers = np.zeros_like(blocks)
    for reach in _RANGES[bits]:
        q = np.clip(np.rint(blocks * (-np.float32(reach) / extreme)), -zero, zero - 1)
        product, square = np.einsum("bi,bi->b", blocks, q), np.einsum("bi,bi->b", q, q)
        scale = product / np.maximum(square, 1)
        gain = product * scale  # the squared error is |blocks|^2 less this
        better = gain > best
        best[better], scales[better], integers[better] = gain[better], scale[better], q[better]
    packed = (integers + zero).astype(np.uint8).reshape(rows, columns)
    if bits == 4:
        packed = packed[:, 0::2] | packed[:, 1::2] << 4
    return packed, scales.reshape(rows, -1)


class Storage(Protocol):
    """Emits the operators that hold weights; each method returns the name of its output."""

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str: ...

    def linear(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str: ...

    def output(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str: ...

    def experts(self, graph: Graph, x: str, router: str, up: Matrix, down: Matrix, output: str, **routing: int) -> str:
        """Routed SwiGLU experts.

        Args:
            x: hidden states [B, S, hidden].
            router: router logits [B * S, experts].
            up: [experts, 2 * inner, hidden], rows of gate and up projection in turn.
            down: [experts, hidden, inner].
            routing: ``k`` and ``normalize_routing_weights``.
        """
        ...


# SiLU(gate) * up: the operators' general form is gate * sigmoid(alpha * gate) * (up + beta). The CPU kernels know
# interleaved rows (swiglu_fusion=1) only.
_SWIGLU = {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0}


@dataclass(frozen=True)
class Float32:
    """Weights as they are, in float32; a tied embedding is one tensor used twice."""

    def _store(self, graph: Graph, matrix: Matrix) -> str:
        if matrix.name not in graph.weights:
            graph.weights.declare(
                [(matrix.name, TensorProto.FLOAT, matrix.shape)], lambda: ((piece,) for piece in matrix.pieces())
            )
        return graph.weights.use(matrix.name)

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        return graph.node("Gather", [self._store(graph, matrix), ids], "embedding")

    def linear(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return graph.node("FusedMatMul", [x, self._store(graph, matrix)], output, MICROSOFT, transB=1)

    output = linear

    def experts(self, graph: Graph, x: str, router: str, up: Matrix, down: Matrix, output: str, **routing: int) -> str:
        inputs = [x, router, self._store(graph, up), "", self._store(graph, down)]
        return graph.node("MoE", inputs, output, MICROSOFT, **_SWIGLU, **routing)


@dataclass(frozen=True)
class Blockwise:
    """Weights in blocks of integers. Embedding and output layer always have 8 bits: they are few and matter most."""

    bits: int
    accuracy_level: int  # 4: activations in int8, too, where the kernel can; 0: in float32

    def _store(self, graph: Graph, matrix: Matrix, bits: int, shape: tuple[int, ...] | None = None) -> tuple[str, str]:
        """Initialisers of integers, in their own or another ``shape``, and of scales."""
        *rows, columns = matrix.shape
        if columns % BLOCK:
            raise RequestError(f"{matrix.name} has rows of {columns}, not a multiple of {BLOCK}: use --quant none.")

        def values() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            step = max(1, (1 << 18) // columns)  # rows at a time: the temporaries stay in the processor's cache
            for piece in matrix.pieces():
                for start in range(0, len(piece), step):
                    yield quantise(piece[start : start + step], bits)

        names = f"{matrix.name}.q{bits}", f"{matrix.name}.scales"
        if names[0] not in graph.weights:
            shapes = (*rows, columns * bits // 8), (*rows, columns // BLOCK)
            dtypes = TensorProto.UINT8, TensorProto.FLOAT
            graph.weights.declare(list(zip(names, dtypes, shapes, strict=True)), values)
        return graph.weights.use(names[0], shape), graph.weights.use(names[1])

    def _multiply(self, graph: Graph, x: str, matrix: Matrix, output: str, bits: int) -> str:
        rows, columns = matrix.shape
        packed, scales = self._store(graph, matrix, bits, (rows, columns // BLOCK, BLOCK * bits // 8))
        attributes = {"K": columns, "N": rows, "bits": bits, "block_size": BLOCK, "accuracy_level": self.accuracy_level}
        return graph.node("MatMulNBits", [x, packed, scales], output, MICROSOFT, **attributes)

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        packed, scales = self._store(graph, matrix, 8)
        attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return graph.node("GatherBlockQuantized", [packed, ids, scales], "embedding", MICROSOFT, **attributes)

    def linear(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return self._multiply(graph, x, matrix, output, self.bits)

    def output(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return self._multiply(graph, x, matrix, output, 8)

    def experts(self, graph: Graph, x: str, router: str, up: Matrix, down: Matrix, output: str, **routing: int) -> str:
        inputs = [x, router, *self._store(graph, up, self.bits), "", *self._store(graph, down, self.bits)]
        # No accuracy_level: onnxruntime 1.30 (transformers.js) knows none for QMoE; see runtime/engines/onnx_load.py.
        attributes = {"expert_weight_bits": self.bits, "block_size": BLOCK}
        return graph.node("QMoE", inputs, output, MICROSOFT, **_SWIGLU, **attributes, **routing)
