"""How weights are stored and multiplied: as floats, or as 4- or 8-bit integers in blocks with one scale each.

All classes emit the same four things (embedding, linear layer, experts, output layer), so the graph is written once.
Operators and layouts: onnxruntime docs/ContribOperators.md (MatMulNBits, QMoE, MoE, GatherBlockQuantized, FusedMatMul).
Whatever the file holds in float16 is cast in a graph of float32: the runtime does that once, when it loads the file, since its
kernels for the CPU compute in float32 alone. A graph of float16 takes it as it is.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from onnx import TensorProto

from export.onnx.blocks import Blocks, quantise
from export.onnx.nodes import MICROSOFT, Graph
from export.onnx.tensors import Matrix
from runtime.errors import RequestError
from runtime.machine import usable_cores

_CHUNK = 1 << 18  # weights that are quantised at a time: the temporaries stay in the processor's cache


class Storage(Protocol):
    """Emits the operators that hold weights; each method returns the name of its output."""

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str: ...

    def linear(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str: ...

    def output(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str: ...

    def experts(
        self,
        graph: Graph,
        x: str,
        router: str,
        up: Matrix,
        down: Matrix,
        output: str,
        up_bias: str = "",
        down_bias: str = "",
        **attributes: float | str,
    ) -> str:
        """Routed experts.

        Args:
            x: hidden states [B, S, hidden].
            router: router logits [B * S, experts].
            up: [experts, 2 * inner, hidden], rows of gate and up projection in turn; [experts, inner, hidden] of experts
                without a gate.
            down: [experts, hidden, inner].
            up_bias: [experts, rows of up] in the same order; empty where there is none.
            down_bias: [experts, hidden]; empty where there is none.
            attributes: ``k``, ``normalize_routing_weights``, and the activation's.
        """
        ...


def _from_float16(graph: Graph, name: str) -> str:
    """What the file holds in float16, in the type of the activations."""
    return name if graph.half else graph.in_float32(name)


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

    def output(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return self.linear(graph, x, matrix, output)

    def experts(
        self,
        graph: Graph,
        x: str,
        router: str,
        up: Matrix,
        down: Matrix,
        output: str,
        up_bias: str = "",
        down_bias: str = "",
        **attributes: float | str,
    ) -> str:
        inputs = [x, router, self._store(graph, up), up_bias, self._store(graph, down), down_bias]
        return graph.node("MoE", inputs, output, MICROSOFT, **attributes)


def exact_linear(graph: Graph, x: str, matrix: Matrix, output: str) -> str:
    """A linear layer in float32, which no graph rounds: for the small matrices whose noise costs most.

    Its weight lies transposed in the file, for the plain product that every execution provider has.
    """
    name = f"{matrix.name}.transposed"
    shape = matrix.shape[::-1]
    graph.weights.declare([(name, TensorProto.FLOAT, shape)], lambda: [(np.concatenate([*matrix.pieces()]).T,)])
    return graph.node("MatMul", [graph.widened(x), graph.weights.use(name)], output)


@dataclass(frozen=True)
class Float16(Float32):
    """Weights rounded to float16 in the file; in memory, and in all arithmetic, they are float32 again."""

    def _store(self, graph: Graph, matrix: Matrix) -> str:
        return _from_float16(graph, self._rounded(graph, matrix))

    def _rounded(self, graph: Graph, matrix: Matrix) -> str:
        def values() -> Iterator[tuple[np.ndarray]]:
            for piece in matrix.pieces():
                with np.errstate(over="ignore"):
                    rounded = piece.astype(np.float16)
                if not np.isfinite(rounded).all():
                    raise RequestError(f"{matrix.name} has weights beyond float16's range: use --quant none.")
                yield (rounded,)

        name = f"{matrix.name}.float16"
        if name not in graph.weights:
            graph.weights.declare([(name, TensorProto.FLOAT16, matrix.shape)], values)
        return graph.weights.use(name)

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        return _from_float16(graph, graph.node("Gather", [self._rounded(graph, matrix), ids], "embedding"))


@dataclass(frozen=True)
class Blockwise:
    """Weights in blocks of integers, in a way of their own for experts, for embedding and output layer, for all others."""

    of_experts: Blocks
    of_vocabulary: Blocks
    of_others: Blocks  # or smaller, where a row is no multiple of them
    accuracy_level: int  # 4: activations in int8, too, where the kernel can; 0: in float32

    def _store(self, graph: Graph, matrix: Matrix, kind: Blocks, shape: tuple[int, ...] | None = None) -> list[str]:
        """Integers, in their own or another ``shape``, scales and, where the kind has them, zero points."""
        *rows, columns = matrix.shape
        if columns % kind.size:
            remedy = "--quant fp16" if columns % 32 else "--block 32"
            raise RequestError(f"{matrix.name} has rows of {columns}, not a multiple of {kind.size}: use {remedy}.")

        def values() -> Iterator[tuple[np.ndarray, ...]]:
            step = max(1, _CHUNK // columns)
            with ThreadPoolExecutor(usable_cores()) as pool:  # numpy lets other threads run while it computes
                for piece in matrix.pieces():
                    chunks = [piece[start : start + step] for start in range(0, len(piece), step)]
                    yield from pool.map(lambda chunk: quantise(chunk, kind), chunks)

        integers, scales, zeros = (f"{matrix.name}.{part}" for part in ("integers", "scales", "zeros"))
        if integers not in graph.weights:
            tensors = [
                (integers, TensorProto.UINT8, (*rows, columns * kind.bits // 8)),
                (scales, TensorProto.FLOAT16, (*rows, columns // kind.size)),
                (zeros, TensorProto.UINT8, (*rows, -(-columns // kind.size * kind.bits // 8))),
            ]
            graph.weights.declare(tensors if kind.zero_points else tensors[:2], values)
        factors = _from_float16(graph, graph.weights.use(scales))
        names = [graph.weights.use(integers, shape), factors]
        return [*names, graph.weights.use(zeros)] if kind.zero_points else names

    def embedding(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        kind = self.of_vocabulary
        packed, *others = self._store(graph, matrix, kind)
        attributes = {"bits": kind.bits, "block_size": kind.size, "gather_axis": 0, "quantize_axis": 1}
        return graph.node("GatherBlockQuantized", [packed, ids, *others], "embedding", MICROSOFT, **attributes)

    def linear(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return self._linear(graph, x, matrix, output, self.of_others.dividing(matrix.shape[-1]))

    def output(self, graph: Graph, x: str, matrix: Matrix, output: str) -> str:
        return self._linear(graph, x, matrix, output, self.of_vocabulary)

    def _linear(self, graph: Graph, x: str, matrix: Matrix, output: str, kind: Blocks) -> str:
        rows, columns = matrix.shape
        stored = self._store(graph, matrix, kind, (rows, columns // kind.size, kind.size * kind.bits // 8))
        attributes = {"K": columns, "N": rows, "bits": kind.bits, "block_size": kind.size}
        level = self.accuracy_level
        return graph.node("MatMulNBits", [x, *stored], output, MICROSOFT, **attributes, accuracy_level=level)

    def experts(
        self,
        graph: Graph,
        x: str,
        router: str,
        up: Matrix,
        down: Matrix,
        output: str,
        up_bias: str = "",
        down_bias: str = "",
        **attributes: float | str,
    ) -> str:
        kind = self.of_experts
        first, second = self._store(graph, up, kind), self._store(graph, down, kind)
        inputs = [x, router, *first[:2], up_bias, *second[:2], down_bias]
        if kind.zero_points:
            inputs += [""] * (11 - len(inputs)) + [first[2], second[2]]
        # No accuracy_level: onnxruntime 1.30 (transformers.js) knows none for QMoE; see runtime/engines/onnx_load.py.
        stored = {"expert_weight_bits": kind.bits, "block_size": kind.size}
        return graph.node("QMoE", inputs, output, MICROSOFT, **attributes | stored)
