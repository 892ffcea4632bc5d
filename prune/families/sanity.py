"""Numbers of a ``config.json`` that no model has, refused before anything is divided by them or counted up to them."""

from pathlib import Path
from typing import Any

from prune.families import Family
from runtime.errors import WorkError

MOST_LAYERS, MOST_EXPERTS, MOST_UNITS = 1 << 12, 1 << 16, 1 << 24  # far beyond any model; units: of a layer, or tokens


def check_config(config: dict[str, Any], family: Family, path: Path) -> None:
    """Check the counts of layers, experts, experts of a token, groups, units and tokens that the config gives.

    Args:
        path: of config.json, for the sentence.

    Raises:
        WorkError: one of them is no number of a model, or they contradict each other.
    """
    keys = family.config
    top_k_keys = keys.top_k if isinstance(keys.top_k, tuple) else ()
    most = dict.fromkeys(("hidden_size", "vocab_size", "num_attention_heads"), MOST_UNITS)
    most |= dict.fromkeys(family.layers.values(), MOST_LAYERS) | dict.fromkeys(
        (*keys.expert_count, *top_k_keys), MOST_EXPERTS
    )
    for key, limit in most.items():
        value = config.get(key)
        for number in value if isinstance(value, list) and value else [value]:  # some are given by layer
            if value is not None and not (type(number) is int and 1 <= number <= limit):
                raise WorkError(f"{path} is damaged: its {key} is {str(number)[:40]}.")
    experts = family.experts_in(config)
    top_k = next((config[key] for key in top_k_keys if config.get(key)), keys.top_k)
    used = max(top_k) if isinstance(top_k, list) else top_k
    if experts and isinstance(used, int) and used > experts:
        raise WorkError(f"{path} is damaged: a token takes {used} experts, and a layer has {experts}.")
    groups = config.get(keys.groups or "") or 1
    if experts and (type(groups) is not int or not 1 <= groups <= experts):
        raise WorkError(f"{path} is damaged: its {experts} experts are in {groups} groups.")
