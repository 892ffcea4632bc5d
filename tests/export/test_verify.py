"""Verification passes what is right, and fails what computes something else."""

import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from export.comparison import Comparison, judge
from export.gguf import export_gguf
from export.model_runner import run_checkpoint
from export.onnx import export_onnx
from export.verification import add_to_record, content_hash
from export.verify import EXACT_BAR, _Text, verify
from prune.rewrite import prune
from runtime.engines.llama import LlamaEngine
from runtime.errors import RequestError, WorkError
from runtime.report import markdown, read_run
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.prune.test_gguf_cut import plan_of
from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
DEV, PAIR = ROOT / "runtime/text/data" / "dev", Pair("en", "de")
KEEP = [0, 1, 2], [5, 6, 7]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("other") / "model", seed=1)


@pytest.fixture(scope="module")
def source_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("source") / "source.gguf", "F32")


@pytest.fixture(scope="module")
def source_q8(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("source") / "source-q8.gguf", "Q8_0")


def tensor(path: Path, name: str) -> np.memmap:
    """A tensor's data in the file itself: what is assigned to it is written."""
    return next(each.data for each in GGUFReader(path, "r+").tensors if each.name == name)


def test_a_cut_equals_its_masked_source_and_no_other(tiny_checkpoint, other, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, *KEEP), tmp_path / "cut")
    assert verify(tmp_path / "cut", tiny_checkpoint, DEV, PAIR).passed
    with pytest.raises(RequestError, match="another model"):
        verify(tmp_path / "cut", other, DEV, PAIR)


def test_a_model_that_does_not_fit_into_memory_is_a_sentence(tiny_checkpoint, monkeypatch) -> None:
    monkeypatch.setattr("prune.device.memory_left", lambda: 1000)
    with run_checkpoint(tiny_checkpoint, "float64") as run, pytest.raises(RequestError, match="in float64: it takes"):
        run.logits([1, 2, 3])


def test_a_cut_with_other_experts_than_its_plan_s_fails(tiny_checkpoint, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, *KEEP), tmp_path / "cut")
    plan_for(tiny_checkpoint, [0, 1, 3], [5, 6, 7]).save(tmp_path / "cut" / "slimmoe.json")
    assert not verify(tmp_path / "cut", tiny_checkpoint, DEV, PAIR).passed


def test_float32_artefacts_are_held_to_the_exact_bar(source_gguf, tiny_checkpoint, other) -> None:
    right, wrong = (verify(source_gguf, source, DEV, PAIR) for source in (tiny_checkpoint, other))
    assert right.passed and right.numbers and wrong.numbers
    assert right.numbers.largest_difference <= EXACT_BAR * right.numbers.spread and right.numbers.top1_agreement == 1
    assert abs(right.numbers.perplexity_ratio - 1) < 1e-4
    assert not wrong.passed and wrong.numbers.divergence > right.numbers.divergence
    assert wrong.numbers.divergence_max >= wrong.numbers.divergence_p99 > wrong.numbers.divergence
    assert wrong.numbers.divergence_error > 0
    assert (
        "DIFFERS" in wrong.sentence()
        and "the bar is largest logit difference <= 0.0002 of the spread" in wrong.sentence()
    )


def test_on_a_gpu_a_float32_artefact_is_held_to_the_bar_of_rounded_ones(
    source_gguf, tiny_checkpoint, monkeypatch
) -> None:
    """Kernels of a GPU round float32, too. The other process of the tests of split models does not."""
    for backend, bar in (("Vulkan", "divergence"), ("RPC", "largest logit difference")):
        monkeypatch.setattr(LlamaEngine, "on_device", {"backend": backend})
        result = verify(source_gguf, tiny_checkpoint, DEV, PAIR)
        assert result.passed and result.bar.startswith(bar)


def test_quantised_artefacts_are_held_to_a_share_of_the_information(tiny_checkpoint, other, tmp_path) -> None:
    export_onnx(other, tmp_path / "onnx", "int8")
    right, wrong = (verify(tmp_path / "onnx", source, DEV, PAIR) for source in (other, tiny_checkpoint))
    assert right.passed and not wrong.passed and right.numbers and wrong.numbers
    assert right.numbers.divergence < 0.25 * right.numbers.information < wrong.numbers.divergence


def test_shuffled_router_rows_are_caught(source_gguf, tiny_checkpoint, tmp_path) -> None:
    shutil.copyfile(source_gguf, tmp_path / "x.gguf")
    router = tensor(tmp_path / "x.gguf", "blk.1.ffn_gate_inp.weight")
    router[:] = np.roll(router, 1, axis=0)
    router.flush()
    found = verify(tmp_path / "x.gguf", tiny_checkpoint, DEV, PAIR)
    assert not found.passed and found.numbers and found.numbers.largest_difference > EXACT_BAR * found.numbers.spread
    assert "its routers are others" in found.sentence()


def test_a_cut_file_is_not_its_whole_model(source_q8, tiny_checkpoint, tmp_path) -> None:
    """Though a few experts fewer may lose less than the bar."""
    plan = plan_for(tiny_checkpoint, [*range(7)], [*range(7)])
    found = verify(prune(source_q8, plan, tmp_path / "cut.gguf"), tiny_checkpoint, DEV, PAIR)
    assert not found.passed and "it has [7] experts in its layers, and not [8]" in found.sentence()


def test_a_fine_tuned_model_is_not_its_masked_source(source_q8, tiny_checkpoint, tmp_path) -> None:
    plan = plan_for(tiny_checkpoint, *KEEP)
    prune(tiny_checkpoint, plan, tmp_path / "cut")
    about = tmp_path / "cut" / "slimmoe.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"recovery": {"steps": 1}}))
    with pytest.raises(RequestError, match="fine-tuned since it was cut"):
        verify(tmp_path / "cut", tiny_checkpoint, DEV, PAIR)
    plan.save(tmp_path / "plan.json")
    export_gguf(tmp_path / "cut", tmp_path / "cut.gguf", "Q8_0")
    with pytest.raises(RequestError, match="fine-tuned since it was cut"):
        verify(tmp_path / "cut.gguf", source_q8, DEV, PAIR, tmp_path / "plan.json")


@pytest.mark.parametrize(("key", "factor"), [("rope.freq_base", 1.01), ("attention.layer_norm_rms_epsilon", 10)])
def test_a_slightly_wrong_graph_is_caught(key, factor, source_gguf, tiny_checkpoint, tmp_path) -> None:
    shutil.copyfile(source_gguf, tmp_path / "x.gguf")
    reader = GGUFReader(tmp_path / "x.gguf", "r+")
    reader.fields[f"qwen3moe.{key}"].parts[-1][0] *= factor
    reader.data.flush()
    assert not verify(tmp_path / "x.gguf", tiny_checkpoint, DEV, PAIR).passed


def with_merges(checkpoint: Path, folder: Path, change: Callable[[list], list]) -> Path:
    """A copy of the checkpoint whose tokenizer has other merges."""
    shutil.copytree(checkpoint, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = change(tokenizer["model"]["merges"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def test_a_damaged_tokenizer_is_its_own_sentence(source_gguf, other, tiny_checkpoint, tmp_path) -> None:
    ids = "its tokenizer or chat template gives other token ids in 24 of 24 conversations."
    for name, checkpoint, reason in (
        ("same", tiny_checkpoint, ids),
        ("other", other, f"its routers are others; {ids}"),
    ):
        found = verify(source_gguf, with_merges(checkpoint, tmp_path / name, lambda merges: merges[:500]), DEV, PAIR)
        assert not found.passed and found.numbers is None
        assert found.sentence() == f"{source_gguf} DIFFERS from {tmp_path / name}; {reason}"


def test_a_conversation_that_is_too_long_on_one_side_is_one_that_differs(
    source_gguf, tiny_checkpoint, tmp_path
) -> None:
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text(f"Open it.\tÖffnen.\nFile\t{'the files ' * 200}\nClose it.\tSeite zu.\nSave it.\tSichern.\n")
    without = with_merges(tiny_checkpoint, tmp_path / "x", lambda merges: [m for m in merges if "".join(m) != "Ġfiles"])
    found = verify(source_gguf, without, corpus, PAIR)
    assert found.reason.endswith("gives other token ids in 1 of 4 conversations")


@pytest.mark.parametrize("side", ["artefact", "reference"])
def test_logits_that_are_no_numbers_agree_with_nothing(side, source_gguf, tmp_path) -> None:
    damaged = tmp_path / "damaged.gguf"
    shutil.copyfile(source_gguf, damaged)
    norm = tensor(damaged, "output_norm.weight")
    norm[:] = np.nan
    norm.flush()
    pair = [damaged, source_gguf] if side == "artefact" else [source_gguf, damaged]
    command = [sys.executable, "-m", "slimmoe", "verify", pair[0], "--against", pair[1], "-o", tmp_path / "verify.json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    whose = "some of its logits" if side == "artefact" else "some of the other's logits"
    assert f"DIFFERS from {pair[1]}; {whose} are no numbers" in result.stderr


def test_a_gguf_cut_by_bytes_equals_its_source_with_the_experts_masked(
    source_gguf, source_q8, tiny_checkpoint, tmp_path
) -> None:
    for name, keep in (("half", KEEP), ("one", ([3], [4]))):  # one: fewer than top-k
        plan = plan_for(tiny_checkpoint, *keep)
        plan.save(tmp_path / f"{name}.json")
        for source in (source_gguf, source_q8):
            cut = prune(source, plan, tmp_path / f"{name}-{source.name}")
            found = verify(cut, source, DEV, PAIR, tmp_path / f"{name}.json")
            assert found.passed and found.numbers, found
            if source == source_gguf:  # quantised activations amplify how the router's additions are ordered
                assert found.numbers.largest_difference <= EXACT_BAR * found.numbers.spread
            assert found.numbers.divergence < 1e-3 and found.numbers.top1_agreement > 0.99
            assert found.plan == plan.hash and "llama.cpp" in found.against_engine


def test_a_gguf_cut_otherwise_than_its_plan_says_fails(source_q8, tiny_checkpoint, tmp_path) -> None:
    plan, wrong = plan_for(tiny_checkpoint, *KEEP), plan_for(tiny_checkpoint, [0, 1, 3], [5, 6, 7])
    plan.save(tmp_path / "plan.json")
    cut = prune(source_q8, plan, tmp_path / "right.gguf")
    experts = tensor(cut, "blk.1.ffn_down_exps.weight")
    experts[2, 0, 0] ^= 1  # a bit, too little for any bar on logits
    experts.flush()
    found = verify(cut, source_q8, DEV, PAIR, tmp_path / "plan.json")
    assert not found.passed and "the bytes of its tensor blk.1.ffn_down_exps.weight" in found.sentence()

    wrong.save(tmp_path / "wrong.json")
    with pytest.raises(RequestError, match=f"cut by the plan {plan.hash}"):
        verify(cut, source_q8, DEV, PAIR, tmp_path / "wrong.json")
    with pytest.raises(RequestError, match="the plan that tells which ones stayed is needed"):
        verify(cut, source_q8, DEV, PAIR)


def test_a_gguf_of_fewer_bits_is_held_against_one_of_more(source_q8, source_gguf, other, tmp_path) -> None:
    assert verify(source_q8, source_gguf, DEV, PAIR).passed
    export_gguf(other, tmp_path / "other.gguf", "Q8_0")
    assert not verify(tmp_path / "other.gguf", source_gguf, DEV, PAIR).passed


def test_gguf_files_are_verified_without_torch(source_q8, source_gguf, tiny_checkpoint, tmp_path) -> None:
    plan_for(tiny_checkpoint, *KEEP).save(tmp_path / "plan.json")
    command = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from pathlib import Path; from prune.rewrite import prune; from prune.plan.plan import Plan\n"
        "import slimmoe.cli\n"
        "source, plan, cut = sys.argv[1:4]\n"
        "prune(Path(source), Plan.load(Path(plan)), Path(cut))\n"
        "sys.argv[1:] = ['verify', cut, '--against', source, '--plan', plan, '-o', cut + '.json']; slimmoe.cli.main()"
    )
    arguments = [source_q8, tmp_path / "plan.json", tmp_path / "cut.gguf"]
    result = subprocess.run([sys.executable, "-c", command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "agrees with" in result.stdout
    assert json.loads((tmp_path / "cut.gguf.json").read_text())["checks"][0]["passed"] is True


def test_a_top_k_by_layer_cannot_be_lowered_and_is_refused(tmp_path) -> None:
    """llama.cpp would leave it as it is, and the masked reference choose more experts than the cut."""
    source = write_moe(tmp_path / "x.gguf", {"tiny.expert_used_count": [2, 4]})
    plan = plan_of(source, [0, 3, 5], [1, 2, 7])
    plan.save(tmp_path / "plan.json")
    cut = prune(source, plan, tmp_path / "cut.gguf")
    with pytest.raises(RequestError, match=r"gives tiny\.expert_used_count by layer"):
        verify(cut, source, DEV, PAIR, tmp_path / "plan.json")


def test_a_checkpoint_leaves_memory_when_its_run_ends(tiny_checkpoint) -> None:
    """And unmasked: two models of a check together would be twice the size that it needs."""
    with run_checkpoint(tiny_checkpoint, "float64", plan_for(tiny_checkpoint, *KEEP)) as run:
        run.logits([1, 2, 3])
        kept = run._model  # type: ignore[attr-defined]
        router = kept.get_submodule("model.layers.0.mlp.gate")
        assert "forward" in vars(router)
    assert "forward" not in vars(router)
    model = weakref.ref(kept)
    del kept, router
    assert model() is None


def test_a_corpus_that_changes_meanwhile_does_not_change_what_is_recorded(tmp_path) -> None:
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("Open it.\tÖffnen.\n")
    text = _Text(corpus, PAIR, PromptTemplate("{text}"))
    before = text.segments
    corpus.write_text("Close it.\tSchließen.\n")
    assert text.segments == before == [("Open it.", "Öffnen.")]


def test_the_record_keeps_one_check_of_each_two_names(source_q8, source_gguf, tmp_path) -> None:
    path = tmp_path / "verify.json"
    first, second = verify(source_q8, source_gguf, DEV, PAIR), verify(source_gguf, source_gguf, DEV, PAIR)
    for found in (first, second, first):
        add_to_record(path, found)
    checks = json.loads(path.read_text())["checks"]
    assert [check["artefact"] for check in checks] == [str(source_gguf), str(source_q8)]
    assert checks[1]["artefact_sha256"] == content_hash(source_q8) != checks[1]["against_sha256"]
    assert (
        checks[1]["top1_agreement"] > 0.8
        and checks[1]["segments"] == 24
        and checks[1]["engine"].startswith("llama.cpp")
    )
    assert [each.name for each in tmp_path.iterdir()] == ["verify.json"] and first.numbers
    (tmp_path / "bench.jsonl").write_text(
        json.dumps({"artefact": "x", "engine": "x", "machine": "x", "threads": 1, "python": "3"})
    )
    differing = replace(first, numbers=None, reason="it has other token ids", against="another")
    add_to_record(path, differing)
    text = markdown(read_run(tmp_path), "title")
    assert (
        f"| {first.numbers.tokens} |" in text
        and "| passed |" in text
        and "| FAILED |" in text
        and "| it has other token ids |" in text
    )
    broken = json.loads(path.read_text()) | {"checks": [{"artefact": 3}]}
    for content in ("{}", "[" * 100_000, json.dumps(broken)):
        path.write_text(content)
        with pytest.raises(WorkError, match=r"not a record of checks|nested too deeply|is damaged: "):
            add_to_record(path, first)
        assert path.read_text() == content


def test_a_wrong_export_ends_the_command_with_a_sentence(source_q8, other) -> None:
    command = [sys.executable, "-m", "slimmoe", "verify", source_q8, "--against", other]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "DIFFERS from" in result.stderr and "Traceback" not in result.stderr


def test_divergence_of_known_distributions() -> None:
    comparison = Comparison()
    reference, found = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    comparison.add(reference, found, [0, 1])
    comparison.add(reference[1:], found[1:], [0])
    numbers = comparison.numbers()
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert numbers.divergence == pytest.approx(first / 3) and numbers.divergence_max == pytest.approx(first)
    assert numbers.top1_agreement == pytest.approx(2 / 3, abs=1e-5)
    assert numbers.perplexity == pytest.approx(2) and numbers.perplexity_ratio == pytest.approx(0.5 / 0.75)
    # Deviations of the two conversations' sums from the mean: first - 2/3 first, and 0 - 1/3 first.
    assert numbers.divergence_error == pytest.approx(first * np.sqrt(2) / 9)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_the_exact_bar_follows_the_logits_spread(scale) -> None:
    """Float noise grows with the logits; the same share of them is as wrong at every size."""
    for off, passes in ((0.5, True), (2, False)):
        comparison = Comparison()
        comparison.add(scale * np.array([[-1.0, 1.0]]), scale * np.array([[-1.0, 1.0 + off * EXACT_BAR]]), [0])
        assert judge(comparison.numbers(), EXACT_BAR)[0] is passes


def test_a_difference_that_is_no_number_is_not_dropped() -> None:
    comparison = Comparison()
    comparison.add(np.full((1, 2), np.nan), np.zeros((1, 2)), [0])
    comparison.add(np.zeros((1, 2)), np.zeros((1, 2)), [0])
    for exact in (EXACT_BAR, None):
        assert not judge(comparison.numbers(), exact)[0]
