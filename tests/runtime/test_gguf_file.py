"""GGUF headers: read as the gguf package reads them, and whatever is wrong with a file is one sentence."""

import struct
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.gguf_file import GgufFile, check_gguf
from tests.gguf_files import ARCHITECTURE, T, array, entry, header, string, tensor, write_moe

BIG = 2**63 - 1
UINT32 = struct.pack("<I", 5)


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


DATA = bytes(128)
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "another format": (b"PK\3\4" + bytes(64), "not a GGUF file"),
    "version 1": (header([], [], version=1), "version 1"),
    "version 4": (header([], [], version=4), "version 4"),
    "version 0": (header([], [], version=0), "version 0"),
    "big-endian": (header([], [], version=3 << 24), "big-endian"),
    "more keys than bytes": (header([], [], counts=(0, 1000)), "cut short"),
    "more tensors than bytes": (header([], [], counts=(1000, 0)), "cut short"),
    "endless keys": (header([], [], counts=(0, BIG)), "claims to have"),
    "endless tensors": (header([], [], counts=(BIG, 0)), "claims to have"),
    "long key": (header([struct.pack("<Q", BIG)], []), "the name of a key"),
    "key that is no text": (header([entry(b"\xff\xfe", T.UINT32, UINT32)], []), "not UTF-8"),
    "key twice": (header([ARCHITECTURE, ARCHITECTURE], []), "twice"),
    "unknown value type": (header([entry("a", 13, UINT32)], []), "unknown type 13"),
    "unknown element type": (header([entry("a", T.ARRAY, array(99, 1, UINT32))], []), "unknown type 99"),
    "nested arrays": (header([entry("a", T.ARRAY, array(T.ARRAY, 1, array(T.UINT8, 1, b"x")))], []), "array of arrays"),
    "long string": (header([entry("a", T.STRING, struct.pack("<Q", BIG))], []), "cut short"),
    "long array": (header([entry("a", T.ARRAY, array(T.UINT64, BIG, b""))], []), "cut short"),
    "long array of strings": (header([entry("a", T.ARRAY, array(T.STRING, BIG, b""))], []), "cut short"),
    "overlong string in array": (
        header([entry("a", T.ARRAY, array(T.STRING, 1, struct.pack("<Q", BIG)))], []),
        "cut short",
    ),
    "alignment 0": (header([entry("general.alignment", T.UINT32, bytes(4))], []), "power of two"),
    "alignment 48": (header([entry("general.alignment", T.UINT32, struct.pack("<I", 48))], []), "power of two"),
    "alignment 2^31": (header([entry("general.alignment", T.UINT32, struct.pack("<I", 2**31))], []), "power of two"),
    "alignment in words": (header([entry("general.alignment", T.STRING, string("32"))], []), "not an integer"),
    "alignments": (header([entry("general.alignment", T.ARRAY, array(T.UINT32, 1, UINT32))], []), "not an integer"),
    "parts in words": (header([entry("split.count", T.STRING, string("2"))], []), "not an integer"),
    "five axes": (header([], [tensor("t", [1] * 5)]) + DATA, "5 axes"),
    "many axes": (header([], [string("t") + struct.pack("<I", 2**32 - 1)]), "4294967295 axes"),
    "unknown tensor type": (header([], [tensor("t", [32], kind=4)]) + DATA, "of type 4"),
    "half a block": (header([], [tensor("t", [48], kind=8)]) + DATA, "Q8_0 cannot have the shape"),
    "empty axis": (header([], [tensor("t", [4, 0])]) + DATA, "cannot have the shape"),
    "overflowing shape": (header([], [tensor("t", [2**32] * 4)]) + DATA, "ends beyond the file"),
    "offset past the end": (header([], [tensor("t", [8], offset=2**62)]) + DATA, "ends beyond the file"),
    "data cut short": (header([], [tensor("t", [33])]) + DATA, "ends beyond the file"),
    "unaligned": (header([], [tensor("t", [8], offset=8)]) + DATA, "not aligned"),
    "tensor twice": (header([], [tensor("t", [8]), tensor("t", [8], offset=32)]) + DATA, "twice"),
    "overlap": (header([], [tensor("a", [16]), tensor("b", [8], offset=32)]) + DATA, "'a' and 'b' overlap"),
    "long tensor name": (header([], [tensor("t" * 65, [8])]) + DATA, "has 65 bytes"),
    "tensor name that is no text": (header([], [tensor(b"\xff", [8])]) + DATA, "not UTF-8"),
}


@pytest.mark.parametrize("data, sentence", WRONG.values(), ids=WRONG)
def test_each_kind_of_damage_has_its_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(SlimmoeError, match=sentence):
        GgufFile(write(tmp_path / "x.gguf", data))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no file"):
        GgufFile(tmp_path / "none.gguf")
    with pytest.raises(RequestError, match="is a folder"):
        GgufFile(tmp_path)


def test_a_string_that_is_no_text_is_told_when_it_is_read(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "x.gguf", header([entry("a", T.STRING, string(b"\xff"))], [])))
    with pytest.raises(WorkError, match="'a' cannot be read"):
        file.get("a")
    with pytest.raises(WorkError, match="does not name its architecture"):
        _ = file.architecture


def test_an_absurd_header_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", header([entry("a", T.ARRAY, array(T.UINT64, 2**26, b""))], []))
    with path.open("ab") as file:
        file.truncate(2**34)  # sparse: the bytes are there, but they take no space
    with pytest.raises(WorkError, match="longer than 256 MiB"):
        GgufFile(path)


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


@pytest.mark.parametrize(
    "name, value",
    [
        ("block_count", 0), ("block_count", 10**6), ("expert_count", 0), ("expert_count", 1), ("expert_count", 2000),
        ("expert_used_count", 0), ("expert_used_count", 100), ("expert_used_count", None), ("nextn_predict_layers", 2),
        ("expert_group_count", 3), ("expert_group_count", 8), ("expert_group_used_count", 0), ("expert_group_used_count", 5),
        ("expert_gating_func", 7), ("attention.layer_norm_epsilon", float("nan")),
    ],
)  # fmt: skip
def test_hyperparameters_for_which_llama_cpp_ends_the_process_are_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    change = {**GROUPS, "expert_gating_func": 2, "nextn_predict_layers": 1, name: value}
    path = write_moe(tmp_path / "x.gguf", {f"tiny.{key}": value for key, value in change.items()})
    with pytest.raises(WorkError, match=rf"tiny\.{name}" if name != "expert_count" else "expert"):
        check_gguf(path)


def test_types_that_are_newer_than_the_gguf_package_are_read(tmp_path: Path) -> None:
    data = header([ARCHITECTURE], [tensor("a", [64, 2], kind=42)])
    assert GgufFile(write(tmp_path / "x.gguf", data, bytes(64))).tensors["a"].dtype == "Q2_0"
