"""Sizes of a checkpoint's weights in every type, from its headers alone.

The larger types that llama.cpp's mixes give to some tensors are followed (llama_tensor_get_type in llama-quant.cpp).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from prune.checkpoint import Checkpoint
from runtime.formats.gguf_types import bits_per_weight
from runtime.formats.json_object import read_object

_TENSOR_BYTES = 90  # of a GGUF file's entry for a tensor, and of the gap before it
_ONNX_BITS = {"int8": 8 + 16 / 32, "int4": 4 + 16 / 32}  # per weight: blocks of 32 with a float16 scale
# Where a row is no multiple of 256, llama.cpp takes a type with blocks of 32.
_FALLBACK = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0", "Q3_K": "Q4_0", "Q2_K": "Q4_0"}
_OF_32 = {*_FALLBACK.values(), "MXFP4"}  # with blocks of 32, below which llama.cpp has none

_ROLES = (
    ("embedding", r"embed_tokens|\bshared\.weight|wte"),
    ("output", r"lm_head"),
    ("value", r"v_proj"),
    ("attention_output", r"o_proj|out_proj"),
    ("down", r"down_proj|\.w2\b|output_linear|fc2"),
)
_KEYS = re.compile(r"\bk_proj|\bkv_[ab]_proj")  # of attention's keys
_ROUTED = ("expert", "stacked", "router", "selection_bias")


def bits(kind: str) -> float:
    """Bits of a weight in one of ONNX's types or of ggml's.

    Raises:
        KeyError: there is no such type.
    """
    return _ONNX_BITS.get(kind) or bits_per_weight(kind)


def fallback(kind: str, columns: int) -> str:
    """The type that llama.cpp takes where a row of so many columns has no whole blocks of ``kind``."""
    if columns % 256 and kind in _FALLBACK:
        kind = _FALLBACK[kind]
    return "F16" if columns % 32 and kind in _OF_32 else kind


@dataclass(frozen=True)
class Weights:
    """A tensor as its size matters: ``routed`` ones (experts, routers) have as many rows as experts are kept."""

    role: str
    layer: int  # -1 outside the layers
    count: int
    columns: int
    routed: bool


def read_weights(checkpoint: Checkpoint) -> list[Weights]:
    """Every tensor of a checkpoint's decoder that is loaded, by its role; quantised ones as the floats that they stand for."""
    decoder = checkpoint.family.decoder
    turned = bool(decoder and decoder.stacked_transposed)
    found = []
    for name, tensor in checkpoint.floats.items():
        place = checkpoint.place(name)
        if place.tensor_role == "unloaded" or name.startswith(checkpoint.family.beside):
            continue
        layer, _ = checkpoint.split_layer(name)
        stacked, routed = place.tensor_role == "stacked", place.tensor_role in _ROUTED
        columns = tensor.shape[-2 if stacked and turned and len(tensor.shape) == 3 else -1] if tensor.shape else 1
        role = next((role for role, pattern in _ROLES if re.search(pattern, name)), "other")
        if len(tensor.shape) < 2 or name.endswith("bias"):
            role = "vector"
        elif place.tensor_role == "router":
            role = "router"
        found.append(Weights(role, layer, math.prod(tensor.shape), columns, routed))
    return found


def _more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's ``use_more_bits``: the first and last eighth of the layers, and every third in between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _mix(name: str, base: str, layers: int, tied: bool) -> Callable[[Weights], str]:
    """llama.cpp's type for each tensor of a file of type ``name``, whose ordinary tensors are ``base``."""
    value = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K"}.get(name, base)
    down = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K"}.get(name, base)
    more = {"Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K"}.get(name)
    attention_output = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K"}.get(name, base)

    def choose(weights: Weights) -> str:
        if weights.role in ("vector", "router"):
            return "F32"
        if base == "MXFP4":
            return base if weights.routed else "Q8_0"
        if not base.endswith("_K"):
            return base
        if weights.role == "output" or (weights.role == "embedding" and tied):
            return "Q6_K"
        if weights.role == "value" and name == "Q3_K_M":
            return "Q5_K" if weights.layer < 2 else value
        if weights.role == "value":
            return more if more and _more_bits(weights.layer, layers) else value
        if weights.role == "down":
            if name == "Q3_K_M" and weights.layer < layers // 16:
                return "Q5_K"
            return more if more and _more_bits(weights.layer, layers) else down
        return attention_output if weights.role == "attention_output" else base

    return choose


def _onnx(bits: str) -> Callable[[Weights], str]:
    def choose(weights: Weights) -> str:
        if weights.role in ("vector", "router"):
            return "F32"
        return bits if weights.routed or weights.role in ("embedding", "output") else "int8"

    return choose


def type_in(name: str, layers: int, tied: bool) -> Callable[[Weights], str]:
    """The type of each tensor in a file of type ``name``; ``tied``: the embedding is the output layer, too."""
    return (
        _onnx(name)
        if name.startswith("int")
        else _mix(name, name.removesuffix("_M").removesuffix("_MOE"), layers, tied)
    )


def caching_layers(checkpoint: Checkpoint) -> set[int]:
    """The layers with keys and values."""
    found = {checkpoint.split_layer(name)[0] for name in checkpoint.floats if _KEYS.search(name)} - {-1}
    return found or {*range(checkpoint.layer_count)}


def sizes_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config, whose ``num_hidden_layers`` are those with keys and values: a cache of others does not grow."""
    return checkpoint.config | {"num_hidden_layers": len(caching_layers(checkpoint))}


def cache_bytes(config: dict[str, Any], context: int, width: int) -> int:
    """Bytes of the KV cache for ``context`` tokens with ``width`` bytes a number."""
    if config.get("kv_lora_rank"):  # multi-head latent attention: one compressed vector for keys and values
        row = config["kv_lora_rank"] + (config.get("qk_rope_head_dim") or 0)
    else:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        row = 2 * (config.get("num_key_value_heads") or heads) * head
    return int(config["num_hidden_layers"] * row * context * width)


def compute_bytes(config: dict[str, Any]) -> int:
    """Activations of a batch of 512 tokens, float32, some ten of the hidden size; and one row of logits."""
    return 4 * (512 * 10 * config["hidden_size"] + config["vocab_size"])


def onnx_copies(checkpoint: Checkpoint, weights: Weights) -> int:
    """How often an ONNX file has them: experts' up projections stand in the place of a gate's, too, where relu is squared."""
    decoder = checkpoint.family.decoder
    return 2 if decoder and decoder.activation == "relu2" and weights.routed and weights.role == "other" else 1


def rotary_bytes(checkpoint: Checkpoint, config: dict[str, Any]) -> int:
    """Bytes of an ONNX graph's tables of cosines and sines, float32."""
    if (decoder := checkpoint.family.decoder) and not decoder.rotates(config):
        return 0
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    rotated = config.get("qk_rope_head_dim") or int(head * share)
    return 4 * rotated * int(config.get("max_position_embeddings") or 0)


def metadata_bytes(checkpoint: Checkpoint, format: Literal["GGUF", "ONNX"]) -> int:
    """Bytes beside the weights: the tokenizer, of a GGUF file also the names of its tensors."""
    path = checkpoint.folder / "tokenizer.json"
    if format == "ONNX":
        return path.stat().st_size if path.exists() else 0
    beside = checkpoint.family.beside
    held = (n for n in checkpoint.floats if checkpoint.place(n).tensor_role != "unloaded" and not n.startswith(beside))
    layers = len({re.sub(r"\.experts\.\d+\.", ".experts.", name) for name in held})
    return layers * _TENSOR_BYTES + (_vocabulary_bytes(read_object(path)) if path.exists() else 0)


def _vocabulary_bytes(tokenizer: dict[str, Any]) -> int:
    """Of tokens, their types and the merges: strings with their lengths in 8 bytes."""
    model = tokenizer.get("model") or {}
    tokens = {*(model.get("vocab") or {})} | {each["content"] for each in tokenizer.get("added_tokens") or []}
    merges = [each if isinstance(each, str) else " ".join(each) for each in model.get("merges") or []]
    return sum(len(text.encode()) + 8 for text in (*tokens, *merges)) + 4 * len(tokens)
