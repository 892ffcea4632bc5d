"""A cut GGUF file is the GGUF file of the cut checkpoint, byte for byte, and computes what the masked one computes."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import slimmoe
from export.gguf import export_gguf
from export.gguf.quantise import quantise
from prune.families import load_family
from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from runtime.engines.llama import LlamaEngine
from runtime.engines.llama_graph import GraphTensor, Watcher, masked
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.text.pairs import Pair
from tests.export.test_gguf_families import (
    HALF,
    RUNNABLE,
    THREE_OF_FOUR,
    UNEVEN,
    Subject,
    write_subject,
)
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.warm_command import run_command

ROOT = Path(__file__).parents[2]
OF_THE_PLAN = ("slimmoe.", "general.")  # keys by which the two ways differ: the converter names a cut model anew


@pytest.fixture(scope="module", params=RUNNABLE)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tiny checkpoint in float32, so that the bias of padding is the same number in both formats, and its F32 file."""
    folder = tmp_path_factory.mktemp(request.param) / "source"
    ungrouped = "n_group" in load_family(request.param).gguf.fixed  # the converter takes the family only so
    changes = {"n_group": 1, "topk_group": 1} if ungrouped else {}
    subject = write_subject(folder, request.param, dtype=torch.float32, **changes)
    export_gguf(subject.folder, file_of(subject), "F32")
    return subject


def file_of(subject: Subject) -> Path:
    return subject.folder.parent / "source.gguf"


def plan_of(file: Path, *keep: Iterable[int], top_k: int | None = None) -> Plan:
    """Keep-lists in turn for all MoE layers."""
    model = GgufModel(file)
    layers = [Layer(layer, n, [*keep[i % len(keep)]]) for i, (layer, n) in enumerate(model.moe_layers.items())]
    top_k = min(top_k or model.top_k, *(len(layer.keep) for layer in layers))
    return Plan("tiny", model.fingerprint, "en-de", "reap", "uniform", 0.5, 0, top_k, layers)


def tensors(file: Path) -> dict[str, tuple]:
    found = GgufFile(file)
    return {name: (t.type.name, t.shape, found.read(name)) for name, t in found.tensors.items()}


def metadata(file: Path) -> dict[str, Any]:
    found = GgufFile(file)
    return {
        key: (value.type, found.get(key))
        for key, value in found.metadata.items()
        if not key.startswith(OF_THE_PLAN) and not key.startswith("tokenizer.chat_template")
    }


def assert_same_file(found: Path, expected: Path) -> None:
    a, b = tensors(found), tensors(expected)
    assert [*a] == [*b]
    assert [name for name in a if a[name] != b[name]] == []
    assert metadata(found) == metadata(expected)


def assert_cut_is_the_file_of_the_cut_checkpoint(subject: Subject, plan: Plan, folder: Path) -> GgufModel:
    prune(subject.folder, plan, folder / "cut")
    export_gguf(folder / "cut", folder / "expected.gguf", "F32")
    prune(file_of(subject), plan, folder / "found.gguf")
    assert_same_file(folder / "found.gguf", folder / "expected.gguf")
    return GgufModel(folder / "found.gguf")


def test_a_checkpoint_and_its_gguf_file_are_the_same_model(subject: Subject) -> None:
    model, checkpoint = GgufModel(file_of(subject)), subject.checkpoint
    names = ["fingerprint", "moe_layers", "top_k", "groups", "topk_groups"]
    assert {name: getattr(model, name) for name in names} == {name: getattr(checkpoint, name) for name in names}
    assert model.group_floor >= checkpoint.group_floor or checkpoint.groups == 1
    # Where a file does not name its gating function, as Nemotron-H's do not, it may be one that padding would change.
    assert model.can_pad == checkpoint.can_pad or not (model.can_pad or model.numbers("expert_gating_func"))


def test_half_of_the_experts_in_float32_and_eight_bits(subject: Subject, tmp_path: Path) -> None:
    plan = subject.plan(*HALF)
    cut = assert_cut_is_the_file_of_the_cut_checkpoint(subject, plan, tmp_path)
    assert set(cut.moe_layers.values()) == {4}
    assert GgufFile(tmp_path / "found.gguf").get("slimmoe.hash") == plan.hash
    quantise(file_of(subject), tmp_path / "source.gguf", "Q8_0")
    quantise(tmp_path / "expected.gguf", tmp_path / "expected-q8.gguf", "Q8_0")
    prune(tmp_path / "source.gguf", plan, tmp_path / "found-q8.gguf")
    assert_same_file(tmp_path / "found-q8.gguf", tmp_path / "expected-q8.gguf")


def test_fewer_experts_than_top_k_lower_it(subject: Subject, tmp_path: Path) -> None:
    few = max(1, subject.checkpoint.layer_floor)
    plan = subject.plan([3, 5][:few], [2, 6][:few])
    cut = prune(file_of(subject), plan, tmp_path / "cut.gguf")
    assert GgufModel(cut).top_k == few < subject.checkpoint.top_k
    assert_cut_equals_masked(file_of(subject), plan, cut, 1e-4)


def test_groups_stay_where_each_keeps_as_many_and_fall_together_otherwise(subject: Subject, tmp_path: Path) -> None:
    if subject.checkpoint.groups == 1:
        pytest.skip("the router has no groups")
    for number, keep in enumerate((THREE_OF_FOUR, ([0, 1, 2, 3, 6], [0, 4, 5, 6, 7]), HALF)):
        cut = assert_cut_is_the_file_of_the_cut_checkpoint(subject, subject.plan(*keep), tmp_path / str(number))
        assert cut.groups == (2 if keep is THREE_OF_FOUR else 1)


def test_layers_of_different_counts_are_padded_where_a_bias_allows_it(subject: Subject, tmp_path: Path) -> None:
    plan = subject.plan(*UNEVEN)
    if not GgufModel(file_of(subject)).can_pad:
        with pytest.raises(RequestError, match="--ragged"):
            prune(file_of(subject), plan, tmp_path / "cut.gguf")
        assert not any(tmp_path.iterdir())
        return
    assert_cut_is_the_file_of_the_cut_checkpoint(subject, plan, tmp_path)


def assert_cut_equals_masked(source: Path, plan: Plan, cut: Path, bar: float) -> None:
    """In llama.cpp: the cut file against its source with the dropped experts made unselectable."""
    ids = np.random.default_rng(0).integers(4, 2000, 40).tolist()
    drop = {layer.layer: {*range(layer.experts)} - {*layer.keep} for layer in plan.layers}
    with contextlib.closing(LlamaEngine(cut, threads=1, exact=True)) as engine:
        found = engine.logits(ids)
    if plan.top_k != GgufModel(source).top_k:
        assert np.isfinite(found).all()  # a mask cannot lower top-k
        return
    with contextlib.closing(LlamaEngine(source, threads=1, exact=True, watched=True)) as engine:
        whole = engine.logits(ids)
        with masked(engine, drop):
            expected = engine.logits(ids)
    assert np.abs(found - expected).max() <= bar
    assert np.abs(found - whole).max() > 1e-2  # the experts did matter


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A model whose rows are long enough for every type."""
    subject = write_subject(tmp_path_factory.mktemp("wide") / "source", "qwen3_moe", dtype=torch.bfloat16)
    export_gguf(subject.folder, file_of(subject), "BF16")
    prune(subject.folder, subject.plan(*HALF), subject.folder.parent / "cut")
    export_gguf(subject.folder.parent / "cut", subject.folder.parent / "cut.gguf", "BF16")
    return subject


@pytest.mark.parametrize("quant", ["F16", "BF16", "Q4_K_M", "Q3_K_M", "IQ4_XS", "MXFP4_MOE", "TQ1_0"])
def test_quantised_then_cut_is_cut_then_quantised(wide: Subject, tmp_path: Path, quant: str) -> None:
    quantise(file_of(wide), tmp_path / "source.gguf", quant)
    quantise(wide.folder.parent / "cut.gguf", tmp_path / "expected.gguf", quant)
    prune(tmp_path / "source.gguf", wide.plan(*HALF), tmp_path / "found.gguf")
    assert_same_file(tmp_path / "found.gguf", tmp_path / "expected.gguf")


class KeptSoftmax:
    """A watcher that masks what is not kept and takes the router's softmax over the rest itself, in float64.

    The graph's own softmax adds up one term for each expert that is there, zeros of masked ones among them, in vectors;
    so its last bit depends on their number, and the rounding of activations to 8 bits makes more of that.
    """

    def __init__(self, keep: dict[int, list[int]] | None = None) -> None:
        self._keep = keep  # None: the file has no others

    def wants(self, name: str, layer: int) -> bool:
        return name in ("ffn_moe_logits", "ffn_moe_probs")

    def see(self, tensor: GraphTensor) -> bool:
        values = tensor.read()
        keep = self._keep[tensor.layer] if self._keep else [*range(values.shape[-1])]
        if tensor.name == "ffn_moe_logits":
            self._logits = values[..., keep].astype(np.float64)
        new = np.full_like(values, -1e30)
        powers = np.exp(self._logits - self._logits.max(-1, keepdims=True))
        new[..., keep] = self._logits if tensor.name == "ffn_moe_logits" else powers / powers.sum(-1, keepdims=True)
        tensor.write(new)
        return True


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_K_M", "MXFP4_MOE"])
def test_but_for_the_softmax_the_cut_is_the_masked_file_to_the_last_bit(
    wide: Subject, tmp_path: Path, quant: str
) -> None:
    source, plan = tmp_path / "source.gguf", wide.plan(*HALF)
    quantise(file_of(wide), source, quant)
    cut = prune(source, plan, tmp_path / "cut.gguf")
    ids = np.random.default_rng(0).integers(4, 2000, 600).tolist()  # more than one batch
    keep = {layer.layer: layer.keep for layer in plan.layers}

    def logits(path: Path, watcher: Watcher) -> np.ndarray:
        with (
            contextlib.closing(LlamaEngine(path, threads=1, exact=True, watched=True)) as engine,
            engine.watch(watcher),
        ):
            return engine.logits(ids)

    found, expected, whole = (
        logits(cut, KeptSoftmax()),
        logits(source, KeptSoftmax(keep)),
        logits(source, KeptSoftmax()),
    )
    assert np.array_equal(found, expected)
    assert np.abs(found - whole).max() > 1  # the experts did matter


def test_every_family_computes_what_it_computes_masked(subject: Subject, tmp_path: Path) -> None:
    keep = THREE_OF_FOUR if subject.checkpoint.groups > 1 else HALF  # a mask keeps groups; so must the cut
    plan = subject.plan(*keep)
    assert_cut_equals_masked(file_of(subject), plan, prune(file_of(subject), plan, tmp_path / "cut.gguf"), 1e-4)


def test_padding_computes_what_the_masked_file_computes(subject: Subject, tmp_path: Path) -> None:
    if not subject.checkpoint.can_pad or subject.checkpoint.groups > 1:
        pytest.skip("no padding, or it gives up the groups, which a mask keeps")
    plan = subject.plan(*UNEVEN)
    assert_cut_equals_masked(file_of(subject), plan, prune(file_of(subject), plan, tmp_path / "cut.gguf"), 1e-4)


def test_all_else_stays_byte_for_byte(tmp_path: Path) -> None:
    source = write_moe(tmp_path / "x.gguf")
    cut = prune(source, plan_of(source, [0, 3], [1, 2]), tmp_path / "cut.gguf")

    def entries(path: Path) -> dict[str, bytes]:
        data = path.read_bytes()
        return {key: data[value.entry : value.stop] for key, value in GgufFile(path).metadata.items()}

    before, after = entries(source), entries(cut)
    assert [key for key in before if after[key] != before[key]] == ["tiny.expert_count"]
    assert all(key.startswith("slimmoe.") for key in after.keys() - before.keys())
    assert tensors(cut)["blk.1.attn_norm.weight"] == tensors(source)["blk.1.attn_norm.weight"]


def test_a_system_that_writes_a_little_at_a_time_gets_all_of_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = write_moe(tmp_path / "x.gguf", {"tiny.block_count": 2})
    plan = plan_of(source, [0, 3], [1, 2])
    expected = prune(source, plan, tmp_path / "expected.gguf").read_bytes()
    request.getfixturevalue("short_writes")
    assert prune(source, plan, tmp_path / "cut.gguf").read_bytes() == expected


def test_a_split_file_becomes_one_file(tmp_path: Path) -> None:
    whole, first = write_moe(tmp_path / "x.gguf"), write_moe(tmp_path / "split.gguf", parts=3)
    plan = plan_of(whole, [0, 3, 4], [1, 2, 7])
    prune(whole, plan, tmp_path / "a.gguf")
    prune(tmp_path / "split-00002-of-00003.gguf", plan, tmp_path / "b.gguf")
    assert tensors(tmp_path / "a.gguf") == tensors(tmp_path / "b.gguf")
    cut = GgufFile(tmp_path / "b.gguf")
    assert len(cut.parts) == 1 and not any(key.startswith("split.") for key in cut.metadata)
    with pytest.raises(RequestError, match="is kept as it is"):
        prune(first, plan, tmp_path / "split-00003-of-00003.gguf")


def test_a_folder_gets_a_file_that_is_named_by_pair_and_share(tmp_path: Path) -> None:
    first = write_moe(tmp_path / "split.gguf", parts=2)
    cut = prune(first, plan_of(first, [0, 3]), f"{tmp_path}/new/")
    assert cut == tmp_path / "new" / "split-en-de-p50.gguf" and cut.exists()
    with pytest.raises(RequestError, match=r"(?s)does not end in \.gguf.*next: .*--plan .*/cut\.bin/"):
        prune(first, plan_of(first, [0, 3]), tmp_path / "cut.bin")


def test_top_k_by_layer_is_lowered_layer_by_layer(tmp_path: Path) -> None:
    source = write_moe(tmp_path / "x.gguf", {"tiny.expert_used_count": [2, 4]})
    prune(source, plan_of(source, [0, 3, 5], [1, 2, 7]), tmp_path / "cut.gguf")
    assert GgufFile(tmp_path / "cut.gguf").get("tiny.expert_used_count") == [2, 3]


def test_groups_that_fall_together_are_one_and_none_where_one_expert_is_left(tmp_path: Path) -> None:
    groups = {"tiny.expert_group_count": 4, "tiny.expert_group_used_count": 2}
    source = write_moe(tmp_path / "x.gguf", groups)
    for keep, left in (([0, 3, 5], dict.fromkeys(groups, 1)), ([3], {})):
        cut = GgufFile(prune(source, plan_of(source, keep), tmp_path / "cut.gguf"))
        assert {key: cut.get(key) for key in groups if key in cut.metadata} == left


def test_layers_of_multi_token_prediction_are_left_out(tmp_path: Path) -> None:
    change = {"tiny.nextn_predict_layers": 1, "tiny.attention.head_count_kv": [1, 2, 3]}
    change |= {"tiny.expert_used_count": [2, 3, 4], "tiny.expert_count": [8, 8, 8]}
    source = write_moe(tmp_path / "x.gguf", change, layers=3)
    cut = GgufFile(prune(source, plan_of(source, [0, 3]), tmp_path / "cut.gguf"))
    expected = {
        "block_count": 2, "nextn_predict_layers": 0, "attention.head_count_kv": [1, 2],
        "expert_used_count": [2, 2], "expert_count": [2, 2],
    }  # fmt: skip
    assert {key: cut.get(f"tiny.{key}") for key in expected} == expected
    assert not any(name.startswith("blk.2.") for name in cut.tensors)


@pytest.mark.parametrize(("architecture", "stays"), [("glm4moe", True), ("exaone-moe", False)])
def test_the_command_tells_what_becomes_of_the_prediction_layer(architecture: str, stays: bool, tmp_path: Path) -> None:
    change = {f"{architecture}.nextn_predict_layers": 1}
    extra: dict[str, Any] = {"blk.2.nextn.eh_proj.weight": np.ones((32, 64), np.float32)}
    source = write_moe(tmp_path / "x.gguf", change, extra, layers=3, architecture=architecture)
    plan_of(source, [0, 3], [1, 7]).save(tmp_path / "plan.json")
    plan, output = tmp_path / "plan.json", tmp_path / "cut.gguf"
    done = run_command("prune", str(source), "--plan", str(plan), "-o", str(output), seconds=60)
    told = " ".join((done.output + done.errors).split())
    assert done.status == 0, done.errors
    assert ("of the same numbers as layer 1" in told) is stays
    assert ("are left out: llama.cpp does not draft" in told) is not stays
    before, after = tensors(source), tensors(output)
    name = "blk.2.ffn_up_exps.weight"
    assert (name in after) is stays and ("blk.2.nextn.eh_proj.weight" in after) is stays
    if stays:
        size = len(before[name][2]) // 8
        assert after[name][2] == b"".join(before[name][2][row * size : (row + 1) * size] for row in (1, 7))
        assert GgufFile(output).get(f"{architecture}.block_count") == 3


def test_expert_biases_and_scales_go_with_their_experts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    extra: dict[str, Any] = {}
    for layer in (0, 1):
        extra[f"blk.{layer}.ffn_up_exps.bias"] = rng.random((8, 4), np.float32)
        extra[f"blk.{layer}.ffn_down_exps.scale"] = rng.random(8, np.float32)
    source = write_moe(tmp_path / "x.gguf", extra=extra)
    cut = tensors(prune(source, plan_of(source, [0, 3], [1, 7]), tmp_path / "cut.gguf"))
    for name, values in extra.items():
        assert cut[name][2] == values[[0, 3] if ".0." in name else [1, 7]].tobytes()


def odd(**extra: np.ndarray | None) -> dict[str, np.ndarray | None]:
    return {f"blk.1.{name.replace('__', '.')}": values for name, values in extra.items()}


FEW = np.zeros((6, 4, 32), np.float16)
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a tensor that no rule knows": ({}, odd(ffn_up_chexps__weight=FEW), r"ffn_up_chexps\.weight \(one part"),
    "experts that are too few": ({}, odd(ffn_up_exps__weight=FEW), r"ffn_up_exps.*\[6, 4, 32\], .* 8 experts"),
    "experts that are not there": ({}, odd(ffn_down_exps__weight=None), r"there is no blk\.1\.ffn_down_exps"),
    "experts without a router": ({}, odd(ffn_gate_inp__weight=None), r"blk\.1\.ffn_gate_exps\.weight"),
    "another count in the metadata": ({"tiny.expert_count": 9}, {}, r"\[8, 32\], .* 9 experts"),
}


@pytest.mark.parametrize("change, extra, sentence", REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_cut_is_told(
    tmp_path: Path, change: dict[str, Any], extra: dict[str, Any], sentence: str
) -> None:
    source = write_moe(tmp_path / "x.gguf", change, extra)
    with pytest.raises(WorkError, match=sentence):
        prune(source, plan_of(source, [0, 3]), tmp_path / "out" / "cut.gguf")
    assert not (tmp_path / "out").exists()


def keeping(*keep: int) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, layers=[replace(each, keep=[*keep]) for each in plan.layers])


PLANS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "another model": (lambda plan: replace(plan, fingerprint="0" * 32), "another model"),
    "other layers": (lambda plan: replace(plan, layers=plan.layers[:1]), "not the model's layers"),
    "other counts": (lambda p: replace(p, layers=[replace(each, experts=9) for each in p.layers]), "not the model's"),
    "unsorted": (keeping(3, 0), "keep-list"),
    "empty": (keeping(), "keep-list"),
    "out of range": (keeping(0, 8), "keep-list"),
    "too few": (keeping(3), "keeps 1 experts in a layer; the router of tiny needs 2"),
    "no top-k": (lambda p: replace(p, top_k=0), "0 experts per token, and .* 2"),
    "another top-k": (lambda p: replace(p, top_k=3), "3 experts per token, and .* 2"),
}


@pytest.mark.parametrize("change, sentence", PLANS.values(), ids=PLANS)
def test_a_plan_that_does_not_fit_is_told(tmp_path: Path, change: Callable[[Plan], Plan], sentence: str) -> None:
    source = write_moe(tmp_path / "x.gguf")
    with pytest.raises(RequestError, match=sentence):
        prune(source, change(plan_of(source, [0, 3])), tmp_path / "cut.gguf")
    assert not (tmp_path / "cut.gguf").exists()


def test_a_gguf_file_is_never_ragged(tmp_path: Path) -> None:
    source = write_moe(tmp_path / "x.gguf")
    with pytest.raises(RequestError, match="--ragged is for checkpoints"):
        prune(source, plan_of(source, [0, 3]), tmp_path / "cut.gguf", ragged=True)


INTERRUPTED = """
import os, signal, sys
import runtime.formats.copying as room
from prune.rewrite import prune
from prune.plan.plan import Plan
copy, calls = room.copy_range, []
def interrupted(*arguments):
    copy(*arguments)
    calls.append(arguments)
    if len(calls) == 4:
        os.kill(os.getpid(), int(sys.argv[4]))
room.copy_range = interrupted
prune(sys.argv[1], Plan.load(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_interrupted_in_the_middle_leaves_nothing_under_the_name(tmp_path: Path, number: signal.Signals) -> None:
    source = write_moe(tmp_path / "x.gguf")
    plan_of(source, [0, 3]).save(tmp_path / "plan.json")
    output = tmp_path / "out" / "cut.gguf"
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + INTERRUPTED
    command = [sys.executable, "-c", script, source, tmp_path / "plan.json", output, str(int(number))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert result.returncode in (-number, 130), result.stderr.decode()
    assert not output.exists()
    assert number == signal.SIGKILL or not any(output.parent.iterdir())


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "transformers", "accelerate", "onnx", "peft"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Absent())
from slimmoe.cli import main
sys.argv = ["slimmoe", *sys.argv[1:]]
main()
"""


def test_a_gguf_file_is_pruned_and_scored_without_torch(wide: Subject, tmp_path: Path) -> None:
    """The whole way, in processes in which torch and transformers cannot be imported."""
    quantise(file_of(wide), tmp_path / "source.gguf", "Q8_0")
    (tmp_path / "test.tsv").write_text("Save the file.\tSpeichern Sie die Datei.\n", encoding="utf-8")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def at(name: str) -> str:
        return str(tmp_path / name)

    run("calibrate", at("source.gguf"), "--pair", "en-de", "--tokens", "200", "-o", at("stats.safetensors"))
    run("plan", at("stats.safetensors"), "--ratio", "0.5", "--allocation", "uniform", "-o", at("plan.json"))
    assert "MB" in run("gguf", at("source.gguf"), "--plan", at("plan.json"), "-o", at("cut.gguf"))
    assert GgufModel(tmp_path / "cut.gguf").moe_layers == {0: 4, 1: 4}
    run("evaluate", at("cut.gguf"), "--pair", "en-de", "--test", at("test.tsv"), "--threads", "1", "--json")


def test_a_cut_brings_the_modelfile_of_its_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = export_gguf(tiny_checkpoint, tmp_path / "whole.gguf", "Q8_0", pair=Pair("en", "de"))
    slimmoe.prune(whole, plan_for(tiny_checkpoint, [0, 1, 2], [5, 6, 7]), tmp_path / "cut.gguf")
    expected = (tmp_path / "whole.Modelfile").read_text().replace("whole", "cut")
    assert "{{ .Prompt }}" in expected and (tmp_path / "cut.Modelfile").read_text() == expected
