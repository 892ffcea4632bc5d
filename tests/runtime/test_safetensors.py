"""Safetensors headers and indexes: read as the library reads them, and whatever is wrong with one is one sentence."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from runtime.errors import SlimmoeError, WorkError
from runtime.formats.model_folder import read_checkpoint, read_index
from runtime.formats.safetensors import BITS, read_header, read_metadata

A = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}
B = {"dtype": "U8", "shape": [4], "data_offsets": [12, 16]}


def write(path: Path, header: Any, data: int = 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return path


def library_reads(path: Path) -> bool:
    try:
        with safe_open(path, "numpy"):
            return True
    except SafetensorError:
        return False


def test_a_file_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path, values = tmp_path / "x", {"b": np.arange(6.0).reshape(2, 3), "a": np.ones((0, 4), np.int8), "ü": np.ones(())}
    save_file(values, path, {"format": "pt"})
    assert read_metadata(path) == {"format": "pt"}
    found, data = read_header(path), path.read_bytes()
    for name, expected in values.items():
        tensor = found.pop(name)
        assert (tensor.shape, tensor.path) == (expected.shape, path)
        assert data[tensor.start : tensor.stop] == expected.tobytes()
    assert not found


@pytest.mark.parametrize("dtype", BITS)
def test_every_type_has_the_size_that_the_library_gives_it(dtype: str, tmp_path: Path) -> None:
    entry = {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, BITS[dtype]]}
    path = write(tmp_path / "x", {"a": entry}, BITS[dtype])
    assert read_header(path)["a"].dtype == dtype and library_reads(path)


WRONG: dict[str, Any] = {
    "an entry that is a number": {"a": 1},
    "no object": [A],
    "an unknown type": {"a": A | {"dtype": "F17"}, "b": B},
    "a type that is a list": {"a": A | {"dtype": []}, "b": B},
    "a negative length": {"a": A | {"shape": [-2, -3]}, "b": B},
    "a length that is no integer": {"a": A | {"shape": [2.0, 3]}, "b": B},
    "a length that is true": {"a": A | {"shape": [6, True]}, "b": B},
    "a huge length": {"a": A | {"shape": [1 << 70, 0], "data_offsets": [0, 0]}, "b": B | {"data_offsets": [0, 4]}},
    "another shape": {"a": A | {"shape": [2, 4]}, "b": B},
    "one offset": {"a": A | {"data_offsets": [12]}, "b": B},
    "reversed offsets": {"a": A | {"data_offsets": [12, 0]}, "b": B},
    "an overlap": {"a": A, "b": B | {"data_offsets": [11, 15]}},
    "a gap": {"a": A | {"shape": [2, 2], "data_offsets": [0, 8]}, "b": B},
    "bytes of no tensor": {"a": A},
    "more bytes than there are": {"a": A, "b": B | {"shape": [5], "data_offsets": [12, 17]}},
    "a name that is there twice": json.dumps({"a": A, "b": B}).replace('"b"', '"a"').encode(),
    "deep nesting": b'{"a":' * 200_000,
    "no UTF-8": b'{"\xff": 1}',
    "half of a surrogate pair": {"a": A, "\ud800": B},
}


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_header_is_one_sentence(header: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x", header)
    assert not library_reads(path)
    with pytest.raises(WorkError):
        read_header(path)


def test_a_length_is_held_against_the_file_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.write(struct.pack("<Q", 1 << 32))
        file.truncate(1 << 33)  # sparse
    os.mkfifo(tmp_path / "pipe")
    for name in ("x", "pipe", "nowhere"):
        with pytest.raises(WorkError):
            read_header(tmp_path / name)


@given(st.data())
def test_a_damaged_file_is_one_sentence_wherever_it_is_damaged(tmp_path_factory: Any, data: st.DataObject) -> None:
    whole = bytearray(save({"a": np.ones((2, 3)), "b": np.ones(4, np.float16)}, {"format": "pt"}))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read_header(path)
    except SlimmoeError:
        return
    assert library_reads(path)


INDEXES = [b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}', b"{" * 200_000]
INDEXES += [
    json.dumps({"weight_map": {"a": name}}).encode()
    for name in (
        "",
        ".",
        "..",
        "../x.safetensors",
        "s/../../x.safetensors",
        "/x.safetensors",
        "s\\x.safetensors",
        "\0.safetensors",
        "x.bin",
    )
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: index[:40].decode())
def test_what_is_wrong_with_an_index_is_one_sentence(index: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(WorkError):
        read_index(tmp_path)


def test_a_tensor_is_in_one_shard(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / f"{name}.safetensors", {"a": A, "b": B})
    index = '{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WorkError, match="'a' is in another shard"):
        read_checkpoint(tmp_path)
