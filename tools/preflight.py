"""Check a request before anything is installed, downloaded or computed.

Standard library only. What passes here can still fail later (a damaged file, a full disk), with a sentence of its own.
"""

import json
from pathlib import Path

from prune.families import family_of
from prune.families.sanity import check_config
from prune.plan.budget import check_ratio, kept_count
from runtime.errors import RequestError
from runtime.text.pairs import parse_pair


def expert_count(folder: Path) -> int | None:
    """The number of experts by ``config.json``; None where it does not say.

    Raises:
        RequestError: no config.json, or not an MoE family that we know.
        WorkError: numbers in it that no model has.
    """
    path = folder / "config.json"
    if not path.exists():
        raise RequestError(f"{folder} has no config.json: not a Hugging Face model folder.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise RequestError(f"{path} is not valid JSON.") from None
    if not isinstance(config, dict):
        raise RequestError(f"{path} is not a JSON object.")
    family = family_of(config)
    check_config(config, family, path)
    return family.experts_in(config)


def preflight(pair: str, ratio: str, model: str) -> None:
    """Check pair, ratio and model against each other.

    Raises:
        RequestError: what is wrong, and a command that is right.
    """
    parse_pair(pair)
    try:
        share = float(ratio)
    except ValueError:
        raise RequestError(f"'{ratio}' is not a ratio.", next_command="make export PAIR=en-de RATIO=0.75") from None
    check_ratio(share)
    folder = Path(model)
    looks_like_id = model.count("/") == 1 and not folder.is_absolute() and not model.startswith((".", "~"))
    if not folder.is_dir() and (not looks_like_id or model.startswith("models/")):
        raise RequestError(f"There is no model folder {model}.", next_command="make export PAIR=en-de RATIO=0.75")
    if folder.is_dir() and (experts := expert_count(folder)) is not None:
        kept_count(experts, share)
