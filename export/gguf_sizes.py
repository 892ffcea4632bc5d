"""What cuts of a GGUF file will weigh: a cut keeps all bytes that are not of experts, and their share of those that are."""

import math
from typing import Any

from gguf.constants import LlamaFileType

from prune.gguf_model import GgufModel
from prune.plan.budget import kept_count
from runtime.errors import WorkError


def cut_size(model: GgufModel, ratio: float, tokens: float = 1.0) -> tuple[int, float]:
    """Bytes of the file that a cut by ``ratio`` becomes, and its bits per weight; ``tokens``: the share of them that stays."""
    total = weights = 0.0
    rows = config_of(model)["vocab_size"]
    for name, tensor in model.file.tensors.items():
        place = model.place(name)
        if place.tensor_role == "unloaded":
            continue
        share = 1.0
        if place.layer is not None and place.tensor_role != "other":
            experts = model.moe_layers[place.layer]
            share = kept_count(experts, ratio) / experts
        elif place.layer is None and tensor.shape[:1] == (rows,):
            share = tokens
        total += share * (tensor.stop - tensor.start)
        weights += share * math.prod(tensor.shape)
    return int(total + tokens * model.file.metadata_end), total * 8 / weights


def type_of(model: GgufModel) -> str:
    """llama.cpp's name of the file's type: Q4_K_M, ..."""
    try:
        return LlamaFileType(int(model.file.get("general.file_type", -1))).name.split("_", 1)[1]
    except (ValueError, TypeError):
        return "as it is"


def config_of(model: GgufModel) -> dict[str, Any]:
    """The sizes that memory depends on, under the keys of ``config.json``.

    Raises:
        WorkError: the file does not say one of them.
    """
    names = {
        "hidden_size": "embedding_length", "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv", "head_dim": "attention.key_length",
        "kv_lora_rank": "attention.kv_lora_rank", "qk_rope_head_dim": "rope.dimension_count",
        "num_hidden_layers": "block_count",
    }  # fmt: skip
    found: dict[str, Any] = {ours: max(numbers) for ours, name in names.items() if (numbers := model.numbers(name))}
    tokens = model.file.metadata.get("tokenizer.ggml.tokens")
    found["vocab_size"] = tokens.count if tokens and tokens.count else 0
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"):
        if not found.get(key):
            raise WorkError(f"{model.source} is damaged: it does not give {model.key(names[key])}.")
    return found
