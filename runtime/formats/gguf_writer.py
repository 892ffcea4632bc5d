"""The header of a GGUF file, written: keys that stay as they were are copied as bytes from the file they come from."""

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from runtime.errors import RequestError, SlimmoeError
from runtime.formats.copying import Step, copy_all, write_all
from runtime.formats.files import require_replaceable
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_header import MAGIC, NUMBERS, Value
from runtime.formats.gguf_types import ValueType


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: ValueType, value: Any) -> bytes:
    return _string(value) if kind == ValueType.STRING else struct.pack("<" + NUMBERS[kind], value)


def encode(key: str, value: Any, like: Value | None = None) -> bytes:
    """The entry of a key: of the type that it had before, else of the type that Python's own value suggests."""
    if like is not None and like.count is not None:
        start = struct.pack("<IIQ", ValueType.ARRAY, like.type, len(value))
        return _string(key) + start + b"".join(_value(like.type, each) for each in value)
    kind = like.type if like is not None else _type_of(value)
    return _string(key) + struct.pack("<I", kind) + _value(kind, value)


def _type_of(value: str | bool | int | float) -> ValueType:
    # Not FLOAT32, in which 0.7 is no longer 0.7.
    types = {str: ValueType.STRING, bool: ValueType.BOOL, int: ValueType.INT32, float: ValueType.FLOAT64}
    return types[type(value)]


def encode_tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """The entry of a tensor: ``shape`` with the outermost axis first, ``offset`` from the start of the data."""
    axes = [len(shape), *reversed(shape)]
    return _string(name) + struct.pack(f"<I{len(shape)}QIQ", *axes, kind, offset)


def write_header(
    source: GgufFile, target: BinaryIO, metadata: dict[str, bytes | None], tensors: Iterable[bytes]
) -> None:
    """Write everything that comes before the data to an unbuffered file.

    Args:
        metadata: entries by key that replace those of ``source``, None to leave one out; new keys come last.
        tensors: entries as ``encode_tensor`` makes them.
    """
    entries = list(tensors)
    kept = [key for key in source.metadata if metadata.get(key, b"") is not None]
    added = [entry for key, entry in metadata.items() if key not in source.metadata and entry is not None]
    count = len(kept) + len(added)
    with source.parts[0].open("rb", buffering=0) as file:
        steps: list[Step] = [MAGIC + struct.pack("<IQQ", source.version, len(entries), count)]
        for key in kept:
            old = source.metadata[key]
            steps.append(metadata.get(key) or (file, old.entry, old.stop))
        copy_all([*steps, *added, *entries], target)
    write_all(target, bytes(-target.tell() % source.alignment))


def output_path(output: Path | str, name: str, command: str) -> Path:
    """``output``, or the file ``name`` in it where it is a folder or ends with a slash.

    Args:
        command: without its -o, for the error.

    Raises:
        RequestError: a file name that does not end in .gguf, by which all programs know such files; or a file that is there
            and that slimmoe did not write.
    """
    path = Path(output)
    if path.is_dir() or str(output).endswith(("/", os.sep)):
        path = path / name
    elif path.suffix != ".gguf":
        raise RequestError(
            f"{output} does not end in .gguf; a folder ends with a slash.", next_command=f"{command} -o {output}/"
        )
    require_replaceable(path, "a GGUF file that slimmoe wrote", _is_ours)
    return path


def _is_ours(path: Path) -> bool:
    try:
        file = GgufFile(path)
        return file.get("general.quantized_by") == "slimmoe" or any(key.startswith("slimmoe.") for key in file.metadata)
    except SlimmoeError:
        return False
