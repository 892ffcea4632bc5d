"""A LoRA adapter is the model that it makes of its base."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from prune.hub import resolve_model
from prune.loading import load_model
from prune.rewrite import prune
from runtime.errors import RequestError, WorkError
from tests.prune.test_cut import plan_for

CPU = torch.device("cpu")
IDS = torch.arange(5, 60)[None]


@pytest.fixture
def adapter(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """An adapter with random weights on attention and fused experts."""
    torch.manual_seed(0)  # in bf16 some weights send a token to another expert than in float32
    model: Any = load_model(tiny_checkpoint, CPU, torch.float32)
    experts = [f"model.layers.{i}.mlp.experts.down_proj" for i in range(2)]
    config = LoraConfig(r=4, target_modules=["q_proj", "o_proj"], target_parameters=experts, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tiny_checkpoint)}))
    return tmp_path / "adapter"


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def test_merged_with_its_base_it_computes_the_same(adapter: Path, tiny_checkpoint: Path, caplog) -> None:
    base = load_model(tiny_checkpoint, CPU, torch.float32)
    plain, expected = logits(base), logits(PeftModel.from_pretrained(base, str(adapter)))
    folder = resolve_model(str(adapter))
    assert folder.name == "adapter-merged" and "is merged with" in caplog.text
    found = logits(load_model(folder, CPU, torch.float32))
    assert (found - expected).abs().max() < 0.05 * (plain - expected).abs().max()  # it is written in bf16
    before = folder.stat().st_mtime_ns
    assert resolve_model(str(adapter)) == folder and folder.stat().st_mtime_ns == before
    cut = prune(folder, plan_for(folder, [0, 1], [2, 3]), adapter / "cut")
    assert not [*cut.glob("*adapter*")]


def test_what_cannot_be_merged_is_one_sentence(adapter: Path) -> None:
    weights, path = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    config, tensors = json.loads(path.read_text()), load_file(weights)

    def refuse(error: type[Exception], match: str, **changes: Any) -> None:
        path.write_text(json.dumps(config | changes))
        with pytest.raises(error, match=match):
            resolve_model(str(adapter))

    refuse(RequestError, "base model no/such is not at hand", base_model_name_or_path="no/such")
    refuse(RequestError, "of the kind LOHA", peft_type="LOHA")
    save_file(tensors | {"base_model.model.model.layers.0.self_attn.nothing.lora_A.weight": torch.ones(4, 8)}, weights)
    refuse(WorkError, r"does not fit|has no place for")
    weights.unlink()
    refuse(WorkError, "is incomplete")
