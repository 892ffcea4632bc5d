"""The same folder in onnxruntime-genai: its tokenizer, chat template, stopping and tokens are ours."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
import pytest

from export.onnx.genai import genai_config
from prune.families import load_family
from runtime.engines.onnx import OnnxEngine
from runtime.formats.onnx_folder import FILES
from runtime.text.pairs import Pair
from runtime.text.prompts import instruction

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 2000, 40)]
PAIR, SEGMENT = Pair("en", "de"), "The file could not be opened."


@pytest.fixture(autouse=True)
def int8_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As our engine has them: without, genai's 4-bit experts compute in float32."""
    monkeypatch.setenv("ORT_QMOE_CPU_QNBIT_GEMM", "int8")


def load(folder: Path, file: str | None = None) -> Any:
    config = genai.Config(str(folder))
    if file:
        config.overlay(json.dumps({"model": {"decoder": {"filename": f"onnx/{file}"}}}))
    return genai.Model(config)


def generate(model: Any, ids: list[int], limit: int) -> list[int]:
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + limit)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array(ids, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(ids) :]]


@pytest.mark.parametrize("file", FILES.values())
def test_tokens_equal_ours(tiny_onnx, file):
    ours = OnnxEngine(tiny_onnx / "onnx" / file, threads=1).generate(IDS, 32, stop=False)
    assert generate(load(tiny_onnx, file), IDS, 32) == list(ours.token_ids)


def test_the_config_names_the_smallest_variant(tiny_onnx):
    int4 = generate(load(tiny_onnx, FILES["int4"]), IDS, 16)
    assert generate(load(tiny_onnx), IDS, 16) == int4


def test_each_end_of_sequence_ends(tiny_onnx, tmp_path):
    folder = shutil.copytree(tiny_onnx, tmp_path / "onnx")
    free = generate(load(folder), IDS, 12)
    config = json.loads((folder / "config.json").read_text())
    family = load_family("qwen3_moe")
    session = OnnxEngine(folder, threads=1)._session
    names = {value.name: value.shape for value in session.get_inputs()}, [each.name for each in session.get_outputs()]
    end = next(token for i, token in enumerate(free) if i > 3 and token not in free[:i])
    written = genai_config(config, {"eos_token_id": [end, 0]}, family.decoder.genai_type, "onnx/model_q4.onnx", *names)
    (folder / "genai_config.json").write_text(json.dumps(written))
    assert generate(load(folder), IDS, 12) == free[: free.index(end)]


def test_tokenizer_and_chat_template_are_ours(tiny_onnx):
    engine, tokenizer = OnnxEngine(tiny_onnx, threads=1), genai.Tokenizer(load(tiny_onnx))
    prompt = engine.template.prompt(PAIR, SEGMENT)
    messages = [{"role": "user", "content": instruction(PAIR, SEGMENT)}]
    assert tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True) == prompt
    assert list(tokenizer.encode(prompt)) == engine.encode(prompt)


def test_a_model_without_a_chat_template_gets_ours(tiny_checkpoint, tmp_path):
    from export.onnx import export_onnx

    source = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    (source / "chat_template.jinja").unlink()
    folder = export_onnx(source, tmp_path / "onnx", "int4")
    prompt = OnnxEngine(folder, threads=1).template.prompt(PAIR, SEGMENT)
    messages = [{"role": "user", "content": instruction(PAIR, SEGMENT)}]
    rendered = genai.Tokenizer(load(folder)).apply_chat_template(json.dumps(messages), add_generation_prompt=True)
    assert rendered == prompt == f"{instruction(PAIR, SEGMENT)}\n"


def test_the_config_follows_the_graph():
    """Of what genai knows, only what the graph has; layers of two kinds are told apart."""
    config = {
        "num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 9, "eos_token_id": 7,
        "max_position_embeddings": 1 << 18, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3,
    }  # fmt: skip
    inputs = {name: ["batch_size", "sequence"] for name in ("input_ids", "attention_mask", "position_ids")}
    inputs |= {f"past_key_values.1.{part}": ["batch_size", 2, "past", 24] for part in ("key", "value")}
    names = inputs, ["logits", "present.1.key", "present.1.value"]
    found = genai_config(config, {}, "llama", "onnx/model.onnx", *names)
    decoder = found["model"]["decoder"]
    assert set(decoder["inputs"]) == {
        "input_ids",
        "attention_mask",
        "position_ids",
        "past_key_names",
        "past_value_names",
    }
    assert (decoder["head_size"], decoder["num_key_value_heads"], "layer_types" in decoder) == (24, 2, False)
    assert (found["model"]["eos_token_id"], found["model"]["pad_token_id"]) == ([7], 7)
    assert (found["model"]["context_length"], found["search"]["max_length"]) == (1 << 18, 4096)
    inputs["past_conv.0"] = ["batch_size", 64, 3]
    decoder = genai_config(config, {}, "lfm2", "onnx/model.onnx", *names)["model"]["decoder"]
    assert decoder["inputs"]["past_conv_names"] == "past_conv.%d" and decoder["conv_cache_size"] == 3
    assert decoder["layer_types"] == ["conv", "full_attention"]
