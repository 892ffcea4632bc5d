"""Rotary position embeddings: frequencies of each kind, after transformers' ``modeling_rope_utils.py``."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import RequestError


@dataclass(frozen=True)
class Rotary:
    """The rotation of a head's first ``2 * len(frequencies)`` values at each of ``positions``."""

    frequencies: np.ndarray  # float32 [rotated / 2], in radians for each position
    scale: float  # of cosines and sines
    positions: int
    sharpness: float = 1.0  # of the attention of models whose queries and keys are rotated in part only

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines [positions, rotated / 2], in float32 throughout as transformers computes them."""
        angles = np.outer(np.arange(self.positions, dtype=np.float32), self.frequencies)
        return np.cos(angles) * np.float32(self.scale), np.sin(angles) * np.float32(self.scale)


def rotary(config: dict[str, Any], head: int, whole: bool = False) -> Rotary:
    """The rotary embedding of a config, as transformers 5 (``rope_parameters``) or 4 (``rope_scaling``) wrote it.

    Of ``longrope``, whose frequencies jump where a text outgrows the length the model was first trained on, the graph
    knows the part before: a text may have ``original_max_position_embeddings`` tokens. So it is where queries grow with
    their position from there on (``llama_4_scaling_beta``).

    Args:
        head: size of a head, or (``whole``) of the part of it that is rotated.

    Raises:
        RequestError: a kind that the graph does not know.
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rope = {key: value for key, value in rope.items() if value is not None}
    kind = rope.get("rope_type", rope.get("type", "default"))
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    rotated = head if whole else int(head * share) if share else config.get("rotary_dim") or head
    if rotated % 16:
        raise RequestError(f"ONNX Runtime rotates a multiple of 16 values of a head, and this model has {rotated}.")
    base = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    positions = config["max_position_embeddings"]
    if kind == "dynamic" and rope.get("alpha"):  # Hunyuan's: the base is stretched once and for all
        kind, base = "default", base * rope["alpha"] ** (rotated / (rotated - 2))
    powers = np.float32(base) ** (np.arange(0, rotated, 2, dtype=np.float32) / rotated)
    if kind == "default":
        return Rotary(1 / powers, 1.0, positions)
    original = rope.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
    if kind not in ("yarn", "longrope") or original is None:
        lacks = " without original_max_position_embeddings" if kind in ("yarn", "longrope") else ""
        raise RequestError(f"The ONNX export does not know rotary embeddings of the kind {kind!r}{lacks}.")
    factor = rope.get("factor") or positions / original
    if kind == "yarn":
        sharpness = _yarn_scale(factor, rope.get("mscale_all_dim", 0)) ** 2
        if rope.get("llama_4_scaling_beta"):  # queries grow from there on
            positions = min(positions, original)
        return Rotary(_yarn(rope, powers, factor, original, base), _scale(rope, factor), positions, sharpness)
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    scale = rope.get("short_mscale", rope.get("attention_factor", scale))
    return Rotary(1 / (np.array(rope["short_factor"], np.float32) * powers), scale, min(positions, original))


def _yarn(rope: dict[str, Any], powers: np.ndarray, factor: float, original: int, base: float) -> np.ndarray:
    """YaRN (arXiv 2309.00071): high frequencies stay, low ones are interpolated, with a ramp between them."""
    rotated = 2 * len(powers)

    def dimension(rotations: float) -> float:
        """Where a frequency makes this many rotations in the original context."""
        return rotated * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    ramp = np.clip((np.arange(len(powers), dtype=np.float32) - low) / (high - low or 0.001), 0, 1).astype(np.float32)
    return ramp / (np.float32(factor) * powers) + (1 - ramp) / powers


def _yarn_scale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def _scale(rope: dict[str, Any], factor: float) -> float:
    if "attention_factor" in rope:
        return rope["attention_factor"]
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return _yarn_scale(factor, rope["mscale"]) / _yarn_scale(factor, rope["mscale_all_dim"])
    return _yarn_scale(factor, 1)
