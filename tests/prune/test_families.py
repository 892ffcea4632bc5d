"""Every family through one runner: a tiny random model, cut, against the same model with the experts masked."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from prune import families as rooms
from prune.checkpoint import Checkpoint
from prune.families import families, family_of, load_family
from prune.loading import load_model
from prune.plan.plan import Plan
from prune.rewrite import prune
from prune.rewrite.masked import masked
from runtime.errors import RequestError
from tests.prune.test_cut import plan_for
from tests.tiny import CONFIGS, add_mtp_layer, write_tiny_checkpoint
from tests.warm_command import run_command

CPU = torch.device("cpu")
HALF = [1, 2, 5, 7], [0, 3, 4, 6]
THREE_OF_FOUR = [0, 1, 3, 4, 6, 7], [1, 2, 3, 5, 6, 7]  # of each half, which are the groups of grouped families


@dataclass
class Subject:
    """A tiny model of a family, loaded once for all its tests."""

    folder: Path
    checkpoint: Checkpoint
    model: Any
    inputs: dict[str, torch.Tensor]

    def plan(self, *keep: list[int]) -> Plan:
        """Keep-lists in turn for all MoE layers."""
        layers = len(self.checkpoint.moe_layers)
        return plan_for(self.folder, *(keep[i % len(keep)] for i in range(layers)))

    @torch.inference_mode()
    def logits(self, model: Any) -> torch.Tensor:
        return model(**self.inputs).logits

    def masked_logits(self, plan: Plan) -> torch.Tensor:
        with masked(self.model, self.checkpoint, plan):
            return self.logits(self.model)


@pytest.fixture(scope="module", params=families())
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp(request.param) / "source", request.param)
    checkpoint = Checkpoint(folder)
    ids = torch.randint(4, 500, (3, 40), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    if checkpoint.config.get("is_encoder_decoder"):
        inputs["decoder_input_ids"] = ids[:, :20]
    return Subject(folder, checkpoint, load_model(folder, CPU, torch.float64), inputs)


def assert_loads_in_plain_transformers(folder: Path) -> None:
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    _, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report


def assert_cut_equals_masked(subject: Subject, plan: Plan, output: Path, **options: bool) -> Checkpoint:
    prune(subject.folder, plan, output, **options)
    small = subject.logits(load_model(output, CPU, torch.float64))
    assert (small - subject.masked_logits(plan)).abs().max() <= 1e-5
    assert (small - subject.logits(subject.model)).abs().max() > 1e-2  # the experts did matter; the mask is off again
    cut = Checkpoint(output)
    assert cut.top_k == plan.top_k
    return cut


def assert_config_says(cut: Checkpoint, experts: int) -> None:
    keys = [key for key in cut.family.config.expert_count if key in cut.config]
    assert keys and all(cut.config[key] == experts for key in keys)
    assert set(cut.moe_layers.values()) == {experts}


def test_every_family_has_a_tiny_config() -> None:
    assert [path.stem for path in sorted(CONFIGS.glob("*.json"))] == families()


@pytest.mark.every_family
def test_half_of_the_experts_cut_equals_them_masked(subject: Subject, tmp_path: Path) -> None:
    cut = assert_cut_equals_masked(subject, subject.plan(*HALF), tmp_path / "cut")
    assert_config_says(cut, 4)
    assert cut.top_k == subject.checkpoint.top_k
    assert_loads_in_plain_transformers(tmp_path / "cut")


def test_fewer_experts_than_top_k_lower_it_or_are_refused(subject: Subject, tmp_path: Path) -> None:
    floor = subject.checkpoint.layer_floor
    if floor < subject.checkpoint.top_k:
        cut = assert_cut_equals_masked(subject, subject.plan([3, 5][:floor], [2, 6][:floor]), tmp_path / "cut")
        assert cut.top_k == floor < subject.checkpoint.top_k
        assert_config_says(cut, floor)
        assert_loads_in_plain_transformers(tmp_path / "cut")
    if floor > 1:
        with pytest.raises(RequestError, match=f"needs {floor}"):
            prune(subject.folder, subject.plan([3]), tmp_path / "refused")


def test_a_plan_may_lower_top_k_below_what_stays(subject: Subject, tmp_path: Path) -> None:
    if isinstance(subject.checkpoint.family.config.top_k, int):
        pytest.skip("the family's code fixes top-k")
    cut = assert_cut_equals_masked(subject, replace(subject.plan(*HALF), top_k=1), tmp_path / "cut")
    assert cut.groups == subject.checkpoint.groups  # two experts of each stay, enough for top-1


def test_groups_stay_where_each_keeps_as_many_and_fall_together_otherwise(subject: Subject, tmp_path: Path) -> None:
    if subject.checkpoint.groups == 1:
        pytest.skip("the router has no groups")
    cut = assert_cut_equals_masked(subject, subject.plan(*THREE_OF_FOUR), tmp_path / "even")
    assert cut.groups == subject.checkpoint.groups == 2
    cut = assert_cut_equals_masked(subject, subject.plan([0, 1, 2, 3, 6], [0, 4, 5, 6, 7]), tmp_path / "uneven")
    assert (cut.groups, cut.topk_groups) == (1, 1)
    cut = assert_cut_equals_masked(subject, subject.plan(*HALF), tmp_path / "too few")  # 2 in a group, top-3
    assert cut.groups == 1
    for name in ("even", "uneven", "too few"):
        assert_loads_in_plain_transformers(tmp_path / name)


def test_layers_of_different_counts_are_padded_where_the_router_has_a_bias(subject: Subject, tmp_path: Path) -> None:
    for keep in ((THREE_OF_FOUR[0], [*range(8)]), ([1, 2, 5], [0, 3, 4, 6, 7])):
        plan = subject.plan(*keep)
        output = tmp_path / str(len(keep[0]))
        if not subject.checkpoint.can_pad:
            with pytest.raises(RequestError, match="--ragged"):
                prune(subject.folder, plan, output)
            continue
        cut = assert_cut_equals_masked(subject, plan, output)
        assert_config_says(cut, len(keep[1]))
        assert_loads_in_plain_transformers(output)
        assert json.loads((output / "slimmoe.json").read_text())["ragged"] is False


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_padding_has_the_lowest_bias_in_every_type(dtype: torch.dtype, tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", "minimax_m2", dtype=dtype)
    prune(source, plan_for(source, [1, 2, 5], [0, 3, 4, 6, 7]), tmp_path / "cut")
    found = {
        name: values for path in (tmp_path / "cut").glob("*.safetensors") for name, values in load_file(path).items()
    }
    bias = next(
        values for name, values in found.items() if ".layers.0." in name and name.endswith("e_score_correction_bias")
    )
    assert bias.dtype == dtype and torch.isfinite(bias).all()
    assert (bias[3:] < -60000).all() and (bias[:3] > -10).all()


def test_layers_of_different_counts_can_be_kept_ragged(subject: Subject, tmp_path: Path) -> None:
    plan = subject.plan([1, 2, 5], [0, 3, 4, 6, 7])
    cut = assert_cut_equals_masked(subject, plan, tmp_path / "cut", ragged=True)
    assert cut.moe_layers == {layer.layer: len(layer.keep) for layer in plan.layers}
    assert cut.family.experts_in(cut.config) == 5
    assert json.loads((tmp_path / "cut" / "slimmoe.json").read_text())["ragged"] is True
    model = load_model(tmp_path / "cut", CPU, torch.float32)
    model.save_pretrained(tmp_path / "again")
    assert Checkpoint(tmp_path / "again").moe_layers == cut.moe_layers
    assert model.config.architectures == subject.model.config.architectures


def test_the_names_that_transformers_holds_in_memory_are_known_too(subject: Subject, tmp_path: Path) -> None:
    name = subject.checkpoint.family.model_type.replace("-", "_")
    other = write_tiny_checkpoint(tmp_path / "source", name, as_published=False)
    checkpoint = Checkpoint(other)
    assert checkpoint.moe_layers == subject.checkpoint.moe_layers
    stacked = replace(subject, folder=other, checkpoint=checkpoint)
    cut = assert_cut_equals_masked(stacked, stacked.plan(*HALF), tmp_path / "cut")
    assert_config_says(cut, 4)
    assert_loads_in_plain_transformers(tmp_path / "cut")


def test_a_config_by_layer_stays_one(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", "hunyuan_v1_moe", moe_topk=[2, 1])
    assert Checkpoint(source).top_k == 2
    prune(source, plan_for(source, *HALF), tmp_path / "cut")
    assert Checkpoint(tmp_path / "cut").config["moe_topk"] == [2, 1]


WITH_MTP = [name for name in families() if load_family(name).unloaded]


@pytest.mark.parametrize("family", WITH_MTP)
def test_layers_of_multi_token_prediction_stay_for_llama_cpp_or_are_left_out_and_told(
    family: str, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", family)
    extra = add_mtp_layer(source)
    plan_for(source, *HALF).save(tmp_path / "plan.json")
    plan, output = str(tmp_path / "plan.json"), str(tmp_path / "cut")
    done = run_command("prune", str(source), "--plan", plan, "-o", output, seconds=60)
    about = json.loads((tmp_path / "cut" / "slimmoe.json").read_text())
    cut, counted = Checkpoint(tmp_path / "cut"), load_family(family).config.mtp_layers
    told = " ".join(done.output.split())
    if load_family(family).gguf.drafts:
        assert about["left_out"] == [] and "layer of multi-token prediction stays" in told
        assert {*cut.draft_layers.values()} == {4} and len(cut.draft_places()) < len(extra)
        assert not counted or cut.config[counted] == 1
        return
    assert extra and about["left_out"] == extra
    assert f"{len(extra)} tensors of multi-token prediction are left out" in told
    assert not set(extra) & set(cut.tensors)
    assert not cut.config.get(counted or "")


def test_a_decoder_can_be_cut_out_of_the_model_around_it(subject: Subject, tmp_path: Path) -> None:
    family = subject.checkpoint.family
    if "text_config" not in subject.checkpoint.stored_config or not family.text_class:
        with pytest.raises(RequestError, match="text-only"):
            prune(subject.folder, subject.plan(*HALF), tmp_path / "cut", text_only=True)
        assert not (tmp_path / "cut").exists()
        return
    (subject.folder / "preprocessor_config.json").write_text("{}")
    cut = assert_cut_equals_masked(subject, subject.plan(*HALF), tmp_path / "cut", text_only=True)
    assert cut.stored_config["architectures"] == [family.text_class] and "vision_config" not in cut.stored_config
    others = [name for name in subject.checkpoint.tensors if name.startswith(family.beside)]
    assert others and {*json.loads((tmp_path / "cut" / "slimmoe.json").read_text())["left_out"]} == {*others}
    assert not (tmp_path / "cut" / "preprocessor_config.json").exists()
    assert_loads_in_plain_transformers(tmp_path / "cut")
    auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    assert type(auto).__name__ == family.text_class


def test_a_wrapped_decoder_becomes_what_it_was_before_it_was_wrapped(tmp_path: Path) -> None:
    """As Mistral 4 is published: fp8 scales and all that is listed by module have the wrapper's names, too."""
    source = write_tiny_checkpoint(tmp_path / "alone", "mistral4")
    plan = plan_for(source, *HALF)
    prune(source, plan, tmp_path / "expected")
    wrapped = shutil.copytree(source, tmp_path / "wrapped")
    for shard in wrapped.glob("*.safetensors"):
        tensors = {f"language_model.{name}": tensor for name, tensor in load_file(shard).items()}
        save_file(tensors | {f"vision_tower.{shard.stem}": torch.zeros(1000)}, shard, {"format": "pt"})
    (wrapped / "model.safetensors.index.json").unlink(missing_ok=True)
    shards = [path.name for path in wrapped.glob("*.safetensors")]
    known = {name: shard for shard in shards for name in load_file(wrapped / shard)}
    (wrapped / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": known}))
    text = json.loads((source / "config.json").read_text())
    outer = {
        "model_type": "mistral3",
        "architectures": ["Mistral3ForConditionalGeneration"],
        "dtype": text.pop("dtype"),
    }
    (wrapped / "config.json").write_text(json.dumps(outer | {"text_config": text, "vision_config": {}}))
    plan.save(tmp_path / "plan.json")
    command = ["prune", str(wrapped), "--plan", str(tmp_path / "plan.json"), "-o", str(tmp_path / "cut"), "--text-only"]
    done = run_command(*command, seconds=60)
    bytes_gone = f"{len(shards)} tensors, {len(shards) * 4000 / 1e6:.1f} MB"
    assert f"vision and audio parts are left out: {bytes_gone}" in done.output, done.errors
    cut, expected = Checkpoint(tmp_path / "cut"), Checkpoint(tmp_path / "expected")
    assert cut.config == expected.config and cut.tensors.keys() == expected.tensors.keys()
    assert all(bytes(cut.raw(name)) == bytes(expected.raw(name)) for name in cut.tensors)


def test_the_repaired_nllb_runs_every_expert_its_router_chose(tmp_path: Path) -> None:
    model = load_model(write_tiny_checkpoint(tmp_path / "source", "nllb_moe"), CPU, torch.float32)
    experts: Any = model.get_submodule("model.encoder.layers.1.ffn.experts")
    hidden, gates = torch.randn(16, 64), torch.zeros(16, 8)
    for token in range(16):
        gates[token, token % 8], gates[token, (token + 3) % 8] = 0.7, 0.3
    with torch.inference_mode():
        result = experts(hidden, (gates > 0.5).long(), gates)
        outputs = torch.stack([experts[f"expert_{i}"](hidden) for i in range(8)], dim=1)
    expected = torch.einsum("te,teh->th", gates, outputs) * (1 - experts.moe_token_dropout)
    torch.testing.assert_close(result, expected)


def test_an_unknown_type_is_one_sentence_with_the_known_ones_and_the_page(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'bert'.*gpt_oss.*qwen3_moe.*docs/add-a-family\.md"):
        family_of({"model_type": "bert"})
    with pytest.raises(RequestError, match="not supported"):
        family_of({"model_type": "../families/qwen3_moe"})


def test_a_broken_family_file_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(rooms._FOLDER / "olmoe.toml", tmp_path / "well.toml")
    (tmp_path / "broken.toml").write_text("not = [toml")
    text = (rooms._FOLDER / "olmoe.toml").read_text()
    (tmp_path / "misspelt.toml").write_text(text.replace("top_k", "topk"))
    monkeypatch.setattr(rooms, "_FOLDER", tmp_path)
    load_family.cache_clear()
    try:
        assert families() == ["broken", "misspelt", "well"]
        assert family_of({"model_type": "well"}).config.top_k == ("num_experts_per_tok",)
        with pytest.raises(TypeError, match=r"misspelt\.toml.*topk"):
            load_family("misspelt")
    finally:
        load_family.cache_clear()
