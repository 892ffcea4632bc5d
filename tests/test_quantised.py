"""Quantised checkpoints through the verbs: whatever the format, they are the model that their floats are."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from export.fit import fit
from export.gguf import export_gguf
from export.onnx import export_onnx
from export.onnx.self_test import MOST, QUANTISED
from export.verify import verify
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.stats import LayerStats, Stats
from prune.checkpoint import Checkpoint
from prune.loading import load_model
from prune.plan.plan import Plan, make_plan
from prune.recovery.recover import recover
from prune.recovery.settings import Settings
from prune.rewrite import prune
from runtime.engines.onnx import OnnxEngine
from runtime.engines.onnx_check import self_test_file
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.onnx_folder import graph_file
from runtime.measure.bench import file_size
from runtime.text.pairs import Pair
from tests.quantised_twins import TWINS, write_twin

EN_DE = Pair("en", "de")
CPU = torch.device("cpu")
THROUGH_LLAMA = ("mxfp4", "fp8 blocks, groups", "ct int4 zeros", "ct fp8", "awq")  # others differ in no further step
IDS = torch.arange(5, 60)[None]


@dataclass
class Subject:
    """A quantised checkpoint, the same model in float32 beside it, and its tensors as floats."""

    folder: Path
    floats: dict[str, Tensor]
    corpus: Path

    @property
    def plain(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-floats")

    def plan(self) -> Plan:
        return make_plan(calibrate(self.folder, EN_DE, self.corpus, quiet=True)[0], 0.5, "gate")


def write_subject(kind: str, root: Path) -> Subject:
    corpus = root / "corpus.tsv"
    corpus.write_text("".join(f"The file {i} is open.\tDie Datei {i} ist geöffnet.\n" for i in range(4)))
    return Subject(root / "model", write_twin(kind, root / "model"), corpus)


@pytest.fixture(scope="module", params=TWINS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return write_subject(request.param, tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module", params=THROUGH_LLAMA)
def llama_subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return write_subject(request.param, tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return write_subject("mxfp4", tmp_path_factory.mktemp("twin"))


def assert_same_floats(folder: Path, expected: dict[str, Tensor]) -> None:
    checkpoint = Checkpoint(folder)
    assert checkpoint.floats.keys() == expected.keys()
    for name, values in expected.items():
        assert checkpoint.floats[name].shape == values.shape, name
        np.testing.assert_array_equal(checkpoint.read(name), values.numpy(), err_msg=name)


def assert_same_sums(found: Stats, expected: Stats) -> None:
    for i, layer in expected.layers.items():
        for field in fields(LayerStats):
            values = getattr(layer, field.name)
            given = getattr(found.layers[i], field.name)
            np.testing.assert_allclose(given, values, rtol=1e-4, atol=1e-4 * np.abs(values).max(), err_msg=field.name)


def cut_floats(checkpoint: Checkpoint, floats: dict[str, Tensor], plan: Plan) -> dict[str, Tensor]:
    """Tensors of the kept experts alone, by their new numbers, and all others."""
    keep, found = {layer.layer: layer.keep for layer in plan.layers}, {}
    for name, values in floats.items():
        place = checkpoint.place(name)
        if place.layer is None or place.tensor_role == "other":
            found[name] = values
        elif place.expert is None:
            found[name] = values[keep[place.layer]]
        elif place.expert in keep[place.layer]:
            number = keep[place.layer].index(place.expert)
            found[name.replace(f".experts.{place.expert}.", f".experts.{number}.")] = values
    return found


def test_every_value_is_read(subject: Subject) -> None:
    assert_same_floats(subject.folder, subject.floats)
    checkpoint = Checkpoint(subject.folder)
    assert checkpoint.weights == sum(values.numel() for values in subject.floats.values())
    assert checkpoint.fingerprint == Checkpoint(subject.plain).fingerprint


def test_calibrated_in_memory_and_streamed_as_its_floats_are(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = calibrate(subject.plain, EN_DE, subject.corpus, quiet=True)
    for stream, left in ((False, 1 << 40), (True, 1 << 40), (True, 0)):  # with 0, experts are read when they are needed
        monkeypatch.setattr("prune.calibrate.one_by_one.memory_left", lambda left=left: left)
        found, where = calibrate(subject.folder, EN_DE, subject.corpus, quiet=True, stream=stream)
        assert "is dequantised" in where
        assert_same_sums(found, expected)


def test_the_cut_stays_quantised_and_holds_the_kept_experts(subject: Subject, tmp_path: Path) -> None:
    plan, source = subject.plan(), Checkpoint(subject.folder)
    cut = Checkpoint(prune(subject.folder, plan, tmp_path / "cut"))
    assert_same_floats(cut.folder, cut_floats(source, subject.floats, plan))
    assert {tensor.dtype for tensor in cut.tensors.values()} == {tensor.dtype for tensor in source.tensors.values()}
    assert cut.config["quantization_config"] == source.config["quantization_config"]
    assert verify(cut.folder, subject.folder, subject.corpus, EN_DE).passed


def test_onnx_computes_its_floats(subject: Subject, tmp_path: Path) -> None:
    folder = export_onnx(subject.folder, tmp_path / "onnx", "none")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    with torch.inference_mode():
        expected = load_model(subject.plain, CPU, torch.float32)(IDS).logits[0].numpy()
    engine = OnnxEngine(folder, threads=1)
    np.testing.assert_allclose(engine.logits(IDS[0].tolist()), expected, atol=2e-4 * expected.std())
    engine.close()


def test_a_graph_of_random_weights_passes_its_self_test_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    """Rounding activations moves this model's logits by more than any trained one's."""
    folder = export_onnx(write_subject("ct int4 rows", tmp_path).folder, tmp_path / "onnx", "int4")
    graph = graph_file(folder)
    tolerance = json.loads(self_test_file(graph).read_text())["tolerance"]
    assert QUANTISED < tolerance <= MOST
    OnnxEngine(folder, threads=1).close()
    data = graph.with_name(f"{graph.name}_data")
    bytes_ = bytearray(data.read_bytes())
    sixteenth = len(bytes_) // 16
    bytes_[8 * sixteenth : 9 * sixteenth] = bytes(255 - each for each in bytes_[8 * sixteenth : 9 * sixteenth])
    data.write_bytes(bytes_)
    with pytest.raises(WorkError, match=r"answers otherwise"):
        OnnxEngine(folder, threads=1)


@pytest.mark.parametrize("kind", ["mxfp4", "fp8 blocks", "ct int4 zeros"])
def test_recovered_it_is_a_checkpoint_of_floats_that_plain_transformers_loads(kind: str, tmp_path: Path) -> None:
    subject = write_subject(kind, tmp_path)
    cut = prune(subject.folder, subject.plan(), tmp_path / "cut")
    about = recover(cut, EN_DE, subject.corpus, subject.corpus, tmp_path / "out", Settings(steps=2), quiet=True)
    assert about["dev_loss_after"] < about["dev_loss_before"]
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, load_model(tmp_path / "out", CPU, torch.float32)(IDS).logits)
    assert {tensor.dtype for tensor in Checkpoint(tmp_path / "out").tensors.values()} == {"BF16"}


def test_a_pruned_gpt_oss_loads_in_plain_transformers(gpt_oss: Subject, tmp_path: Path) -> None:
    cut = prune(gpt_oss.folder, gpt_oss.plan(), tmp_path / "cut")
    model: Any = AutoModelForCausalLM.from_pretrained(cut, dtype=torch.bfloat16)
    experts = model.model.layers[1].mlp.experts
    expected = Checkpoint(cut).read("model.layers.1.mlp.experts.gate_up_proj")
    assert torch.equal(experts.gate_up_proj.float(), torch.from_numpy(expected.copy()))


def logits_of(file: Path) -> np.ndarray:
    from runtime.engines.llama import LlamaEngine

    engine = LlamaEngine(file, threads=1, exact=True)
    try:
        return engine.logits(IDS[0].tolist())
    finally:
        engine.close()


def test_gguf_computes_its_floats(llama_subject: Subject, tmp_path: Path) -> None:
    told: list[str] = []
    file = export_gguf(llama_subject.folder, tmp_path / "model.gguf", "F32", tell=told.append)
    assert any("dequantised and written as F32" in sentence for sentence in told)
    assert {tensor.type.name for tensor in GgufFile(file).tensors.values()} == {"F32"}
    plain = export_gguf(llama_subject.plain, tmp_path / "plain.gguf", "F32")
    assert np.array_equal(logits_of(file), logits_of(plain))


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_K_M"])
def test_mxfp4_becomes_other_types(quant: str, gpt_oss: Subject, tmp_path: Path) -> None:
    file = export_gguf(gpt_oss.folder, tmp_path / "model.gguf", quant)
    plain = export_gguf(gpt_oss.plain, tmp_path / "plain.gguf", quant)
    assert "MXFP4" not in {tensor.type.name for tensor in GgufFile(file).tensors.values()}
    types = [Counter(tensor.type for tensor in GgufFile(each).tensors.values()) for each in (file, plain)]
    assert types[0] == types[1]


def test_mxfp4_stays_as_it_is_where_it_can(gpt_oss: Subject, tmp_path: Path) -> None:
    told: list[str] = []
    file = export_gguf(gpt_oss.folder, tmp_path / "model.gguf", "MXFP4_MOE", tell=told.append)
    assert any("kept as they are" in sentence for sentence in told)
    tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    down = tensors["blk.0.ffn_down_exps.weight"]
    expected = gpt_oss.floats["model.layers.0.mlp.experts.down_proj"].mT.numpy()
    assert down.tensor_type.name == "MXFP4"
    np.testing.assert_array_equal(dequantize(down.data, down.tensor_type), expected)


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_K_M", "MXFP4_MOE", "int4"])
def test_sizes_are_foretold_of_the_floats(quant: str, gpt_oss: Subject, tmp_path: Path) -> None:
    found = fit(Checkpoint(gpt_oss.folder), 2**33)
    (foretold,) = (choice for choice in found.choices if (choice.ratio, choice.type) == (0, quant))
    is_onnx = quant == "int4"
    written = (export_onnx if is_onnx else export_gguf)(
        gpt_oss.folder, tmp_path / ("x" if is_onnx else "x.gguf"), quant
    )
    assert foretold.file_bytes == pytest.approx(file_size(written), rel=0.01)
    assert found.recommended and found.recommended.type == "MXFP4_MOE"


def test_the_file_of_a_quantised_source_is_as_large_as_foretold(llama_subject: Subject, tmp_path: Path) -> None:
    found = fit(Checkpoint(llama_subject.folder), 2**33).choices
    (foretold,) = (choice for choice in found if (choice.ratio, choice.type) == (0, "F16"))
    written = export_gguf(llama_subject.folder, tmp_path / "x.gguf", "F16")
    assert foretold.file_bytes == pytest.approx(written.stat().st_size, rel=0.01)


NOT_READ = {
    "bitsandbytes nf4": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "bitsandbytes int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "NVFP4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "nvfp4-pack-quantized": {
        "quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float"}}},
    },
    "GPTQ with 3 bits": {"quant_method": "gptq", "bits": 3},
    "hqq": {"quant_method": "hqq"},
    "does not name": {"bits": 4},
}  # fmt: skip


@pytest.mark.parametrize("label", NOT_READ)
def test_what_is_not_read_is_one_sentence_at_the_start(label: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": NOT_READ[label]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=rf"quantised as .*{label}.*take the checkpoint that it was made from"):
        Checkpoint(folder)


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_parts_that_do_not_belong_together_are_one_sentence(damage: str, tmp_path: Path) -> None:
    subject = write_subject("fp8 blocks", tmp_path)
    file = subject.folder / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"
    scales = tensors.pop(name)
    if damage == "shape":
        tensors[name] = scales[:, :-1].contiguous()
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(WorkError, match=r"experts\.3\.up_proj\.weight"):
        Checkpoint(subject.folder).read("model.layers.1.mlp.experts.3.up_proj.weight")


def test_modules_that_are_quantised_otherwise_follow_their_experts(tmp_path: Path) -> None:
    subject = write_subject("fp8 blocks", tmp_path)
    path = subject.folder / "config.json"
    config = json.loads(path.read_text())
    plan = subject.plan()
    kept, dropped = plan.layers[1].keep[2], next(i for i in range(8) if i not in plan.layers[1].keep)
    names = [f"model.layers.1.mlp.experts.{i}.up_proj" for i in (kept, dropped)]
    config["quantization_config"]["modules_to_not_convert"] = ["lm_head", *names, "model.layers.0.mlp.gate"]
    path.write_text(json.dumps(config))
    cut = Checkpoint(prune(subject.folder, plan, tmp_path / "cut"))
    expected = ["lm_head", "model.layers.1.mlp.experts.2.up_proj", "model.layers.0.mlp.gate"]
    assert cut.config["quantization_config"]["modules_to_not_convert"] == expected
