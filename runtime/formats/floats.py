"""Bytes of a tensor as float32 numbers, by the type that safetensors and GGUF name."""

from dataclasses import dataclass

import numpy as np

_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_INTEGERS = {"U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "I64": "<i8", "U64": "<u8"}


def _eight_bits(exponent_bits: int) -> np.ndarray:
    """The values of all codes of an 8-bit float with one sign bit (OCP 8-bit floating point specification, 1.0).

    E4M3 has no infinities and one NaN of either sign; E5M2 has both as IEEE 754 does.
    """
    mantissa_bits = 7 - exponent_bits
    codes = np.arange(256)
    exponent, mantissa = (codes >> mantissa_bits) & (2**exponent_bits - 1), codes & (2**mantissa_bits - 1)
    bias = 2 ** (exponent_bits - 1) - 1
    fraction = mantissa / 2**mantissa_bits
    values = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    highest = exponent == 2**exponent_bits - 1
    if exponent_bits == 4:
        values[highest & (mantissa == 7)] = np.nan
    else:
        values[highest] = np.where(mantissa[highest] == 0, np.inf, np.nan)
    return np.where(codes >> 7, -values, values).astype(np.float32)


_POWERS = (2.0 ** (np.arange(256) - 127.0)).astype(np.float64)
_POWERS[255] = np.nan
_TABLES = {  # the value of each code
    "F8_E4M3": _eight_bits(4),
    "F8_E5M2": _eight_bits(5),
    "F8_E8M0": _POWERS.astype(np.float32),
}


def as_float32(data: bytes | memoryview, dtype: str) -> np.ndarray | None:
    """Flat values of a tensor's bytes; None for a type, named as in safetensors and GGUF, that holds no plain float."""
    if dtype not in _PLAIN:
        return None
    return _floats(np.frombuffer(data, dtype=_PLAIN[dtype]), dtype)


def _floats(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


@dataclass(frozen=True)
class StoredArray:
    """A tensor as it lies in its file: ``codes`` are a view of the file's bytes, ``dtype`` is safetensors' name of the type."""

    codes: np.ndarray
    dtype: str

    @classmethod
    def of(cls, data: memoryview, dtype: str, shape: tuple[int, ...]) -> "StoredArray | None":
        """None for a type that is not known here."""
        kind = "u1" if dtype in _TABLES else (_PLAIN | _INTEGERS).get(dtype)
        return None if kind is None else cls(np.frombuffer(data, kind).reshape(shape), dtype)

    def __getitem__(self, index: int) -> "StoredArray":
        return StoredArray(self.codes[index], self.dtype)

    def floats(self) -> np.ndarray:
        """A new array of float32."""
        table = _TABLES.get(self.dtype)
        return _floats(self.codes, self.dtype) if table is None else table[self.codes]
