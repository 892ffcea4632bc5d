"""Criteria score the experts of one layer by what calibration saw; the highest scores stay.

To add one, write a function below and decorate it: command line, plans and tests find it by its name.

Notation as in prune/calibrate/stats.py: X_j the tokens whose top-k holds expert j, N_j their number, g_j a token's gate weight,
f_j the expert's output. Sums run over prompt and response alike: on the default model, scores of the response alone
lose more (docs/pruning.md), since the source has to be understood as well.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from prune.calibrate.stats import LayerStats
from runtime.errors import RequestError


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at: one layer's statistics on the pair, on other text if given, and a source of chance."""

    own: LayerStats
    other: LayerStats | None
    rng: np.random.Generator


Criterion = Callable[[Evidence], np.ndarray]
CRITERIA: dict[str, Criterion] = {}
SUMS_READ: dict[str, set[str]] = {}  # by each criterion


def criterion(*sums: str) -> Callable[[Criterion], Criterion]:
    """Register under the function's name, underscores as hyphens; ``sums`` are those of LayerStats that it reads."""

    def register(function: Criterion) -> Criterion:
        name = function.__name__.replace("_", "-")
        CRITERIA[name], SUMS_READ[name] = function, set(sums)
        return function

    return register


def _per_token(layer: LayerStats, values: np.ndarray) -> np.ndarray:
    """Sums as means over the layer's routed tokens, so that texts of different length compare."""
    return values.sum(0) / max(layer.count.sum(), 1)


@criterion("count")
def frequency(evidence: Evidence) -> np.ndarray:
    """Share of routed tokens that chose the expert: N_j / sum of N_i."""
    return _per_token(evidence.own, evidence.own.count)


@criterion("count", "gate")
def gate(evidence: Evidence) -> np.ndarray:
    """Gate mass, the sum of g_j: frequency weighted by how much the router wanted it (SEER-MoE, arXiv 2404.05089)."""
    return _per_token(evidence.own, evidence.own.gate)


@criterion("count", "norm")
def activation_norm(evidence: Evidence) -> np.ndarray:
    """Sum of ||f_j||_2 over X_j (EAN, Jaiswal et al. 2025)."""
    return _per_token(evidence.own, evidence.own.norm)


@criterion("count", "gate_norm")
def reap(evidence: Evidence) -> np.ndarray:
    """Mean of g_j ||f_j||_2 over X_j (Lasby et al., arXiv 2510.13999): a rare but loud expert scores high."""
    return evidence.own.gate_norm.sum(0) / np.maximum(evidence.own.count.sum(0), 1)


@criterion("count", "gate_norm")
def saliency(evidence: Evidence) -> np.ndarray:
    """REAP's product summed over tokens instead of averaged, so that an expert also counts by how often it is used."""
    return _per_token(evidence.own, evidence.own.gate_norm)


@criterion("count", "top1_exp_gate")
def nllb(evidence: Evidence) -> np.ndarray:
    """Top-1 activity times mean of exp(confidence) over those tokens (Koishekenov et al., arXiv 2212.09811, sec. 3).

    Confidence is the gate weight; activity times mean is the sum of exp(g_j) over tokens whose largest gate is j's.
    """
    return _per_token(evidence.own, evidence.own.top1_exp_gate)


@criterion("count", "gate")
def contrast(evidence: Evidence) -> np.ndarray:
    """Gate mass on the pair's text minus half of that on other text: experts that serve everything count for less.

    The idea is the seed paper's (arXiv 2605.28042), that experts irrelevant to translation should go; the form and the
    half are ours. Needs statistics of other text (``slimmoe plan --against``).
    """
    if evidence.other is None:
        raise RequestError(
            "The criterion 'contrast' compares with other text.",
            next_command="slimmoe plan STATS --criterion contrast --against OTHER-STATS --ratio 0.75 -o plan.json",
        )
    return _per_token(evidence.own, evidence.own.gate) - 0.5 * _per_token(evidence.other, evidence.other.gate)


@criterion("count", "gram")
def reconstruction(evidence: Evidence) -> np.ndarray:
    """Greedy backward elimination of the error ||sum over dropped j of g_j f_j||^2 summed over tokens.

    The error of a set of dropped experts d is d' G d with the Gram matrix G of gated outputs (stats: ``gram``). The goal
    is NAEE's (Lu et al., arXiv 2402.14800, which enumerates sets); gates of the others are taken as unchanged. The score
    is what the elimination of the expert adds to the error, made to rise along the order of elimination.
    """
    gram = evidence.own.gram.sum(0) / max(evidence.own.count.sum(), 1)
    scores, left = np.zeros(len(gram)), np.ones(len(gram), bool)
    added = np.diagonal(gram).copy()  # error added by dropping each, given what is dropped already
    highest = 0.0
    while left.any():
        j = int(np.flatnonzero(left)[added[left].argmin()])
        highest = scores[j] = max(float(added[j]), np.nextafter(highest, np.inf))
        left[j] = False
        added = added + 2 * gram[j]
    return scores


@criterion("count", "easy_ep")
def easy_ep(evidence: Evidence) -> np.ndarray:
    """Saliency with each token weighted by how far the layer's experts turn its hidden state (EASY-EP, arXiv 2504.06792)."""
    return _per_token(evidence.own, evidence.own.easy_ep)


@criterion("count", "gate", "together")
def shape(evidence: Evidence) -> np.ndarray:
    """Gate mass times how much the experts chosen with it depend on it: what others can do without it is worth less.

    Of a token that chose i and j, the share of i's tokens that chose j as well says how seldom i does without j; the
    second factor is its mean over j's tokens and partners i. The idea is SHAPE's (arXiv 2606.09886, the value of an expert
    within the sets chosen together); from pairs instead of whole sets, so that shards add up.
    """
    mass, together = _per_token(evidence.own, evidence.own.gate), evidence.own.together.sum(0)
    chosen = np.diagonal(together)
    partners = together * (1 - np.eye(len(together)))
    times = partners.sum(1)
    dependence = (partners**2 / np.maximum(chosen, 1)).sum(1) / np.maximum(times, 1)
    return mass * np.where(times > 0, dependence, 1)  # a top-k of 1 knows no partners


@criterion("count", "gate")
def inverse_gate(evidence: Evidence) -> np.ndarray:
    """A control: the ranking of ``gate`` upside down, which ought to be far worse than chance (arXiv 2605.28042)."""
    mass = gate(evidence)
    return mass.max() - mass


@criterion("count")
def random(evidence: Evidence) -> np.ndarray:
    """The control that every other criterion must beat."""
    return evidence.rng.random(evidence.own.experts)


def find_criterion(name: str) -> Criterion:
    """Look up by name.

    Raises:
        RequestError: unknown name.
    """
    if name not in CRITERIA:
        raise RequestError(f"Unknown criterion {name!r}; known: {', '.join(CRITERIA)}.")
    return CRITERIA[name]


def require_sums(name: str, known: Collection[str]) -> None:
    """Refuse a criterion that reads sums which statistics do not hold.

    Raises:
        RequestError: names those that do work.
    """
    if missing := SUMS_READ[name] - set(known):
        working = [other for other, read in SUMS_READ.items() if read <= set(known) and other != "contrast"]
        raise RequestError(
            f"The criterion {name!r} needs {' and '.join(sorted(missing))}, which these statistics do not hold; "
            f"with them work: {', '.join(working)}.",
            next_command=f"slimmoe plan STATS --criterion {working[0]} --ratio 0.5 -o plan.json",
        )
