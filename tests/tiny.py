"""Tiny random checkpoints. Weights are random, so parity means something and quality does not."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = Path(__file__).parent / "families"
TOKENIZER = Path(__file__).parents[1] / "models" / "default"


def write_tiny_checkpoint(folder: Path, family: str = "qwen3_moe", seed: int = 0, **changes: int) -> Path:
    """Write a model from ``tests/families/<family>.json``, with the default model's tokenizer; returns ``folder``."""
    values = json.loads((CONFIGS / f"{family}.json").read_text()) | changes
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="2MB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TOKENIZER / name, folder / name)
    return folder
