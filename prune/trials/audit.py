"""What removing single experts really costs, beside what each criterion expects (arXiv 2606.10703 did this elsewhere)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune.calibrate.stats import Stats
from prune.plan.criteria import CRITERIA, SUMS_READ
from prune.plan.plan import Layer, Plan, score_layers
from runtime.errors import RequestError


@dataclass(frozen=True)
class Removal:
    """One expert removed alone: the loss it adds (nats per response token), and its score by each criterion."""

    layer: int
    expert: int
    added_loss: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Audit:
    """``loss`` of the unpruned model, and each removal that was tried."""

    loss: float
    removals: list[Removal]

    def correlations(self) -> dict[str, dict[int, float]]:
        """Spearman's rank correlation of score and added loss, by criterion and layer; NaN where either is constant."""
        found: dict[str, dict[int, float]] = {}
        for name in self.removals[0].scores:
            found[name] = {}
            for layer in sorted({removal.layer for removal in self.removals}):
                here = [removal for removal in self.removals if removal.layer == layer]
                scores = np.array([removal.scores[name] for removal in here])
                found[name][layer] = rank_correlation(scores, np.array([removal.added_loss for removal in here]))
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "removals": [vars(removal) for removal in self.removals]}


def audit(
    stats: Stats,
    loss: Callable[[Plan], float],
    *,
    experts: int = 16,
    seed: int = 0,
    tell: Callable[[int], object] = lambda total: None,
) -> Audit:
    """Remove a sample of experts of each layer one by one.

    Args:
        loss: of a plan, such as ``Trial.loss``.
        experts: of each layer; chance chooses them.
        tell: is called after each trial with the number of all.

    Raises:
        RequestError: statistics without sums that any criterion reads.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in CRITERIA if name != "contrast" and SUMS_READ[name] <= set(stats.known)]
    if not names:
        raise RequestError("These statistics hold no sums that a criterion reads: calibrate again.")
    scores = {name: score_layers(stats, name, seed=seed) for name in names}
    sample = {
        i: sorted(rng.choice(layer.experts, min(experts, layer.experts), replace=False).tolist())
        for i, layer in stats.layers.items()
    }
    total = 1 + sum(map(len, sample.values()))
    whole = loss(_without(stats, {}))
    tell(total)
    removals = []
    for layer, chosen in sample.items():
        for expert in chosen:
            added = loss(_without(stats, {layer: expert})) - whole
            by_name = {name: float(scores[name][layer][expert]) for name in names}
            removals.append(Removal(layer, expert, added, by_name))
            tell(total)
    return Audit(whole, removals)


def _without(stats: Stats, dropped: dict[int, int]) -> Plan:
    layers = [
        Layer(i, layer.experts, [j for j in range(layer.experts) if j != dropped.get(i)])
        for i, layer in stats.layers.items()
    ]
    return Plan(stats.model, stats.fingerprint, stats.pair, "audit", "none", 0.0, 0, stats.top_k, layers)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's: Pearson's correlation of the ranks, equal values having their mean rank; NaN where one is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
