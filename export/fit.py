"""What fits into a memory: file size and memory of every pruning ratio and type, from the headers of a checkpoint alone.

The larger types that llama.cpp's mixes give to some tensors are followed (llama_tensor_get_type in llama-quant.cpp).
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from export.capabilities import Capabilities, formats_of, gguf_refusal
from export.gguf_sizes import config_of, cut_size, type_of
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.plan.budget import kept_count
from runtime.formats.gguf_types import bits_per_weight

RATIOS = (0.0, 0.25, 0.5, 0.7, 0.75, 0.9)
SYSTEM_SHARE = 0.25  # of the memory is left to the system and to other programs
# The program itself, as measured: Python, the engine's code and tokenizer.
PROCESS_BYTES = {"GGUF": 40e6, "ONNX": 70e6}
GOOD_BITS = 4.0  # from this many bits on, a type costs less quality than a further step of pruning

_ONNX_BITS = {"int8": 8 + 16 / 32, "int4": 4 + 16 / 32}  # per weight: blocks of 32 with a float16 scale
# Where a row is no multiple of 256, llama.cpp takes a type with blocks of 32.
_FALLBACK = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0", "Q3_K": "Q4_0", "Q2_K": "Q4_0"}
# From the best to the worst.
TYPES = ("F16", "Q8_0", "int8", "Q6_K", "Q5_K_M", "Q4_K_M", "int4", "Q3_K_M", "Q2_K")

_ROLES = (
    ("embedding", r"embed_tokens|\bshared\.weight|wte"),
    ("output", r"lm_head"),
    ("value", r"v_proj"),
    ("attention_output", r"o_proj|out_proj"),
    ("down", r"down_proj|\.w2\b|output_linear|fc2"),
)


def _bits(kind: str) -> float:
    return _ONNX_BITS.get(kind) or bits_per_weight(kind)


@dataclass(frozen=True)
class Weights:
    """A tensor as its size matters: ``routed`` ones (experts, routers) have as many rows as experts are kept."""

    role: str
    layer: int  # -1 outside the layers
    count: int
    columns: int
    routed: bool


def read_weights(checkpoint: Checkpoint) -> list[Weights]:
    """Every tensor of a checkpoint, by its role."""
    found = []
    for name, tensor in checkpoint.tensors.items():
        match = re.search(r"layers\.(\d+)\.", name)
        layer = int(match[1]) if match else -1
        experts = checkpoint.moe_layers.get(layer, 0)
        stacked = len(tensor.shape) == 3 and tensor.shape[0] == experts
        routed = ".experts." in name or stacked
        columns = tensor.shape[-1] if tensor.shape else 1
        role = next((role for role, pattern in _ROLES if re.search(pattern, name)), "other")
        if len(tensor.shape) < 2:
            role = "vector"
        elif not routed and experts and tensor.shape[0] == experts:
            role, routed = "router", True
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


def _type_of(name: str, layers: int, tied: bool) -> Callable[[Weights], str]:
    return _onnx(name) if name.startswith("int") else _mix(name, name.removesuffix("_M"), layers, tied)


@dataclass(frozen=True)
class Choice:
    """One ratio and type. Sizes in bytes; ``bits`` are the mean over all weights."""

    ratio: float
    type: str
    format: str
    experts: int  # kept in a layer that has most
    bits: float
    file_bytes: int
    memory_bytes: int
    fits: bool
    refused: str = ""  # why it cannot be written; empty where it can


@dataclass(frozen=True)
class Fit:
    """All choices, least pruning and best type first; what is recommended (None where nothing fits), and why."""

    choices: list[Choice]
    usable_bytes: int  # of memory, for the model
    recommended: Choice | None
    reason: str


def cache_bytes(config: dict[str, Any], context: int, width: int) -> int:
    """Bytes of the KV cache for ``context`` tokens with ``width`` bytes a number."""
    if "kv_lora_rank" in config:  # multi-head latent attention: one compressed vector for keys and values
        row = config["kv_lora_rank"] + config["qk_rope_head_dim"]
    else:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        row = 2 * (config.get("num_key_value_heads") or heads) * head
    return int(config["num_hidden_layers"] * row * context * width)


def _compute_bytes(config: dict[str, Any]) -> int:
    """Activations of a batch of 512 tokens, float32, some ten of the hidden size; and one row of logits."""
    return 4 * (512 * 10 * config["hidden_size"] + config["vocab_size"])


def _metadata_bytes(checkpoint: Checkpoint, ratio_of_json: float) -> int:
    path = checkpoint.folder / "tokenizer.json"
    return int(path.stat().st_size * ratio_of_json) if path.exists() else 0


def _choices(checkpoint: Checkpoint, usable: int, context: int) -> Iterator[Choice]:
    config, weights = checkpoint.config, read_weights(checkpoint)
    most, layers = max(checkpoint.moe_layers.values()), int(config["num_hidden_layers"])
    able = formats_of(checkpoint)
    tied = bool(config.get("tie_word_embeddings")) or not any(item.role == "output" for item in weights)
    weights = [item for item in weights if not (tied and item.role == "output")]
    copied = [replace(item, role="output") for item in weights if item.role == "embedding"]
    seen: set[int] = set()
    for ratio in RATIOS:
        if round(most * (1 - ratio)) < 1 or (kept := kept_count(most, ratio)) in seen:
            continue
        seen.add(kept)
        able = replace(able, gguf=gguf_refusal(checkpoint, kept))
        for name in TYPES:
            format = "ONNX" if name.startswith("int") else "GGUF"
            copies = tied and format == "GGUF" and checkpoint.family.gguf.separate_output
            choose = _type_of(name, layers, tied and not copies)
            bits = total = 0.0
            for item in [*weights, *copied] if copies else weights:
                kind, count = choose(item), item.count
                if item.routed:
                    count = (
                        count * kept_count(checkpoint.moe_layers[item.layer], ratio) / checkpoint.moe_layers[item.layer]
                    )
                if item.columns % 256 and kind in _FALLBACK:
                    kind = _FALLBACK[kind]
                bits, total = bits + count * _bits(kind), total + count
            file = bits / 8 + _metadata_bytes(checkpoint, 1.0 if format == "ONNX" else 0.6)
            cache = cache_bytes(config, context, 4 if format == "ONNX" else 2)
            memory = file + cache + _compute_bytes(config) + PROCESS_BYTES[format]
            yield Choice(
                ratio, name, format, kept, bits / total, int(file), int(memory), memory <= usable,
                _refusal(checkpoint, able, kept, name),
            )  # fmt: skip


def _cuts(model: GgufModel, usable: int, context: int) -> Iterator[Choice]:
    config, most = config_of(model), max(model.moe_layers.values())
    beside = cache_bytes(config, context, 2) + _compute_bytes(config) + PROCESS_BYTES["GGUF"]
    for ratio in RATIOS:
        if round(most * (1 - ratio)) < 1:
            continue
        (file, bits), kept = cut_size(model, ratio), kept_count(most, ratio)
        memory = int(file + beside)
        yield Choice(ratio, type_of(model), "GGUF", kept, bits, file, memory, memory <= usable)


def _refusal(checkpoint: Checkpoint, able: Capabilities, kept: int, name: str) -> str:
    if kept < checkpoint.layer_floor:
        return f"The router of {checkpoint.architecture} needs {checkpoint.layer_floor} experts in a layer."
    error = able.refusal(name)
    return error.sentence if error else ""


def fit(model: Checkpoint | GgufModel, memory: int, context: int = 1024) -> Fit:
    """Sizes of every ratio and type, and the one to take for ``memory`` bytes of the whole machine.

    Of a checkpoint those of every type; of a GGUF file those of its cuts, which keep the types of its tensors.

    Raises:
        RequestError: the model has no experts, or an encoder.
    """
    usable = int(memory * (1 - SYSTEM_SHARE))
    if isinstance(model, Checkpoint):
        model.require_decoder()
        choices = list(_choices(model, usable, context))
    else:
        choices = list(_cuts(model, usable, context))
    return _recommend(choices, usable)


def _base_bits(choice: Choice) -> float:
    """Bits per weight of the type's base; of a GGUF file of another mix its mean."""
    try:
        return _bits(choice.type.removesuffix("_M"))
    except KeyError:
        return choice.bits


def _recommend(choices: list[Choice], usable: int) -> Fit:
    fitting = [choice for choice in choices if choice.fits and not choice.refused]
    good = [choice for choice in fitting if _base_bits(choice) >= GOOD_BITS]
    if good:
        best, reason = good[0], "the least pruning at which a type of 4 bits or more fits, and the best such type there"
    elif fitting:
        best, reason = (
            fitting[0],
            "no type of 4 bits or more fits at any ratio; the least pruning at which any type fits",
        )
    else:
        writable = [choice for choice in choices if not choice.refused]
        smallest = min(writable or choices, key=lambda choice: choice.memory_bytes)
        best, reason = None, f"nothing fits; the smallest, {smallest.type} at a ratio of {smallest.ratio:g}, needs more"
        if not writable:
            reason = "none of these types can be written"
    return Fit(choices, usable, best, reason)


def table(found: Fit) -> Table:
    """A line for each ratio, a column for each type: memory, a mark on what fits, and the file's size below."""
    large = max(choice.memory_bytes for choice in found.choices) >= 10e9
    unit, scale = ("GB", 1e9) if large else ("MB", 1e6)

    def number(size: int) -> str:
        return f"{size / scale:.{int(large and size < 10 * scale)}f}"

    types = dict.fromkeys(choice.type for choice in found.choices)
    result = Table("ratio", "kept", *types, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    result.title = f"memory at run time and (file size) in {unit}; + fits, * recommended"
    if any(choice.refused for choice in found.choices):
        result.title += ", x refused"
    result.title_justify = "left"
    for column in result.columns[1:]:
        column.justify = "right"
    for ratio in dict.fromkeys(choice.ratio for choice in found.choices):
        row = [choice for choice in found.choices if choice.ratio == ratio]
        cells = []
        for choice in row:
            mark = "*" if choice == found.recommended else "x" if choice.refused else "+" if choice.fits else " "
            cells.append(f"{number(choice.memory_bytes)}{mark}\n({number(choice.file_bytes)}) ")
        result.add_row(f"{ratio:g}", str(row[0].experts), *cells)
    return result
