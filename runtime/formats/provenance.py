"""The keys ``slimmoe.*`` of a GGUF file: where it comes from."""

from typing import Any

_NAMES = ("format", "hash", "fingerprint", "pair", "criterion", "allocation", "ratio")


def provenance(plan: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """What a plan's fields (``Plan.to_dict``, or a folder's ``slimmoe.json``) tell of the cut, by GGUF key."""
    keys = {f"slimmoe.{name}": plan[name] for name in _NAMES if isinstance(plan.get(name), str | int | float)}
    return keys | ({"slimmoe.recovered": True} if plan.get("recovery") else {})
