"""Weights as integers of 4 or 8 bits, in blocks along a row that share a scale and, where wanted, a zero point.

``w = scale * (q - zero point)``, q unsigned; layouts as in onnxruntime's docs/ContribOperators.md (MatMulNBits, QMoE).
"""

from dataclasses import dataclass, replace

import numpy as np

# How far a block reaches beyond the integers, tried in turn: clipping its extremes a little often serves the others.
# Eight bits are fine enough without a search.
_REACHES = {4: np.linspace(0.9, 1.1, 5, dtype=np.float32), 8: np.ones(1, np.float32)}
_ASYMMETRIC_REACHES = {4: np.linspace(0.95, 1.15, 5, dtype=np.float32), 8: np.ones(1, np.float32)}


@dataclass(frozen=True)
class Blocks:
    """A way to store weights. Symmetric ones have no zero points: theirs is the middle, 2^(bits-1), by convention."""

    bits: int  # 4 or 8
    size: int = 32  # weights along a row that share a scale
    zero_points: bool = False

    def dividing(self, columns: int) -> "Blocks":
        """The same in the largest blocks, from this size down to 32, of which a row of ``columns`` is made."""
        sizes = (self.size >> halvings for halvings in range(self.size.bit_length()))
        return replace(self, size=next((size for size in sizes if size >= 32 and columns % size == 0), self.size))


def _pack(values: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [n, ...] of so many bits each become bytes, the first in the lowest bits; the last byte is filled up."""
    if bits == 8:
        return values
    if len(values) % 2:
        values = np.concatenate((values, np.zeros_like(values[:1])))
    return values[0::2] | values[1::2] << 4


def quantise(weights: np.ndarray, kind: Blocks) -> tuple[np.ndarray, ...]:
    """Quantise every block by itself: of the steps tried, the one with the least squared error, its scale by least squares.

    Args:
        weights: float32 [rows, columns]; columns a multiple of ``kind.size``.

    Returns:
        Integers as uint8 [rows, columns * bits / 8], scales as float16 [rows, columns / size] and, where the kind has
        them, zero points as uint8 [rows, columns / size * bits / 8, rounded up]; of two 4-bit integers in a byte the
        first is in the low half.
    """
    rows, top = len(weights), (1 << kind.bits) - 1
    # The weights of a block lie along the first axis, so that all arithmetic runs over whole rows of memory.
    blocks = np.ascontiguousarray(weights.reshape(-1, kind.size).T)
    low, high = np.minimum(blocks.min(0), 0), np.maximum(blocks.max(0), 0)
    if kind.zero_points:
        span = high - low
        span[span == 0] = 1
        zero, steps, reaches = np.rint(-low * (top / span)), top / span, _ASYMMETRIC_REACHES
    else:
        extreme = np.where(high > -low, high, low)
        extreme[extreme == 0] = 1
        # The extreme becomes the lowest integer, which has no counterpart on the other side.
        zero, steps, reaches = np.float32((top + 1) // 2), -((top + 1) // 2) / extreme, _REACHES
    best, best_steps = np.full(blocks.shape[1], -1, np.float32), np.empty_like(steps)
    scales, integers = np.zeros_like(best), np.empty_like(blocks)
    for reach in reaches[kind.bits]:
        _round(blocks, steps * reach, zero, top, integers)
        product, square = np.einsum("ib,ib->b", blocks, integers), np.einsum("ib,ib->b", integers, integers)
        scale = product / np.maximum(square, 1)
        gain = product * scale  # the squared error is |block|^2 less this
        better = gain > best
        np.copyto(best, gain, where=better)
        np.copyto(scales, scale, where=better)
        np.copyto(best_steps, steps * reach, where=better)
    if len(reaches[kind.bits]) > 1:
        _round(blocks, best_steps, zero, top, integers)
    integers += zero
    packed = _pack(integers.astype(np.uint8), kind.bits).T.reshape(rows, -1)
    found = packed, scales.astype(np.float16).reshape(rows, -1)
    if not kind.zero_points:
        return found
    return *found, _pack(zero.astype(np.uint8).reshape(rows, -1).T, kind.bits).T


def _round(blocks: np.ndarray, steps: np.ndarray, zero: np.ndarray | np.float32, top: int, out: np.ndarray) -> None:
    """Integers relative to the zero point, of blocks [size, n]."""
    np.multiply(blocks, steps, out=out)
    np.rint(out, out=out)
    out += zero
    np.clip(out, 0, top, out=out)  # by numbers: by arrays of bounds it takes three times as long
    out -= zero
