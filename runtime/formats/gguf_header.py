"""The header of one GGUF file, read with a distrust of every number in it.

Format (version 2 and 3, little-endian): the magic ``GGUF``, version, number of tensors, number of keys; the keys with
their values; name, shape, type and offset of each tensor; padding; the tensors' bytes. A length is 64 bits, so a damaged
one could ask for any amount of memory: each is held against the bytes that are left before anything is allocated.
"""

import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_types import BLOCKS, GgmlType, ValueType

MAGIC = b"GGUF"
ALIGNMENT = 32  # where general.alignment says nothing
# Far beyond any model there is; a file that claims more is damaged, and would only take time and memory.
MOST_HEADER, MOST_KEYS, MOST_TENSORS, LONGEST_KEY, LARGEST_ALIGNMENT = 256 << 20, 1 << 16, 1 << 16, 1 << 16, 1 << 16
MOST_STRINGS = 1 << 21  # of all arrays; tokens and merges of the largest vocabularies are less than a million
WINDOW = 1 << 16  # bytes that are read at once of a vocabulary
LONGEST_NAME, MOST_AXES = 64, 4  # of a tensor, as ggml itself has it

_T = ValueType
NUMBERS = {
    _T.UINT8: "B", _T.INT8: "b", _T.UINT16: "H", _T.INT16: "h", _T.UINT32: "I", _T.INT32: "i",
    _T.FLOAT32: "f", _T.BOOL: "?", _T.UINT64: "Q", _T.INT64: "q", _T.FLOAT64: "d",
}  # fmt: skip
_INTEGERS = {kind for kind, code in NUMBERS.items() if code not in "f?d"}


@dataclass(frozen=True)
class Value:
    """A metadata value as it is stored; ``GgufFile.get`` decodes it.

    Attributes:
        type: of the value, or of each element of an array.
        count: number of elements; None where the value is no array.
        entry: byte offset in the first part of the key's entry (key, type and value), which ends at ``stop``.
        start: byte offset of the value itself, in an array of its first element.
    """

    type: ValueType
    count: int | None
    entry: int
    start: int
    stop: int


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies: ``start`` and ``stop`` are byte offsets in ``path``. ``shape`` has the outermost axis first."""

    type: IntEnum  # a GgmlType
    shape: tuple[int, ...]
    path: Path
    start: int
    stop: int

    @property
    def dtype(self) -> str:
        """The type by ggml's name: F32, Q4_K."""
        return self.type.name


class _Cursor:
    """Reads a header from its start, and nothing that lies beyond the file's end or the longest header."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self._path, self._file, self.position, self.strings = path, file, 0, 0
        self.size = os.fstat(file.fileno()).st_size
        self._end = min(self.size, MOST_HEADER)

    @property
    def left(self) -> int:
        return self._end - self.position

    def wrong(self, what: str) -> WorkError:
        return WorkError(f"{self._path} is damaged: {what}.")

    def require(self, size: int) -> None:
        if size > self.left:
            cut = "it is cut short" if self._end == self.size else f"its header is longer than {MOST_HEADER >> 20} MiB"
            raise self.wrong(f"{cut}, or a length in it is wrong ({size} bytes expected at byte {self.position})")

    def take(self, size: int) -> bytes:
        self.require(size)
        data = self._file.read(size)
        if len(data) != size:
            raise self.wrong(f"it ended at byte {self.position + len(data)} while it was read")
        self.position += size
        return data

    def skip(self, size: int) -> None:
        self.require(size)
        self._file.seek(size, os.SEEK_CUR)
        self.position += size

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def skip_strings(self, count: int) -> None:
        """As ``skip`` by each string's own length; a vocabulary has some hundred thousand, so without a call for each."""
        self.require(8 * count)
        self.strings += count
        if self.strings > MOST_STRINGS:
            raise self.wrong(f"it claims to have {self.strings} strings")
        length, position, window, start = struct.Struct("<Q").unpack_from, self.position, b"", self.position
        for _ in range(count):
            if position - start + 8 > len(window):
                self._file.seek(position)
                window, start = self._file.read(WINDOW), position
            if len(window) >= 8:
                position += 8 + length(window, position - start)[0]
            if len(window) < 8 or position > self._end:
                self.position = min(position, self._end)
                self.require(1 + self.left)
        self._file.seek(position)
        self.position = position

    def name(self, what: str, longest: int) -> str:
        if (length := self.number("Q")) > longest:
            raise self.wrong(f"the name of a {what} has {length} bytes")
        try:
            name = self.take(length).decode()
        except UnicodeDecodeError:
            raise self.wrong(f"the name of a {what} is not UTF-8") from None
        if not name.isprintable():
            raise self.wrong(f"the name of a {what}, {name!r}, holds control characters")
        return name

    def value_type(self, key: str) -> ValueType:
        number = self.number("I")
        try:
            return ValueType(number)
        except ValueError:
            raise self.wrong(f"{key!r} has a value of the unknown type {number}") from None


def _read_value(cursor: _Cursor, key: str, entry: int) -> Value:
    kind, count = cursor.value_type(key), None
    if kind == _T.ARRAY:
        kind, count = cursor.value_type(key), cursor.number("Q")
    start = cursor.position
    if kind in NUMBERS:
        cursor.skip(struct.calcsize("<" + NUMBERS[kind]) * (1 if count is None else count))
    elif kind == _T.STRING:
        cursor.skip_strings(1 if count is None else count)
    else:
        raise cursor.wrong(f"{key!r} is an array of arrays, which no llama.cpp reads")
    return Value(kind, count, entry, start, cursor.position)


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        entry = cursor.position
        key = cursor.name("key", LONGEST_KEY)
        if key in metadata:
            raise cursor.wrong(f"the key {key!r} is there twice")
        metadata[key] = _read_value(cursor, key, entry)
    return metadata


def _read_tensor(cursor: _Cursor, part: Path) -> tuple[str, GgufTensor]:
    """Name and place of a tensor, its offset still counted from the start of the data."""
    name, axes = cursor.name("tensor", LONGEST_NAME), cursor.number("I")
    if axes > MOST_AXES:
        raise cursor.wrong(f"the tensor {name!r} has {axes} axes")
    shape = tuple(reversed([cursor.number("Q") for _ in range(axes)]))
    number, offset = cursor.number("I"), cursor.number("Q")
    try:
        kind = GgmlType(number)
    except ValueError:
        raise cursor.wrong(f"the tensor {name!r} is of type {number}, which is not known here") from None
    block, size = BLOCKS[kind]
    row = shape[-1] if shape else 1
    if 0 in shape or row % block:
        raise cursor.wrong(f"the tensor {name!r} of type {kind.name} cannot have the shape {list(shape)}")
    return name, GgufTensor(kind, shape, part, offset, offset + math.prod(shape) // block * size)


@dataclass(frozen=True)
class Part:
    """One file: its own metadata and tensors. ``metadata_end`` is the byte offset where the last value ends."""

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    metadata_end: int
    tensors: dict[str, GgufTensor]


def _read_start(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors and number of keys."""
    if cursor.left < len(MAGIC) or cursor.take(len(MAGIC)) != MAGIC:
        raise RequestError(f"{cursor._path} is not a GGUF file.")
    version = cursor.number("I")
    if version and version & 0xFFFF == 0:
        raise RequestError(f"{cursor._path} is a GGUF file for big-endian machines, which is not read here.")
    if version not in (2, 3):
        raise RequestError(f"{cursor._path} is GGUF of version {version}; versions 2 and 3 are read.")
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise cursor.wrong(f"it claims to have {tensors} tensors and {keys} keys")
    return version, tensors, keys


def _read_alignment(cursor: _Cursor, path: Path, metadata: dict[str, Value]) -> int:
    alignment = integer(path, "general.alignment", metadata)
    if alignment is None:
        return ALIGNMENT
    known = metadata["general.alignment"].type == _T.UINT32 and alignment <= LARGEST_ALIGNMENT
    if not known or alignment.bit_count() != 1:
        raise cursor.wrong(f"its alignment is not a power of two up to {LARGEST_ALIGNMENT}")
    return alignment


def _placed(cursor: _Cursor, tensors: list[tuple[str, GgufTensor]], base: int, alignment: int) -> dict[str, GgufTensor]:
    """The tensors with their offsets in the file; none beyond its end, none over another."""
    placed: dict[str, GgufTensor] = {}
    for name, tensor in tensors:
        if name in placed:
            raise cursor.wrong(f"the tensor {name!r} is there twice")
        if tensor.start % alignment:
            raise cursor.wrong(f"the tensor {name!r} is not aligned to {alignment} bytes")
        if base + tensor.stop > cursor.size:
            raise cursor.wrong(f"it is cut short: the tensor {name!r} ends beyond the file")
        placed[name] = GgufTensor(tensor.type, tensor.shape, tensor.path, base + tensor.start, base + tensor.stop)
    end, before = 0, ""
    for name, tensor in sorted(placed.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            raise cursor.wrong(f"the tensors {before!r} and {name!r} overlap")
        end, before = tensor.stop, name
    return placed


def read_part(path: Path) -> Part:
    """The header of one file.

    Raises:
        RequestError: it cannot be read, or is not a GGUF file of a version that is read here.
        WorkError: it is damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            cursor = _Cursor(path, file)
            version, count, keys = _read_start(cursor)
            metadata = _read_metadata(cursor, keys)
            metadata_end = cursor.position
            alignment = _read_alignment(cursor, path, metadata)
            tensors = [_read_tensor(cursor, path) for _ in range(count)]
            base = -(-cursor.position // alignment) * alignment
            return Part(path, version, alignment, metadata, metadata_end, _placed(cursor, tensors, base, alignment))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from None


def decode(path: Path, key: str, value: Value) -> Any:
    """A value as Python has it; an array is a list.

    Raises:
        RequestError: the file cannot be read.
        WorkError: a string is not UTF-8, or the file has become shorter.
    """
    try:
        with path.open("rb") as file:
            file.seek(value.start)
            data = file.read(value.stop - value.start)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        if value.type in NUMBERS:
            found = struct.unpack(f"<{1 if value.count is None else value.count}{NUMBERS[value.type]}", data)
        else:
            found = tuple(_strings(data))
    except (struct.error, UnicodeDecodeError):
        raise WorkError(f"{path} is damaged: the value of {key!r} cannot be read.") from None
    return found[0] if value.count is None else list(found)


def integer(path: Path, key: str, metadata: dict[str, Value]) -> int | None:
    """The value of a key that decides how the file is read; None where it is not there."""
    value = metadata.get(key)
    if value is None:
        return None
    if value.count is not None or value.type not in _INTEGERS:
        raise WorkError(f"{path} is damaged: {key!r} is not an integer.")
    return decode(path, key, value)


def _strings(data: bytes) -> Iterator[str]:
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        position += 8
        yield data[position : position + length].decode()
        position += length
