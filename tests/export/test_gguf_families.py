"""Every family through GGUF: a tiny random model, cut and converted, computes in llama.cpp what transformers computes."""

import contextlib
import json
import subprocess
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers.activations import GELUTanh

from export.gguf import export_gguf
from prune.checkpoint import Checkpoint
from prune.families import families, load_family
from prune.gguf_model import GgufModel
from prune.loading import load_model
from prune.plan.plan import Plan
from prune.rewrite import prune
from prune.rewrite.masked import masked
from runtime import llama_paths
from runtime.engines.llama import LlamaEngine
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from tests.drafting import draft_logits
from tests.prune.test_cut import plan_for
from tests.tiny import VOCABULARY, add_mtp_layer, write_tiny_checkpoint

BAR = 1e-4  # largest logit difference in float32
NEARLY = 5e-3  # of families that llama.cpp computes only nearly
RUNNABLE = [name for name in families() if not load_family(name).gguf.refused]
TEXTS = [text for segment in read_segments(Path("data/dev"), Pair("en", "de")) for text in segment]
HALF = [1, 2, 5, 7], [0, 3, 4, 6]
THREE_OF_FOUR = [0, 1, 3, 4, 6, 7], [1, 2, 3, 5, 6, 7]  # of each half, which are the groups of grouped families
UNEVEN = [1, 2, 5], [0, 3, 4, 6, 7]
# Tokens that the converter's class for the family looks up by name.
UNTIED = (
    "kimi_linear",
    "nemotron_h",
)  # transformers' classes have output weights of their own whatever the config says
GLM = ["[gMASK]", "<|endoftext|>", "<|user|>", "<|observation|>"]
SPECIAL = {"glm4_moe": GLM, "glm4_moe_lite": GLM, "qwen3_5_moe_text": ["<|endoftext|>"]}


@dataclass
class Subject:
    """A tiny model of a family, written once for all its tests."""

    folder: Path

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.folder)

    @property
    def nearly(self) -> str:
        return self.checkpoint.family.gguf.nearly

    @cached_property
    def ids(self) -> list[int]:
        """Token ids of real text, longer than any sliding window."""
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        return tokenizer.encode(" ".join(TEXTS[:4]), add_special_tokens=False).ids[:100]

    def plan(self, *keep: list[int]) -> Plan:
        """Keep-lists in turn for all MoE layers."""
        layers = len(self.checkpoint.moe_layers)
        return plan_for(self.folder, *(keep[i % len(keep)] for i in range(layers)))

    @torch.inference_mode()
    def reference(self, folder: Path, plan: Plan | None = None) -> np.ndarray:
        """Logits [T, V] of transformers in float32, with the experts that ``plan`` drops masked."""
        model = load_model(folder, torch.device("cpu"), torch.float32)
        with masked(model, Checkpoint(folder), plan) if plan else contextlib.nullcontext():
            return model(input_ids=torch.tensor([self.ids])).logits[0].numpy()


def write_subject(folder: Path, family: str, **changes: Any) -> Subject:
    special = SPECIAL.get(family, [])
    write_tiny_checkpoint(folder, family, **{"vocab_size": VOCABULARY + len(special)} | changes)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    return Subject(folder)


@pytest.fixture(scope="module", params=RUNNABLE)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return write_subject(tmp_path_factory.mktemp(request.param) / "source", request.param)


def logits(file: Path, ids: list[int]) -> np.ndarray:
    with contextlib.closing(LlamaEngine(file, threads=1, exact=True)) as engine:
        return engine.logits(ids)


def assert_equal(found: np.ndarray, expected: np.ndarray, nearly: str = "") -> None:
    difference = float(np.abs(found - expected).max())
    print(f"largest logit difference {difference:.2g}")
    assert difference <= (NEARLY if nearly else BAR)
    assert expected.std() > 0.1  # a model that says nothing would agree with any


def counts(file: Path) -> tuple[int, int]:
    header = GgufFile(file)
    return tuple(int(header.get(f"{header.architecture}.expert_{key}")) for key in ("count", "used_count"))


def assert_export_computes_the_cut(subject: Subject, plan: Plan, folder: Path) -> Path:
    prune(subject.folder, plan, folder / "cut")
    file = export_gguf(folder / "cut", folder / "cut.gguf", "F32")
    assert_equal(logits(file, subject.ids), subject.reference(folder / "cut"), subject.nearly)
    assert GgufModel(file).fingerprint == Checkpoint(folder / "cut").fingerprint
    assert counts(file) == (max(len(layer.keep) for layer in plan.layers), plan.top_k)
    return file


@pytest.mark.every_family
def test_half_of_the_experts(subject: Subject, tmp_path: Path) -> None:
    file = assert_export_computes_the_cut(subject, subject.plan(*HALF), tmp_path)
    tokenizer = Tokenizer.from_file(str(subject.folder / "tokenizer.json"))
    with contextlib.closing(LlamaEngine(file, threads=1)) as engine:
        for text in TEXTS:
            assert engine.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids, text
    tool = llama_paths.HOME / "bin" / "llama-bench"
    command = [tool, "-m", file, "-p", "8", "-n", "1", "-r", "1", "-t", "1"]
    result = subprocess.run(command, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


def test_fewer_experts_than_top_k(subject: Subject, tmp_path: Path) -> None:
    few = max(1, subject.checkpoint.layer_floor)
    plan = subject.plan([3, 5][:few], [2, 6][:few])
    assert plan.top_k == few < subject.checkpoint.top_k
    assert_export_computes_the_cut(subject, plan, tmp_path)


def test_groups_stay(subject: Subject, tmp_path: Path) -> None:
    if subject.checkpoint.groups == 1:
        pytest.skip("the router has no groups")
    plan = subject.plan(*THREE_OF_FOUR)
    if "n_group" in subject.checkpoint.family.gguf.fixed:
        prune(subject.folder, plan, tmp_path / "cut")
        with pytest.raises(RequestError, match=r"n_group 2, and llama\.cpp computes this family only with 1"):
            export_gguf(tmp_path / "cut", tmp_path / "cut.gguf", "F32")
        return
    assert_export_computes_the_cut(subject, plan, tmp_path)
    assert Checkpoint(tmp_path / "cut").groups == 2


@pytest.mark.parametrize("keep", [UNEVEN, (THREE_OF_FOUR[0], [*range(8)])], ids=["uneven", "even groups"])
def test_padded_layers_equal_the_masked_original(subject: Subject, keep: tuple[list[int], ...], tmp_path: Path) -> None:
    if not subject.checkpoint.can_pad or (keep is not UNEVEN and subject.checkpoint.groups == 1):
        pytest.skip("the router has no bias that makes padding exact, or no groups")
    plan = subject.plan(*keep)
    file = assert_export_computes_the_cut(subject, plan, tmp_path)
    assert Checkpoint(tmp_path / "cut").groups == (1 if keep is UNEVEN else 2)
    assert_equal(logits(file, subject.ids), subject.reference(subject.folder, plan), subject.nearly)


def test_exactly_eight_experts_stay(tmp_path: Path) -> None:
    """The count by which llama.cpp takes a file for Mixtral's."""
    subject = write_subject(tmp_path / "source", "mixtral", num_local_experts=12)
    assert_export_computes_the_cut(subject, subject.plan([0, 1, 2, 3, 5, 7, 9, 11], [*range(4, 12)]), tmp_path)


@pytest.mark.parametrize("family", [name for name in RUNNABLE if name not in UNTIED])
def test_the_embedding_may_be_the_output(family: str, tmp_path: Path) -> None:
    subject = write_subject(tmp_path / "source", family, tie_word_embeddings=True)
    assert not any("lm_head" in name for name in subject.checkpoint.tensors)
    assert_export_computes_the_cut(subject, subject.plan(*HALF), tmp_path)


@pytest.mark.parametrize("family", [name for name in RUNNABLE if load_family(name).config.mtp_layers])
def test_a_config_may_count_layers_of_multi_token_prediction_that_are_not_there(family: str, tmp_path: Path) -> None:
    subject = write_subject(tmp_path / "source", family)
    add_mtp_layer(subject.folder, tensors=False)
    file = export_gguf(subject.folder, tmp_path / "x.gguf", "F32")
    assert_equal(logits(file, subject.ids), subject.reference(subject.folder), subject.nearly)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in ("glm4_moe", "nemotron_h") else pytest.mark.slow)
        for name in RUNNABLE
        if load_family(name).gguf.drafts
    ],
)
def test_the_layer_that_llama_cpp_drafts_with_is_cut_with_the_rest(family: str, tmp_path: Path) -> None:
    groups = load_family(family).config
    alone = {key: 1 for key in (groups.groups, groups.topk_groups) if key}  # masked means the same routing then
    subject = write_subject(tmp_path / "source", family, **alone)
    extra = add_mtp_layer(subject.folder)
    plan = subject.plan(*HALF)
    whole = export_gguf(subject.folder, tmp_path / "whole.gguf", "F32")
    file = assert_export_computes_the_cut(subject, plan, tmp_path)
    sliced = prune(whole, replace(plan, model=str(whole)), tmp_path / "sliced.gguf")

    (layer,) = GgufModel(whole).draft_layers
    last = plan.layers[-1]
    dropped = {layer: {*range(last.experts)} - {*last.keep}}
    hidden = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    ids = subject.ids[:40]
    masked, unmasked = draft_logits(whole, ids, hidden, dropped), draft_logits(whole, ids, hidden)
    assert np.abs(masked - unmasked).max() > 1e-2
    for cut in (file, sliced):
        assert_equal(draft_logits(cut, ids, hidden), masked)
        assert GgufModel(cut).draft_layers == {layer: len(last.keep)}
    assert_equal(logits(sliced, subject.ids), logits(file, subject.ids))
    assert extra and json.loads((tmp_path / "cut" / "slimmoe.json").read_text())["left_out"] == []


@pytest.mark.parametrize("family", sorted(set(families()) - set(RUNNABLE)))
def test_families_that_llama_cpp_computes_otherwise_are_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"has no GGUF: llama\.cpp"):
        export_gguf(write_tiny_checkpoint(tmp_path / "source", family), tmp_path / "x.gguf", "F32")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen3_moe", {"norm_topk_prob": False}),
        ("qwen2_moe", {"norm_topk_prob": True}),
        ("olmoe", {"norm_topk_prob": True}),
        ("lfm2_moe", {"routed_scaling_factor": 2.0}),
    ],
    ids=str,
)
def test_values_that_llama_cpp_would_ignore_are_refused(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    source = write_subject(tmp_path / "source", family, **changes)
    ((key, value),) = changes.items()
    with pytest.raises(RequestError, match=f"its config has {key} {value}, and"):
        export_gguf(source.folder, tmp_path / "x.gguf", "F32")
    assert not (tmp_path / "x.gguf").exists()


def test_gemma_4_is_off_by_its_table_of_gelu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value for each number in float16. What is left is of inputs that rounding takes for the next number."""
    subject = write_subject(tmp_path / "source", "gemma4_text")
    found = logits(export_gguf(subject.folder, tmp_path / "x.gguf", "F32"), subject.ids)
    off = np.abs(found - subject.reference(subject.folder))

    def looked_up(self: GELUTanh, x: torch.Tensor) -> torch.Tensor:
        values = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x.abs() < 10, values, x.clamp(min=0))

    monkeypatch.setattr(GELUTanh, "forward", looked_up)
    left = np.abs(found - subject.reference(subject.folder))
    print(f"off by {off.mean():.2g} of {off.max():.2g}, with the table by {left.mean():.2g} of {left.max():.2g}")
    assert left.mean() < off.mean() / 10


def test_an_assertion_of_llama_cpp_is_one_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    """It stops at Llama 4 without a layer that sees no positions, as there are none in so few layers."""
    subject = write_subject(tmp_path / "source", "llama4_text", num_hidden_layers=2)
    with pytest.raises(WorkError, match=r"^llama\.cpp gave up: .*GGML_ASSERT"):
        export_gguf(subject.folder, tmp_path / "x.gguf", "F32")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


YARN = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0}


@pytest.mark.parametrize(
    ("family", "more"),
    [("gpt_oss", {"truncate": True}), ("deepseek_v2", {"mscale": 0.707, "mscale_all_dim": 0.707})],
    ids=["gpt_oss", "deepseek_v2"],
)
def test_yarn(family: str, more: dict[str, Any], tmp_path: Path) -> None:
    rope = YARN | {"original_max_position_embeddings": 4096} | more
    changes = {"rope_parameters": rope, "max_position_embeddings": 131072}
    heads = {"head_dim": 64} if family == "gpt_oss" else {"qk_rope_head_dim": 64}
    subject = write_subject(tmp_path / "source", family, **changes, **heads)
    assert_export_computes_the_cut(subject, subject.plan(*HALF), tmp_path)


def test_yarn_that_llama_cpp_rounds_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rope = YARN | {"original_max_position_embeddings": 4096, "truncate": False}
    subject = write_subject(tmp_path / "source", "gpt_oss", rope_parameters=rope, max_position_embeddings=131072)
    export_gguf(subject.folder, tmp_path / "x.gguf", "F32")
    assert "only nearly: its config has truncate False" in caplog.text


def test_the_smallest_step_that_llama_cpp_does_not_have_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subject = write_subject(tmp_path / "source", "nemotron_h", time_step_min=0.5)  # many steps are smaller
    found = logits(export_gguf(subject.folder, tmp_path / "x.gguf", "F32"), subject.ids)
    assert "only nearly: its config has time_step_min 0.5" in caplog.text
    assert np.abs(found - subject.reference(subject.folder)).max() > BAR


def test_no_code_of_a_model_folder_is_run(tmp_path: Path) -> None:
    """The converter's class for Hunyuan would run a tokenizer's Python file where there is no tokenizer.json."""
    folder = write_subject(tmp_path / "source", "hunyuan_v1_moe").folder
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    (folder / "tokenizer.json").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    with pytest.raises(SlimmoeError):
        export_gguf(folder, tmp_path / "x.gguf", "F32")
    assert not (tmp_path / "ran").exists()
