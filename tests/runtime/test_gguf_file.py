"""GGUF headers: read as the gguf package reads them, and whatever is wrong with a file is one sentence."""

import struct
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, LlamaFileType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.gguf_file import GgufFile, check_gguf
from runtime.formats.gguf_header import WINDOW
from runtime.formats.gguf_types import BLOCKS, FILE_TYPES, GgmlType, ValueType
from tests.gguf_files import ARCHITECTURE, T, array, entry, header, string, tensor, write_moe


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moe(tmp_path_factory.mktemp("moe") / "moe.gguf")


def test_a_file_is_read_as_the_gguf_package_reads_it(moe: Path) -> None:
    file, reader = GgufFile(moe), GGUFReader(moe)
    assert [*file.tensors] == [each.name for each in reader.tensors]
    for theirs in reader.tensors:
        mine = file.tensors[theirs.name]
        assert (mine.type, mine.start, mine.stop - mine.start) == (
            theirs.tensor_type,
            theirs.data_offset,
            theirs.n_bytes,
        )
        assert mine.shape == tuple(reversed(theirs.shape.tolist()))
        assert file.read(theirs.name) == theirs.data.tobytes()
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert [*file.metadata] == [*fields]
    assert {key: file.get(key) for key in fields} == {key: field.contents() for key, field in fields.items()}
    assert (file.architecture, file.version, file.alignment) == ("tiny", 3, 32)
    assert file.get("no.such.key", 7) == 7


def test_values_of_every_type_are_decoded_and_keep_their_type(tmp_path: Path) -> None:
    codes = {
        "UINT8": ("B", 200), "INT8": ("b", -3), "UINT16": ("H", 60000), "INT16": ("h", -300), "UINT32": ("I", 2**32 - 1),
        "INT32": ("i", -5), "FLOAT32": ("f", 0.5), "BOOL": ("?", True), "UINT64": ("Q", 2**64 - 1), "INT64": ("q", -(2**60)),
        "FLOAT64": ("d", 0.1),
    }  # fmt: skip
    entries = [entry(f"x.{name}", T[name], struct.pack("<" + code, value)) for name, (code, value) in codes.items()]
    entries += [
        entry(f"a.{name}", T.ARRAY, array(T[name], 2, struct.pack("<2" + c, v, v))) for name, (c, v) in codes.items()
    ]
    entries.append(entry("a.STRING", T.ARRAY, array(T.STRING, 2, string("ü") + string(""))))
    file = GgufFile(write(tmp_path / "x.gguf", header([ARCHITECTURE, *entries], [])))
    for name, (_, value) in codes.items():
        assert file.get(f"x.{name}") == value and file.get(f"a.{name}") == [value, value]
        assert file.metadata[f"x.{name}"].type == file.metadata[f"a.{name}"].type == T[name]
        assert (file.metadata[f"x.{name}"].count, file.metadata[f"a.{name}"].count) == (None, 2)
    assert file.get("a.STRING") == ["ü", ""]
    data = file.parts[0].read_bytes()
    for key, value in file.metadata.items():  # an entry can be copied as it is
        assert data[value.entry :].startswith(string(key))
    assert [value.stop for value in file.metadata.values()][:-1] == [v.entry for v in file.metadata.values()][1:]


def test_all_parts_are_found_from_any_of_them(tmp_path: Path, moe: Path) -> None:
    first = write_moe(tmp_path / "split.gguf", parts=3)
    whole = GgufFile(moe)
    for number in (1, 3):
        file = GgufFile(tmp_path / f"split-0000{number}-of-00003.gguf")
        assert len(file.parts) == 3 and file.parts[0] == first
        assert {name: file.read(name) for name in file.tensors} == {name: whole.read(name) for name in whole.tensors}
        assert file.get("tiny.expert_count") == 8


def test_parts_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    first = write_moe(tmp_path / "split.gguf", parts=2)
    second = tmp_path / "split-00002-of-00002.gguf"
    data = second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(WorkError, match="is not part 2 of 2"):
        GgufFile(first)
    second.unlink()
    with pytest.raises(WorkError, match=r"split-00002-of-00002\.gguf is missing"):
        GgufFile(first)
    renamed = write(tmp_path / "renamed.gguf", data)
    with pytest.raises(RequestError, match=r"one of 2 parts.*-00001-of-00002\.gguf"):
        GgufFile(renamed)


def test_a_string_that_is_no_text_is_told_when_it_is_read(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "x.gguf", header([entry("a", T.STRING, string(b"\xff"))], [])))
    with pytest.raises(WorkError, match="'a' cannot be read"):
        file.get("a")
    with pytest.raises(WorkError, match="does not name its architecture"):
        _ = file.architecture


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_cut_anywhere_is_refused(moe: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = moe.read_bytes()
    last = max(each.stop for each in GgufFile(moe).tensors.values())
    length = data.draw(st.integers(0, last - 1))
    with pytest.raises(SlimmoeError):
        GgufFile(write(tmp_path / "cut.gguf", whole[:length]))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(moe: Path, tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(moe.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 1200))
        new = data.draw(st.binary(min_size=1, max_size=8))
        changed[at : at + len(new)] = new
    try:
        file = GgufFile(write(tmp_path / "changed.gguf", changed))
        for key in file.metadata:
            file.get(key)
        for each in file.tensors.values():
            assert 0 < each.start < each.stop <= len(changed)
    except SlimmoeError:
        pass


GROUPS = {"expert_group_count": 4, "expert_group_used_count": 2}


@pytest.mark.parametrize("change", [{}, GROUPS, {"expert_used_count": [0, 8]}, {"attention.layer_norm_epsilon": 1e-6}])
def test_hyperparameters_that_llama_cpp_takes_are_let_through(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_moe(tmp_path / "x.gguf", {f"tiny.{name}": value for name, value in change.items()})
    assert check_gguf(path).architecture == "tiny"


@pytest.mark.parametrize("shift", range(9))
def test_a_vocabulary_larger_than_what_is_read_at_once(tmp_path: Path, shift: int) -> None:
    """Lengths lie across the bounds of windows, and a string is larger than one."""
    tokens = ["a" * shift, *["b" * (i % 7) for i in range(WINDOW // 6)], "c" * 3 * WINDOW, "d" * (WINDOW - 16), "", "ü"]
    entries = [ARCHITECTURE, entry("t", T.ARRAY, array(T.STRING, len(tokens), b"".join(map(string, tokens))))]
    data = header([*entries, entry("after", T.STRING, string("it"))], [])
    file = GgufFile(write(tmp_path / "x.gguf", data))
    assert file.get("t") == tokens and file.get("after") == "it"
    with pytest.raises(WorkError, match="cut short"):
        GgufFile(write(tmp_path / "cut.gguf", data[: file.metadata["t"].stop - 3]))


def test_the_tables_are_those_of_the_gguf_package() -> None:
    theirs = {kind.name: (kind.value, GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    ours = {kind.name: (kind.value, BLOCKS[kind]) for kind in GgmlType}
    assert ours.items() >= theirs.items() and ours.keys() - theirs.keys() <= {"Q2_0"}
    assert {kind.name: kind.value for kind in ValueType} == {kind.name: kind.value for kind in GGUFValueType}
    named = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    del named[LlamaFileType.GUESSED]
    assert named == FILE_TYPES


def test_types_that_are_newer_than_the_gguf_package_are_read(tmp_path: Path) -> None:
    data = header([ARCHITECTURE], [tensor("a", [64, 2], kind=42)])
    assert GgufFile(write(tmp_path / "x.gguf", data, bytes(64))).tensors["a"].dtype == "Q2_0"
