"""Importance matrices: computed on the pair's text, sliced with the cut, and nothing private in the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from gguf import GGUFReader

from export.gguf import _choose_imatrix, _prepared, export_gguf
from export.gguf.imatrix import compute_imatrix, fill_never_routed, fitted, slice_imatrix, write_imatrix
from export.gguf.metadata import Origin
from prune.calibrate.imatrix import CHUNK, Entry, ImportanceMatrix, read_imatrix
from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.text.pairs import Pair
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.tiny import write_tiny_checkpoint

EN_DE, DEV = Pair("en", "de"), Path("data/dev")
KEEP = ([0, 3, 5], [1, 2, 7])


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("plain") / "model.gguf", "BF16")


@pytest.fixture(scope="module")
def file(plain: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The importance matrix of the model with 8 experts."""
    work = tmp_path_factory.mktemp("imatrix")
    write_imatrix(compute_imatrix(plain, tiny_checkpoint, EN_DE, DEV, work), work / "mine.gguf")
    return work / "mine.gguf"


@pytest.fixture(scope="module")
def pruned(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned") / "model"
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, *KEEP), folder)
    return folder


def routed(matrix: ImportanceMatrix) -> dict[str, np.ndarray]:
    return {name: entry.counts for name, entry in matrix.entries.items() if "_exps" in name}


def keys_of(path: Path) -> dict[str, object]:
    fields = GGUFReader(path).fields
    return {key: fields[key].contents() for key in fields if key.startswith("quantize.")}


def test_it_counts_every_token_of_whole_chunks_in_every_layer(file: Path, plain: Path) -> None:
    matrix = read_imatrix(file)
    weights = {name for name, tensor in GgufFile(plain).tensors.items() if len(tensor.shape) > 1}
    assert set(matrix.entries) == {name for name in weights if name.startswith("blk.")}  # routers too
    tokens = {int(counts.sum()) // 2 for counts in routed(matrix).values()}  # each goes to two experts
    assert len(tokens) == 1 and min(tokens) >= 2 * CHUNK and min(tokens) % CHUNK == 0
    assert matrix.entries["blk.0.attn_q.weight"].counts.tolist() == [*tokens]
    assert matrix.experts() == {0: 8, 1: 8}
    assert matrix.datasets == ["dev en-de"]


def test_what_is_written_is_read_again(file: Path, tmp_path: Path) -> None:
    matrix = read_imatrix(file)
    write_imatrix(matrix, tmp_path / "again.gguf")
    again = read_imatrix(tmp_path / "again.gguf")
    assert again.entries.keys() == matrix.entries.keys()
    for name, entry in matrix.entries.items():
        assert np.array_equal(again.entries[name].sums, entry.sums)
        assert np.array_equal(again.entries[name].counts, entry.counts)
    assert replace(again, entries={}) == replace(matrix, entries={})


def test_slicing_keeps_the_rows_of_kept_experts_and_all_else(file: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    slice_imatrix(file, plan_for(tiny_checkpoint, *KEEP), tmp_path / "cut.gguf")
    whole, cut = read_imatrix(file).entries, read_imatrix(tmp_path / "cut.gguf").entries
    assert whole.keys() == cut.keys()
    for name, entry in cut.items():
        rows = KEEP[int(name.split(".")[1])] if "_exps" in name else [0]
        assert np.array_equal(entry.sums, whole[name].sums[rows])
        assert np.array_equal(entry.counts, whole[name].counts[rows])


def test_layers_that_keep_fewer_are_padded_as_the_cut_pads_them(
    file: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    slice_imatrix(file, plan_for(tiny_checkpoint, [0, 4], [0, 1, 4, 5]), tmp_path / "cut.gguf", groups=2)
    counts, whole = routed(read_imatrix(tmp_path / "cut.gguf")), routed(read_imatrix(file))
    before = whole["blk.0.ffn_up_exps.weight"]
    assert counts["blk.0.ffn_up_exps.weight"].tolist() == [before[0], 0, before[4], 0]


def test_the_unpruned_model_s_is_sliced_by_itself(file: Path, pruned: Path, tmp_path: Path) -> None:
    path = export_gguf(pruned, tmp_path / "x.gguf", "BF16")
    plan = Plan.load(pruned / "slimmoe.json")
    slice_imatrix(file, plan, tmp_path / "cut.gguf")
    expected, found = read_imatrix(tmp_path / "cut.gguf"), fitted(read_imatrix(file), GgufFile(path), plan)
    assert found.entries.keys() == expected.entries.keys()
    for name, entry in found.entries.items():
        assert np.array_equal(entry.sums, expected.entries[name].sums)
    again = fitted(expected, GgufFile(path), plan)  # it fits as it is
    assert all(again.entries[name] is entry for name, entry in expected.entries.items())


def test_a_given_one_is_used_under_its_own_name(file: Path, pruned: Path, tmp_path: Path) -> None:
    path = export_gguf(pruned, tmp_path / "x.gguf", "IQ3_XXS", file)
    assert keys_of(path)["quantize.imatrix.file"] == "mine.gguf"
    assert keys_of(path)["quantize.imatrix.entries_count"] == len(read_imatrix(file).entries)


def test_a_given_one_may_have_any_name(file: Path, pruned: Path, tmp_path: Path) -> None:
    name = "plain.gguf"  # as the converted model is called while it is at work
    (tmp_path / name).write_bytes(file.read_bytes())
    path = export_gguf(pruned, tmp_path / "x.gguf", "IQ3_XXS", tmp_path / name)
    assert keys_of(path)["quantize.imatrix.file"] == name
    expected = GgufFile(export_gguf(pruned, tmp_path / "expected.gguf", "IQ3_XXS", file))
    assert all(expected.read(tensor) == GgufFile(path).read(tensor) for tensor in expected.tensors)


def test_a_pruned_model_has_one_computed_where_its_type_needs_it(pruned: Path, tmp_path: Path) -> None:
    said: list[str] = []
    path = export_gguf(pruned, tmp_path / "x.gguf", "IQ3_XXS", corpus=DEV, tell=said.append)
    assert said == ["computing an importance matrix on en-de text of data/dev"]
    assert keys_of(path)["quantize.imatrix.file"] == "en-de.imatrix.gguf"
    assert keys_of(path)["quantize.imatrix.dataset"] == "dev en-de"
    for private in (str(tmp_path), str(pruned), ".gguf."):
        assert private.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("quant", "pair", "given", "chosen"),
    [
        ("IQ2_XXS", EN_DE, None, EN_DE),
        ("Q4_K_M", EN_DE, None, EN_DE),
        ("Q4_K_M", None, None, None),
        ("Q4_K_M", EN_DE, "none", None),
        ("Q6_K", EN_DE, None, None),
        ("MXFP4_MOE", EN_DE, None, None),
        ("IQ2_XXS", EN_DE, Path("mine.gguf"), None),
    ],
)
def test_when_one_is_computed(
    tiny_checkpoint: Path, quant: str, pair: Pair | None, given: Path | Literal["none"] | None, chosen: Pair | None
) -> None:
    assert _choose_imatrix(quant, given, pair, Origin(tiny_checkpoint, pair)) == chosen


def test_a_type_that_needs_one_asks_for_the_pair(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)needs an importance matrix.*--pair en-de"):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "IQ2_XXS", corpus=DEV)
    with pytest.raises(RequestError, match="needs an importance matrix"):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "IQ2_XXS", "none", pair=EN_DE, corpus=DEV)


def test_a_pair_without_text_is_refused_before_any_work(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for corpus, reason in ((DEV, "no corpus file"), (None, "No corpus is given")):
        with pytest.raises(RequestError, match=rf"(?s)from text of en-ja.*{reason}.*--corpus.*--imatrix none"):
            export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "Q4_K_M", pair=Pair("en", "ja"), corpus=corpus)
    assert not list(tmp_path.iterdir())


def test_another_model_s_is_refused_before_any_work(file: Path, tmp_path: Path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", num_experts=6)
    with pytest.raises(RequestError, match="of another model: it has 8 experts in layer 0, this model 6"):
        export_gguf(other, tmp_path / "x" / "x.gguf", "Q4_K_M", file)
    assert not (tmp_path / "x").exists()


def test_another_width_or_other_weights_are_another_model(file: Path, plain: Path) -> None:
    entries = read_imatrix(file).entries
    wide = ImportanceMatrix({name: Entry(np.tile(e.sums, 2), e.counts) for name, e in entries.items()})
    strange = ImportanceMatrix({f"other.{name}": entry for name, entry in entries.items()})
    for matrix in (wide, strange):
        with pytest.raises(RequestError, match="of another model"):
            fitted(matrix, GgufFile(plain), None)


def test_another_model_s_is_not_sliced(file: Path, tiny_checkpoint: Path, plain: Path) -> None:
    plan = plan_for(tiny_checkpoint, *KEEP)
    other = replace(plan, layers=[replace(layer, experts=16) for layer in plan.layers])
    cut = ImportanceMatrix({name: Entry(e.sums[:3], e.counts[:3]) for name, e in read_imatrix(file).entries.items()})
    with pytest.raises(RequestError, match="3 experts in layer 0, and the plan was made for 16"):
        fitted(cut, GgufFile(plain), other)


def test_experts_that_no_token_reached_take_the_mean_of_their_layer() -> None:
    sums, counts = np.array([[2, 4], [0, 0], [4, 2]], np.float32), np.array([2, 0, 1], np.float32)
    never = Entry(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))
    names = (
        "blk.0.ffn_up_exps.weight",
        "blk.0.ffn_down_exps.weight",
        "blk.0.attn_q.weight",
        "blk.1.ffn_up_exps.weight",
    )
    matrix = ImportanceMatrix({name: Entry(sums, counts) for name in names[:3]} | {names[3]: never})
    filled, experts = fill_never_routed(matrix)
    assert experts == 1 + 3
    up = filled.entries[names[0]]
    assert up.sums.tolist() == [[2, 4], [2, 2], [4, 2]] and up.counts.tolist() == [2, 1, 1]
    for name in names[1:]:
        assert filled.entries[name] is matrix.entries[name]


def test_what_pads_a_layer_is_no_expert_that_the_text_did_not_reach(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bias: dict[str, Any] = {f"blk.{layer}.exp_probs_b.bias": np.zeros(8, np.float32) for layer in (0, 1)}
    source = write_moe(tmp_path / "x.gguf", {"tiny.expert_gating_func": 2}, bias)
    layers = [Layer(0, 8, [0, 4]), Layer(1, 8, [0, 1, 4, 5])]
    plan = Plan("tiny", GgufModel(source).fingerprint, "en-de", "reap", "layerwise", 0.5, 0, 2, layers)
    plan.save(tmp_path / "slimmoe.json")
    plain = prune(source, plan, tmp_path / "plain.gguf")

    def matrix(experts: int, *unreached: int) -> ImportanceMatrix:
        counts = np.ones(experts, np.float32)
        counts[[*unreached]] = 0
        names = [f"blk.{layer}.ffn_up_exps.weight" for layer in (0, 1)]
        return ImportanceMatrix({name: Entry(np.ones((experts, 32), np.float32), counts.copy()) for name in names})

    def warnings(number: int, given: ImportanceMatrix) -> str:
        caplog.clear()
        work = tmp_path / str(number)
        work.mkdir()
        _prepared(given, plain, Origin(tmp_path), "x.gguf", work)
        return caplog.text

    assert "not once" not in warnings(1, matrix(8))
    assert "reached 1 experts not once" in warnings(2, matrix(8, 5, 7))  # 7 is cut
    of_the_cut = matrix(4)
    of_the_cut.entries["blk.0.ffn_up_exps.weight"].counts[[2, 3]] = 0
    assert "not once" not in warnings(3, of_the_cut)


@pytest.mark.parametrize(
    ("damage", "kind", "sentence"),
    [
        (lambda data: data[: len(data) // 2], WorkError, "damaged"),
        (lambda data: b"\x10\0\0\0" + data, RequestError, r"(?s)GGUF format.*llama-imatrix --in-file"),
        (lambda data: data.replace(b".in_sum2", b".in_sum3"), RequestError, "not an importance matrix"),
        (lambda data: data.replace(b".counts", b".countz"), WorkError, "damaged"),
        (lambda data: b"", RequestError, "GGUF format"),
    ],
    ids=["truncated", "older format", "no sums", "no counts", "empty"],
)
def test_a_damaged_one_is_a_sentence(
    file: Path, tiny_checkpoint: Path, tmp_path: Path, damage, kind: type[SlimmoeError], sentence: str
) -> None:
    (tmp_path / "bad.gguf").write_bytes(damage(file.read_bytes()))
    with pytest.raises(kind, match=sentence):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "Q4_K_M", tmp_path / "bad.gguf")
