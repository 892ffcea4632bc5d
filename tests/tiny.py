"""Tiny random checkpoints. Weights are random, so parity means something and quality does not."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from prune.families import load_family

CONFIGS = Path(__file__).parent / "families"
TOKENIZER = Path(__file__).parents[1] / "models" / "default"
VOCABULARY = json.loads((TOKENIZER / "config.json").read_text())["vocab_size"]  # of its tokenizer


def write_tiny_checkpoint(
    folder: Path,
    family: str = "qwen3_moe",
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    as_published: bool = True,
    **changes: Any,
) -> Path:
    """Write a model from ``tests/families/<family>.json``, with the default model's tokenizer; returns ``folder``.

    Args:
        as_published: tensor names and layout as publishers have them; otherwise as transformers holds them in memory,
            where experts are stacked.
    """
    values = {"vocab_size": VOCABULARY} | json.loads((CONFIGS / f"{family}.json").read_text()) | changes
    torch.manual_seed(seed)
    config = AutoConfig.for_model(load_family(family).model_type, **values)
    model: Any = (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "bias" in name:  # they start at zero, where forgetting one would go unnoticed
            torch.nn.init.normal_(tensor, std=0.3)
    model.to(dtype).save_pretrained(folder, max_shard_size="3MB", save_original_format=as_published)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TOKENIZER / name, folder / name)
    return folder
