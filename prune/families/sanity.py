"""A ``config.json`` that describes no model, or another than the tensors are, refused before any work.

Numbers are checked before anything is divided by them or counted up to them.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from prune.families import Family
from runtime.errors import WorkError
from runtime.formats.typed_json import Amount, Share, Within, mismatch

MOST_LAYERS, MOST_EXPERTS, MOST_UNITS = 1 << 12, 1 << 16, 1 << 24  # far beyond any model; units: of a layer, or tokens
_COUNT = int | list[int]
_BASE = Annotated[float, Within(2, 1e18)]  # of rotary embeddings: something is divided by its logarithm


class _Rope(TypedDict, total=False):
    """Rotary embeddings; what is by type of layer, as of Gemma, is not named here."""

    rope_type: str | None
    type: str | None
    rope_theta: _BASE | None
    partial_rotary_factor: Share | None
    factor: Amount | None
    alpha: Amount | None
    attention_factor: float | None
    mscale: float | None
    mscale_all_dim: float | None
    beta_fast: float | None
    beta_slow: float | None
    low_freq_factor: float | None
    high_freq_factor: float | None
    original_max_position_embeddings: Amount | None
    short_factor: list[Annotated[float, Within(1e-6)]] | None
    long_factor: list[Annotated[float, Within(1e-6)]] | None


# By key, or by what a key ends with. Keys that are not named here are for transformers to judge; null is no value.
_KINDS: dict[str, Any] = {
    "hidden_act": str, "dtype": str, "torch_dtype": str, "transformers_weights": str,
    "rope_parameters": _Rope, "rope_scaling": _Rope, "rope_theta": _BASE, "partial_rotary_factor": Share,
    "rotary_dim": int, "layer_types": list[str], "architectures": list[str],
    "eos_token_id": _COUNT, "bos_token_id": _COUNT, "pad_token_id": _COUNT,
    "mamba_dt_rank": int | str, "max_position_embeddings": int, "head_dim": int,
}  # fmt: skip
_ENDINGS: dict[str, Any] = {"_eps": Share, "_epsilon": Share, "_multiplier": float}
_ENDINGS |= dict.fromkeys(("hidden_size", "vocab_size", "_heads", "_head_dim", "_rank"), int)
_ENDINGS["intermediate_size"] = _COUNT
_REQUIRED = ("hidden_size", "vocab_size", "num_attention_heads")  # of a decoder
_POSITIVE = ("hidden_size", "vocab_size", "_heads", "head_dim", "max_position_embeddings")
_PLAIN = ("F16", "BF16", "F32", "F64")


def _numbers(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _wrong_values(config: dict[str, Any], family: Family) -> Iterator[str]:
    """What is wrong with single values, as ends of a sentence."""
    keys = family.config
    top_k_keys = keys.top_k if isinstance(keys.top_k, tuple) else ()
    lengths = (key for names in family.layers.values() for key in names)  # of which others are lists than the first
    most = {key: MOST_LAYERS for key in lengths if not isinstance(config.get(key), list | str)}
    most |= dict.fromkeys((names[0] for names in family.layers.values()), MOST_LAYERS)
    most |= dict.fromkeys((*keys.expert_count, *top_k_keys), MOST_EXPERTS)
    for key, value in config.items():
        kind = _KINDS.get(key) or next((kind for end, kind in _ENDINGS.items() if key.endswith(end)), None)
        if key in most:
            kind = _COUNT
        if kind is None or value is None:
            continue
        if why := mismatch(value, kind, f"its {key}"):
            yield why
            continue
        if value == [] and kind == _COUNT and not key.endswith("token_id"):
            yield f"its {key} is an empty list"
        least = 1 if key in most or key.endswith(_POSITIVE) else 0
        limit = most.get(key, 1 << 40 if key == "max_position_embeddings" else MOST_UNITS)
        for number in _numbers(value) if kind in (_COUNT, int) and not key.endswith("token_id") else []:
            if not least <= number <= limit:
                yield f"its {key} is {str(number)[:40]}"
    for stack, names in family.layers.items():
        if all(config.get(key) is None for key in names):
            yield f"it does not say by {names[0]} how many layers {stack} has"
    for key in _REQUIRED if family.decoder and not family.decoder.has_encoder else ():
        if config.get(key) is None:
            yield f"it does not say its {key}"


def check_config(config: dict[str, Any], family: Family, path: Path) -> None:
    """Check the types, and the counts of layers, experts, experts of a token, groups, heads, units and tokens.

    Args:
        path: of config.json, for the sentence.

    Raises:
        WorkError: one of them is no number of a model, or they contradict each other.
    """
    for why in _wrong_values(config, family):
        raise WorkError(f"{path} is damaged: {why}.")
    keys = family.config
    top_k_keys = keys.top_k if isinstance(keys.top_k, tuple) else ()
    experts = family.experts_in(config)
    top_k = next((config[key] for key in top_k_keys if config.get(key)), keys.top_k)
    used = max(top_k) if isinstance(top_k, list) else top_k
    if experts and isinstance(used, int) and used > experts:
        raise WorkError(f"{path} is damaged: a token takes {used} experts, and a layer has {experts}.")
    groups = config.get(keys.groups or "") or 1
    if experts and (type(groups) is not int or not 1 <= groups <= experts):
        raise WorkError(f"{path} is damaged: its {experts} experts are in {groups} groups.")
    heads, shared = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if type(heads) is int and type(shared) is int and heads % shared:
        raise WorkError(f"{path} is damaged: {heads} heads cannot share {shared} of keys and values.")


def check_tensors(
    shapes: Mapping[str, tuple[str, tuple[int, ...]]], config: dict[str, Any], family: Family, folder: Path
) -> None:
    """Hold config.json against the tensors: as many layers, and the sizes that it says.

    Args:
        shapes: dtype and shape by the tensor's name. Those of quantised tensors say nothing of the model's sizes.

    Raises:
        WorkError: the first contradiction.
    """
    plain = {name: shape for name, (dtype, shape) in shapes.items() if dtype in _PLAIN}
    for stack in family.layers:
        pattern = re.compile("(?:" + "|".join(map(re.escape, (stack, *family.prefixes))) + r")\.(\d+)\.")
        there = {int(found[1]) for name in shapes if (found := pattern.match(name))}
        count = family.layers_in(config, stack)
        if there and (missing := sorted({*range(count)} - there)):
            raise WorkError(
                f"{folder} is incomplete: its config.json says {count} layers, and there is no tensor of "
                f"{stack}.{missing[0]}."
            )
    for said, key, number in _sizes(plain, config, family):
        if config.get(key) not in (None, number):
            raise WorkError(f"{folder} is damaged: its config.json says that {key} is {config[key]}, and {said}.")


def _sizes(plain: dict[str, tuple[int, ...]], config: dict[str, Any], family: Family) -> Iterator[tuple[str, str, int]]:
    """What tensors say of a key's value: a sentence's end, the key, and the right value."""
    names = _names(family.decoder.model.get("embedding")) if family.decoder else []
    for name in names:
        if (shape := plain.get(name)) and len(shape) == 2:
            yield f"{name} has {shape[0]} rows", "vocab_size", shape[0]
            yield f"{name} has {shape[1]} columns", "hidden_size", shape[1]
    routers = {layout.router for layout in family.layouts}
    for name, shape in plain.items():
        if len(shape) == 2 and name.endswith(tuple(f".{router}" for router in routers)):
            yield f"{name} has {shape[1]} columns", "hidden_size", shape[1]
    width = config.get("moe_intermediate_size")
    for pattern in _names(family.decoder.layer.get("expert_down")) if family.decoder and width else []:
        name = re.compile(r".*\." + re.escape(pattern).replace(r"\{expert\}", r"\d+"))
        for each, shape in plain.items():
            if name.fullmatch(each) and len(shape) == 2 and shape[1] not in _numbers(width):
                yield f"{each} has {shape[1]} columns", "moe_intermediate_size", shape[1]
    heads, head = config.get("num_key_value_heads"), config.get("head_dim")
    if family.decoder and type(heads) is int and type(head) is int and not config.get("kv_lora_rank"):
        endings = tuple(f".{name}" for name in _names(family.decoder.layer.get("value")))
        rows = {shape[0]: name for name, shape in plain.items() if endings and name.endswith(endings)}
        if rows and heads * head not in rows:  # some layers may have heads of their own
            number, name = next(iter(rows.items()))
            yield f"{name} has {number} rows, which are no {heads} heads", "head_dim", -1


def _names(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
