"""The header of a safetensors file, read with a distrust of every number in it.

Format: 8 bytes of header length, little-endian; a JSON object; the data. The object gives each tensor's ``dtype``, ``shape``
and ``data_offsets``, which count from the start of the data; together the tensors cover it without gaps or overlaps.
``__metadata__`` is an object of strings.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.json_object import LONGEST, parse_object

MOST_AXES = 64
BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E4M3FNUZ": 8, "F8_E5M2": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SafetensorsTensor:
    """Where a tensor lies: ``start`` and ``stop`` are byte offsets in the file ``path``. ``dtype`` is a key of BITS."""

    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    stop: int


def _read_object(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON object, the byte offset at which the data starts, and the file's size."""
    try:
        if not path.is_file():
            raise WorkError(f"{path} is not a file.")
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST):
                raise ValueError(f"its header is said to have {length} bytes")
            header = parse_object(file.read(length), unique=True)
            "".join(header).encode()  # fails on half of a surrogate pair, which JSON can write and UTF-8 cannot
            return header, 8 + length, size
    except OSError as error:
        raise WorkError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise WorkError(f"{path} is not a safetensors file, or is cut short.") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The strings that the header of a safetensors file holds beside its tensors, of which nothing is checked.

    Raises:
        WorkError: another kind of file, or one that cannot be read.
    """
    metadata = _read_object(path)[0].get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WorkError(f"{path} is damaged: its metadata are not strings.")
    return metadata


def _whole_numbers(values: Any, most: int) -> bool:
    return isinstance(values, list) and len(values) <= most and all(type(n) is int and 0 <= n < 1 << 63 for n in values)


def _read_tensor(path: Path, base: int, name: str, entry: Any) -> SafetensorsTensor:
    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        bits = BITS[dtype]
    except (TypeError, KeyError):
        raise WorkError(
            f"{path} is damaged: the entry of {name!r} has no dtype that is known, shape and offsets."
        ) from None
    if not (_whole_numbers(shape, MOST_AXES) and _whole_numbers(offsets, 2) and len(offsets) == 2):
        raise WorkError(f"{path} is damaged: the shape or the offsets of {name!r} are not whole numbers.")
    start, stop = offsets
    if (stop - start) * 8 != math.prod(shape) * bits:
        raise WorkError(f"{path} is damaged: {name!r}, {dtype} of shape {shape}, cannot have {stop - start} bytes.")
    return SafetensorsTensor(dtype, tuple(shape), path, base + start, base + stop)


def read_header(path: Path) -> dict[str, SafetensorsTensor]:
    """The tensors of a safetensors file by name, in the order of its header.

    Raises:
        WorkError: another kind of file, or it is damaged or cut short.
    """
    header, base, size = _read_object(path)
    header.pop("__metadata__", None)
    tensors = {name: _read_tensor(path, base, name, entry) for name, entry in header.items()}
    end = max((tensor.stop for tensor in tensors.values()), default=base)
    if end > size:
        raise WorkError(f"{path} is cut short: {end} bytes expected, {size} there.")
    end, before = base, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            wrong = f"overlaps {before!r}" if tensor.start < end else "follows bytes that belong to no tensor"
            raise WorkError(f"{path} is damaged: the tensor {name!r} {wrong}.")
        end, before = tensor.stop, name
    if end != size:
        raise WorkError(f"{path} is damaged: {size - end} bytes belong to no tensor.")
    return tensors
