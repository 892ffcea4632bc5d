"""MoE families as data: one TOML file each. To add a family, add a file (docs/adding.md)."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runtime.errors import RequestError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """Where a family keeps its experts. Names are patterns with ``{layer}`` and ``{expert}``."""

    model_type: str
    count_keys: tuple[str, ...]  # config keys that hold the number of experts; all that are present are rewritten
    top_k_key: str
    router: str  # tensor with one row for each expert
    experts: tuple[str, ...]  # tensors of one expert
    router_module: str
    experts_module: str
    decoder: dict[str, str]  # names for the ONNX graph writer; empty where it does not know the family


@cache
def families() -> dict[str, Family]:
    """All families by the ``model_type`` of their config."""
    found = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        found[data["model_type"]] = Family(
            data["model_type"],
            tuple(data["config"]["expert_count"]),
            data["config"]["top_k"],
            data["tensors"]["router"],
            tuple(data["tensors"]["experts"]),
            data["modules"]["router"],
            data["modules"]["experts"],
            data.get("decoder", {}),
        )
    return found


def family_of(config: dict[str, Any]) -> Family:
    """The family of a checkpoint's ``config.json``.

    Raises:
        RequestError: no family file describes this ``model_type``.
    """
    model_type = config.get("model_type")
    if model_type not in families():
        known = ", ".join(families())
        raise RequestError(f"Models of type {model_type!r} are not supported; known MoE families: {known}.")
    return families()[model_type]
