"""Criteria score the experts of one layer; the highest scores stay.

To add one, write a function below and decorate it: command line, plans and tests find it by its name.
"""

from collections.abc import Callable

import numpy as np

from prune.stats import LayerStats
from runtime.errors import RequestError

Criterion = Callable[[LayerStats, np.random.Generator], np.ndarray]
CRITERIA: dict[str, Criterion] = {}


def criterion(function: Criterion) -> Criterion:
    """Register under the function's name, underscores as hyphens."""
    CRITERIA[function.__name__.replace("_", "-")] = function
    return function


@criterion
def reap(layer: LayerStats, rng: np.random.Generator) -> np.ndarray:
    """Mean of gate weight times output norm over the tokens that chose the expert (Lasby et al., arXiv 2510.13999)."""
    return layer.gate_norm.sum(0) / np.maximum(layer.count.sum(0), 1)


@criterion
def frequency(layer: LayerStats, rng: np.random.Generator) -> np.ndarray:
    """Share of routed tokens that chose the expert."""
    return layer.count.sum(0) / max(layer.count.sum(), 1)


@criterion
def saliency(layer: LayerStats, rng: np.random.Generator) -> np.ndarray:
    """REAP's product summed over tokens instead of averaged, so that an expert also counts by how often it is used."""
    return layer.gate_norm.sum(0)


@criterion
def random(layer: LayerStats, rng: np.random.Generator) -> np.ndarray:
    """The control that every other criterion must beat."""
    return rng.random(layer.experts)


def find_criterion(name: str) -> Criterion:
    """Look up by name.

    Raises:
        RequestError: unknown name.
    """
    if name not in CRITERIA:
        raise RequestError(f"Unknown criterion {name!r}; known: {', '.join(CRITERIA)}.")
    return CRITERIA[name]
