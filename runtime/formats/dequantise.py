"""The arithmetic of quantised formats: the parts of one weight as they are stored, and the floats that they stand for.

Each format has two functions. ``shape_*`` tells the shape of the floats from the shapes of the parts, before anything is
read; the other computes them, float32, from one weight's parts. A part is known by the end of its name. ``settings`` are
``bits`` and ``block`` of runtime.formats.quantised.Quantisation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtime.formats.floats import StoredArray

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Parts = Mapping[str, StoredArray]
Settings = Mapping[str, Any]

# FP4 (E2M1) by code, and the two of a byte, the lower half first (OCP microscaling formats, 1.0).
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_FP4_PAIRS = np.stack([np.tile(_FP4, 16), np.repeat(_FP4, 16)], axis=1)
# Column of each 4-bit number of an AWQ word, the lowest first.
_AWQ_ORDER = np.array([0, 2, 4, 6, 1, 3, 5, 7])


def shape_mxfp4(parts: Shapes, settings: Settings) -> Shape:
    *before, rows, blocks, size = parts["_blocks"]
    return (*before, blocks * size * 2, rows)


def mxfp4(parts: Parts, settings: Settings) -> np.ndarray:
    """Blocks [..., rows, blocks, 16] of 32 numbers and scales [..., rows, blocks], which are exponents with a bias of 127.

    The floats are [..., columns, rows]: gpt-oss has input features before output features.
    """
    blocks, scales = parts["_blocks"].codes, StoredArray(parts["_scales"].codes, "F8_E8M0").floats()
    values = _FP4_PAIRS[blocks].reshape(*blocks.shape[:-1], -1)
    values *= scales[..., None]
    return values.reshape(*blocks.shape[:-2], -1).swapaxes(-1, -2)


def shape_scaled(parts: Shapes, settings: Settings) -> Shape:
    return parts[""]


def scaled(parts: Parts, settings: Settings) -> np.ndarray:
    """8-bit numbers [..., rows, columns] times scales: one, one for each row, for groups of a row, or for blocks.

    Raises:
        ValueError: scales of another shape.
    """
    values = parts[""].floats()
    if zero := parts.get("_zero_point"):
        values = _times(values, zero.floats(), settings, np.subtract)
    return _times(values, next(parts[end] for end in ("_scale_inv", "_scale") if end in parts).floats(), settings)


def _times(values: np.ndarray, scales: np.ndarray, settings: Settings, operation: np.ufunc = np.multiply) -> np.ndarray:
    if scales.size == 1:
        return operation(values, scales.reshape(()), out=values)
    *before, rows, columns = values.shape
    if scales.shape == (*before, rows):
        scales = scales[..., None]
    if scales.shape[:-2] != tuple(before) or scales.ndim != values.ndim:
        raise ValueError(f"scales of shape {list(scales.shape)}")
    high, wide = scales.shape[-2:]
    height, width = settings.get("block") or (1, 1)
    if (high, wide) == (-(-rows // height), -(-columns // width)) and height * width > 1:
        for i in range(high):  # a view of the rows at a time: spread out, the scales would be as large as the values
            part = values[..., i * height : (i + 1) * height, :]
            operation(part, np.repeat(scales[..., i : i + 1, :], width, axis=-1)[..., :columns], out=part)
        return values
    if high not in (1, rows) or columns % wide:
        raise ValueError(f"scales of shape {list(scales.shape)}")
    grouped = values.reshape(*before, rows, wide, columns // wide)
    operation(grouped, scales[..., None], out=grouped)
    return values


def _unpack(words: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """The numbers of 32-bit words along an axis, the lowest bits first."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    words = np.moveaxis(words.view(np.uint32), axis, -1)
    numbers = (words[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    return np.moveaxis(numbers.astype(np.uint8).reshape(*words.shape[:-1], -1), -1, axis)


def _by_column(values: np.ndarray, columns: int, index: np.ndarray | None) -> np.ndarray:
    """Values of groups [rows, groups] for each column: by ``index``, or of as many columns each."""
    if index is not None:
        return values[:, index]
    if columns % values.shape[1]:
        raise ValueError(f"{values.shape[1]} groups in rows of {columns}")
    return np.repeat(values, columns // values.shape[1], axis=1)


def shape_packed(parts: Shapes, settings: Settings) -> Shape:
    rows, words = parts["_packed"]
    return (rows, words * (32 // settings["bits"]))


def packed(parts: Parts, settings: Settings) -> np.ndarray:
    """Words [rows, words], scales [rows, groups], and zero points packed along the rows; without these, half the range.

    Raises:
        ValueError: the stored shape is another one.
    """
    bits = settings["bits"]
    numbers = _unpack(parts["_packed"].codes, bits, 1)
    if (shape := parts.get("_shape")) and tuple(shape.codes) != numbers.shape:
        raise ValueError(f"the stored shape {shape.codes.tolist()}")
    order = parts["_g_idx"].codes if "_g_idx" in parts else None
    order = None if order is None or (order < 0).any() else order
    values = numbers.astype(np.float32)
    if zero := parts.get("_zero_point"):
        zeros = _unpack(zero.codes, bits, 0)[: len(values)].astype(np.float32)
        values -= _by_column(zeros, values.shape[1], order)
    else:
        values -= np.float32(1 << (bits - 1))
    values *= _by_column(parts["_scale"].floats().reshape(len(values), -1), values.shape[1], order)
    return values


def shape_gptq(parts: Shapes, settings: Settings) -> Shape:
    words, rows = parts[".qweight"]
    return (rows, words * (32 // settings["bits"]))


def gptq(parts: Parts, settings: Settings) -> np.ndarray:
    """Words packed along the columns [words, rows], scales [groups, rows], zero points packed along the rows."""
    bits = settings["bits"]
    numbers = _unpack(parts[".qweight"].codes, bits, 0).astype(np.float32).T
    zeros = _unpack(parts[".qzeros"].codes, bits, 1).astype(np.float32).T
    zeros = np.mod(zeros + settings["zero_offset"], np.float32(1 << bits))
    order = parts[".g_idx"].codes if ".g_idx" in parts else None
    columns = numbers.shape[1]
    return (numbers - _by_column(zeros, columns, order)) * _by_column(parts[".scales"].floats().T, columns, order)


def shape_awq(parts: Shapes, settings: Settings) -> Shape:
    columns, words = parts[".qweight"]
    return (words * 8, columns)


def awq(parts: Parts, settings: Settings) -> np.ndarray:
    """4-bit words along the rows [columns, words], scales [groups, rows], zero points packed as the weights are."""

    def unpack(words: np.ndarray) -> np.ndarray:
        numbers = _unpack(words, 4, 1).reshape(len(words), -1, 8)
        found = np.empty_like(numbers)
        found[..., _AWQ_ORDER] = numbers
        return found.reshape(len(words), -1).astype(np.float32).T

    numbers, zeros = unpack(parts[".qweight"].codes), unpack(parts[".qzeros"].codes)
    columns = numbers.shape[1]
    return (numbers - _by_column(zeros, columns, None)) * _by_column(parts[".scales"].floats().T, columns, None)
