"""What a GGUF file holds, read with a distrust of every number in it: metadata, tensors and where their bytes lie.

Format (version 2 and 3, little-endian): the magic ``GGUF``, version, number of tensors, number of keys; the keys with
their values; name, shape, type and offset of each tensor; padding; the tensors' bytes. A length is 64 bits, so a damaged
one could ask for any amount of memory: each is held against the bytes that are left before anything is allocated.
"""

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from runtime.errors import RequestError, WorkError

MAGIC = b"GGUF"
ALIGNMENT = 32  # where general.alignment says nothing
# Far beyond any model there is; a file that claims more is damaged, and would only take time and memory.
MOST_HEADER, MOST_KEYS, MOST_TENSORS, MOST_DIMENSIONS, LONGEST_NAME = 256 << 20, 1 << 16, 1 << 16, 4, 1 << 16

_T = GGUFValueType
NUMBERS = {
    _T.UINT8: "B", _T.INT8: "b", _T.UINT16: "H", _T.INT16: "h", _T.UINT32: "I", _T.INT32: "i",
    _T.FLOAT32: "f", _T.BOOL: "?", _T.UINT64: "Q", _T.INT64: "q", _T.FLOAT64: "d",
}  # fmt: skip
_INTEGERS = {kind for kind, code in NUMBERS.items() if code not in "f?d"}
_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class Value:
    """A metadata value as it is stored; ``GgufFile.get`` decodes it.

    Attributes:
        type: of the value, or of each element of an array.
        count: number of elements; None where the value is no array.
        entry: byte offset in the first part of the key's entry (key, type and value), which ends at ``stop``.
        start: byte offset of the value itself, in an array of its first element.
    """

    type: GGUFValueType
    count: int | None
    entry: int
    start: int
    stop: int


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: ``start`` and ``stop`` are byte offsets in ``part``. ``shape`` has the outermost axis first."""

    type: GGMLQuantizationType
    shape: tuple[int, ...]
    part: Path
    start: int
    stop: int


class _Cursor:
    """Reads a header from its start, and nothing that lies beyond the file's end or the longest header."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self._path, self._file, self.position = path, file, 0
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

    def skip_string(self) -> None:
        self.skip(self.number("Q"))

    def name(self, what: str) -> str:
        length = self.number("Q")
        if length > LONGEST_NAME:
            raise self.wrong(f"the name of a {what} has {length} bytes")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.wrong(f"the name of a {what} is not UTF-8") from None

    def value_type(self, key: str) -> GGUFValueType:
        number = self.number("I")
        try:
            return GGUFValueType(number)
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
        elements = 1 if count is None else count
        cursor.require(8 * elements)
        for _ in range(elements):
            cursor.skip_string()
    else:
        raise cursor.wrong(f"{key!r} is an array of arrays, which no llama.cpp reads")
    return Value(kind, count, entry, start, cursor.position)


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        entry = cursor.position
        key = cursor.name("key")
        if key in metadata:
            raise cursor.wrong(f"the key {key!r} is there twice")
        metadata[key] = _read_value(cursor, key, entry)
    return metadata


def _read_tensor(cursor: _Cursor, part: Path) -> tuple[str, Tensor]:
    """Name and place of a tensor, its offset still counted from the start of the data."""
    name, axes = cursor.name("tensor"), cursor.number("I")
    if axes > MOST_DIMENSIONS:
        raise cursor.wrong(f"the tensor {name!r} has {axes} axes")
    shape = tuple(reversed([cursor.number("Q") for _ in range(axes)]))
    number, offset = cursor.number("I"), cursor.number("Q")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise cursor.wrong(f"the tensor {name!r} is of type {number}, which is not known here") from None
    block, size = GGML_QUANT_SIZES[kind]
    row = shape[-1] if shape else 1
    if 0 in shape or row % block:
        raise cursor.wrong(f"the tensor {name!r} of type {kind.name} cannot have the shape {list(shape)}")
    return name, Tensor(kind, shape, part, offset, offset + math.prod(shape) // block * size)


@dataclass(frozen=True)
class _Part:
    """One file: its own metadata and tensors."""

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    metadata_end: int
    tensors: dict[str, Tensor]


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
    alignment = _integer(path, "general.alignment", metadata)
    if alignment is None:
        return ALIGNMENT
    if metadata["general.alignment"].type != _T.UINT32 or alignment.bit_count() != 1:
        raise cursor.wrong("its alignment is not a power of two")
    return alignment


def _placed(cursor: _Cursor, tensors: list[tuple[str, Tensor]], base: int, alignment: int) -> dict[str, Tensor]:
    """The tensors with their offsets in the file; none beyond its end, none over another."""
    placed: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name in placed:
            raise cursor.wrong(f"the tensor {name!r} is there twice")
        if tensor.start % alignment:
            raise cursor.wrong(f"the tensor {name!r} is not aligned to {alignment} bytes")
        if base + tensor.stop > cursor.size:
            raise cursor.wrong(f"it is cut short: the tensor {name!r} ends beyond the file")
        placed[name] = Tensor(tensor.type, tensor.shape, tensor.part, base + tensor.start, base + tensor.stop)
    end, before = 0, ""
    for name, tensor in sorted(placed.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            raise cursor.wrong(f"the tensors {before!r} and {name!r} overlap")
        end, before = tensor.stop, name
    return placed


def _read_part(path: Path) -> _Part:
    try:
        with path.open("rb") as file:
            cursor = _Cursor(path, file)
            version, count, keys = _read_start(cursor)
            metadata = _read_metadata(cursor, keys)
            metadata_end = cursor.position
            alignment = _read_alignment(cursor, path, metadata)
            tensors = [_read_tensor(cursor, path) for _ in range(count)]
            base = -(-cursor.position // alignment) * alignment
            return _Part(path, version, alignment, metadata, metadata_end, _placed(cursor, tensors, base, alignment))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from None


def _decode(path: Path, key: str, value: Value) -> Any:
    with path.open("rb") as file:
        file.seek(value.start)
        data = file.read(value.stop - value.start)
    try:
        if value.type in NUMBERS:
            found = struct.unpack(f"<{1 if value.count is None else value.count}{NUMBERS[value.type]}", data)
        else:
            found = tuple(_strings(data))
    except (struct.error, UnicodeDecodeError):
        raise WorkError(f"{path} is damaged: the value of {key!r} cannot be read.") from None
    return found[0] if value.count is None else list(found)


def _integer(path: Path, key: str, metadata: dict[str, Value]) -> int | None:
    """The value of a key that decides how the file is read; None where it is not there."""
    value = metadata.get(key)
    if value is None:
        return None
    if value.count is not None or value.type not in _INTEGERS:
        raise WorkError(f"{path} is damaged: {key!r} is not an integer.")
    return _decode(path, key, value)


def _strings(data: bytes) -> Iterator[str]:
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        position += 8
        yield data[position : position + length].decode()
        position += length


class GgufFile:
    """A GGUF file, or all parts of a split one (``-00001-of-00003.gguf``), whichever part is named.

    Attributes:
        parts: the files in order; the first one holds the metadata.
        metadata: by key, see ``Value``; ``get`` decodes.
        tensors: by name, in the order of the files.
        alignment: of each tensor's first byte, counted from the start of the data.
        version: 2 or 3, which differ in nothing that is read here.
        metadata_end: byte offset in the first part where the last value ends.

    Raises:
        RequestError: no such file, or not a GGUF file of a version that is read here.
        WorkError: it is damaged, cut short, or a part is missing.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise RequestError(f"There is no file {path}." if not path.is_dir() else f"{path} is a folder, not a file.")
        read = [_read_part(path) for path in self._find_parts(path)]
        first = read[0]
        self.parts = [part.path for part in read]
        self.metadata, self.metadata_end = first.metadata, first.metadata_end
        self.version, self.alignment = first.version, first.alignment
        self.tensors: dict[str, Tensor] = {}
        for number, part in enumerate(read):
            self._check_part(part, number, len(read))
            if twice := part.tensors.keys() & self.tensors.keys():
                raise WorkError(f"{part.path} is damaged: the tensor {min(twice)!r} is in another part too.")
            self.tensors |= part.tensors
        total = _integer(self.parts[0], "split.tensors.count", self.metadata)
        if len(read) > 1 and total is not None and total != len(self.tensors):
            raise WorkError(f"{self.parts[0]} and its parts hold {len(self.tensors)} tensors, not {total}.")

    @staticmethod
    def _find_parts(path: Path) -> list[Path]:
        count = _integer(path, "split.count", _read_part(path).metadata) or 1
        if count <= 1:
            return [path]
        name = _SPLIT_NAME.fullmatch(path.name)
        if name is None or int(name[3]) != count:
            raise RequestError(
                f"{path} is one of {count} parts, which are found by their names only when these end in "
                f"-00001-of-{count:05}.gguf and so on."
            )
        parts = [path.with_name(f"{name[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
        if missing := next((part for part in parts if not part.is_file()), None):
            raise WorkError(f"{path} is one of {count} parts, and {missing.name} is missing.")
        return parts

    @staticmethod
    def _check_part(part: _Part, number: int, count: int) -> None:
        if count == 1:
            return
        said = [_integer(part.path, key, part.metadata) for key in ("split.no", "split.count")]
        if said != [number, count]:
            raise WorkError(f"{part.path} is not part {number + 1} of {count}, as its name has it.")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key as a Python value (arrays: a list), or ``default`` where the key is not there.

        Raises:
            WorkError: a string is not UTF-8.
        """
        value = self.metadata.get(key)
        return default if value is None else _decode(self.parts[0], key, value)

    @cached_property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture: qwen3moe, gpt-oss, ...

        Raises:
            WorkError: the file names none.
        """
        value = self.metadata.get("general.architecture")
        if value is None or value.type != _T.STRING or value.count is not None:
            raise WorkError(f"{self.parts[0]} is damaged: it does not name its architecture.")
        return self.get("general.architecture")

    def read(self, name: str) -> bytes:
        """The bytes of a tensor.

        Raises:
            WorkError: the file has become shorter.
        """
        tensor = self.tensors[name]
        with tensor.part.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.stop - tensor.start)
        if len(data) != tensor.stop - tensor.start:
            raise WorkError(f"{tensor.part} is cut short: it ended within the tensor {name!r}.")
        return data
