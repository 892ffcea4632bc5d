"""ONNX folders compute what transformers computes, and are written whole or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.onnx import export_onnx
from export.onnx.weights import Weights
from export.verify import verify
from prune import checkpoint as checkpoint_module
from prune.checkpoint import Checkpoint
from prune.loading import load_model
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from prune.rewrite.masked import masked
from runtime.engines.onnx import OnnxEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.onnx_folder import FILES
from runtime.text.pairs import Pair
from tests.prune.test_cut import plan_for
from tests.tiny import VOCABULARY, write_tiny_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 2000, 64)]


def reference(folder: Path) -> torch.nn.Module:
    return load_model(folder, torch.device("cpu"), torch.float32)


@torch.inference_mode()
def torch_logits(model: torch.nn.Module, ids: list[int] = IDS) -> np.ndarray:
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()


def onnx_logits(artefact: Path, ids: list[int] = IDS) -> np.ndarray:
    return OnnxEngine(artefact, threads=1).logits(ids)


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of a checkpoint with ``change`` applied to its dict of tensors."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model*.safetensors*"))
    tensors = {}
    for shard in source.glob("*.safetensors"):
        tensors |= load_file(shard)
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def reconfigured(source: Path, target: Path, **values) -> Path:
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | values))
    return target


def test_float32_equals_transformers(tiny_checkpoint, tiny_onnx):
    difference = onnx_logits(tiny_onnx / "onnx" / "model.onnx") - torch_logits(reference(tiny_checkpoint))
    assert np.abs(difference).max() <= 1e-4


def test_greedy_ids_equal_transformers(tiny_checkpoint, tiny_onnx):
    model, engine = reference(tiny_checkpoint), OnnxEngine(tiny_onnx / "onnx" / "model.onnx", threads=1)
    written = model.generate(torch.tensor([IDS]), max_new_tokens=32, do_sample=False)[0, len(IDS) :].tolist()  # type: ignore
    assert list(engine.generate(IDS, 32).token_ids) == written


def test_dense_layers_and_an_output_layer_of_its_own(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", mlp_only_layers=[0], tie_word_embeddings=False)  # type: ignore
    export_onnx(folder, tmp_path / "onnx", "none")
    assert np.abs(onnx_logits(tmp_path / "onnx") - torch_logits(reference(folder))).max() <= 1e-4
    export_onnx(folder, tmp_path / "onnx", "int8")
    difference = np.abs(onnx_logits(tmp_path / "onnx") - torch_logits(reference(folder)))
    assert np.median(difference) <= 0.1  # not the maximum: a token whose router is undecided may take other experts


@pytest.mark.parametrize("quant", ["none", "int4"])
def test_one_expert_in_each_layer_is_a_model(quant, tiny_checkpoint, tmp_path):
    cut = prune(tiny_checkpoint, plan_for(tiny_checkpoint, [3], [6]), tmp_path / "cut")
    folder = export_onnx(cut, tmp_path / "onnx", quant)
    assert verify(folder, cut, Path("data/dev"), Pair("en", "de")).passed


@pytest.mark.parametrize("kept", [5, 1])  # 1 is less than the config's top-k
def test_layers_may_keep_different_numbers_of_experts(tiny_checkpoint, tmp_path, kept):
    def drop(tensors):
        for expert in range(kept, 8):
            for name in [name for name in tensors if f"layers.1.mlp.experts.{expert}." in name]:
                del tensors[name]
        router = "model.layers.1.mlp.gate.weight"
        tensors[router] = tensors[router][:kept].clone()

    ragged = rewritten(tiny_checkpoint, tmp_path / "ragged", drop)
    export_onnx(ragged, tmp_path / "onnx", "none")
    layers = [Layer(0, 8, list(range(8))), Layer(1, 8, list(range(kept)))]
    plan = Plan("tiny", "", "en-de", "reap", "layerwise", 0.0, 0, 2, layers)
    model = reference(tiny_checkpoint)
    with masked(model, Checkpoint(tiny_checkpoint), plan):  # type: ignore[arg-type]
        expected = torch_logits(model)
    assert np.abs(onnx_logits(tmp_path / "onnx") - expected).max() <= 1e-4


@pytest.mark.parametrize("quant", FILES)
def test_checker_passes_and_no_initialiser_is_idle(tiny_onnx, quant):
    path = tiny_onnx / "onnx" / FILES[quant]
    onnx.checker.check_model(str(path))
    graph = onnx.load(str(path), load_external_data=False).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


@pytest.mark.parametrize("quant", FILES)
def test_standard_inputs_suffice(tiny_onnx, quant):
    session = onnxruntime.InferenceSession(tiny_onnx / "onnx" / FILES[quant])
    names = [value.name for value in session.get_inputs()]
    cache = [f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    assert names == ["input_ids", "attention_mask", *cache]
    ids, empty = np.array([IDS]), np.zeros((1, 2, 0, 64), np.float32)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)} | dict.fromkeys(cache, empty)
    assert np.asarray(session.run(["logits"], feeds)[0]).shape == (1, len(IDS), VOCABULARY)


def test_data_files_hold_every_weight_once(tiny_checkpoint, tiny_onnx):
    """The tied embedding is a quarter of this model, so a second copy would show."""
    parameters = sum(np.prod(tensor.shape) for tensor in Checkpoint(tiny_checkpoint).tensors.values())
    for quant, bytes_per_weight in (("none", 4), ("fp16", 2), ("int8", 1 + 2 / 32)):
        size = (tiny_onnx / "onnx" / f"{FILES[quant]}_data").stat().st_size
        assert size <= 1.1 * bytes_per_weight * parameters


def test_folder_is_complete_and_points_to_the_smallest_variant(tiny_checkpoint, tiny_onnx):
    genai = json.loads((tiny_onnx / "genai_config.json").read_text())["model"]
    assert (tiny_onnx / genai["decoder"]["filename"]).name == "model_q4.onnx"
    assert (genai["type"], genai["vocab_size"], genai["eos_token_id"]) == ("qwen3", VOCABULARY, [0])
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tiny_onnx / name).read_bytes() == (tiny_checkpoint / name).read_bytes()
    template = (tiny_checkpoint / "chat_template.jinja").read_text()  # transformers.js wants it there
    tokenizer = json.loads((tiny_checkpoint / "tokenizer_config.json").read_text())
    assert json.loads((tiny_onnx / "tokenizer_config.json").read_text()) == tokenizer | {"chat_template": template}


def test_provenance_travels_along(tiny_checkpoint, tmp_path):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    (source / "slimmoe.json").write_text("{}")
    export_onnx(source, tmp_path / "onnx", "int4")
    assert (tmp_path / "onnx" / "slimmoe.json").read_text() == "{}"


def test_existing_files_are_kept(tiny_checkpoint, tiny_onnx, tmp_path):
    with pytest.raises(RequestError, match="exists already"):
        export_onnx(tiny_checkpoint, tiny_onnx, "int4")
    folder = export_onnx(tiny_checkpoint, tmp_path / "onnx", "int4")
    with pytest.raises(RequestError, match="something else"):
        export_onnx(write_tiny_checkpoint(tmp_path / "other", num_experts=4), folder, "int8")


def test_nothing_is_left_of_a_failed_export(tiny_checkpoint, tmp_path, monkeypatch):
    def fail(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Weights, "write", fail)
    with pytest.raises(WorkError, match="disk is full"):
        export_onnx(tiny_checkpoint, tmp_path / "onnx", "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}}, "'yarn'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"hidden_act": "gelu"}, "'gelu'"),
    ],
)
def test_what_the_graph_cannot_express_is_refused(tiny_checkpoint, tmp_path, values, sentence):
    folder = reconfigured(tiny_checkpoint, tmp_path / "model", **values)
    with pytest.raises(RequestError, match=sentence):
        export_onnx(folder, tmp_path / "onnx", "int4")
    assert not (tmp_path / "onnx").exists()


def test_every_tensor_has_a_place(tiny_checkpoint, tmp_path):
    def add_bias(tensors):
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(256)

    more = rewritten(tiny_checkpoint, tmp_path / "more", add_bias)
    with pytest.raises(RequestError, match=r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias"):
        export_onnx(more, tmp_path / "onnx", "none")
    less = rewritten(tiny_checkpoint, tmp_path / "less", lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(WorkError, match=r"lacks 1 tensors, first model\.norm\.weight"):
        export_onnx(less, tmp_path / "onnx", "none")


def test_families_without_decoder_facts_are_refused(tiny_checkpoint, tmp_path, monkeypatch):
    family = replace(Checkpoint(tiny_checkpoint).family, decoder={})
    monkeypatch.setattr(checkpoint_module, "family_of", lambda config: family)
    with pytest.raises(RequestError, match="does not know models of type 'qwen3_moe'"):
        export_onnx(tiny_checkpoint, tmp_path / "onnx", "none")
