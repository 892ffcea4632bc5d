"""Budgets: how many experts of a layer stay at a ratio. Standard library only, so that a request is checked before set-up."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.errors import RequestError


@dataclass(frozen=True)
class LayerScores:
    """What a budget may look at in one layer.

    Attributes:
        shares: the experts' scores, not negative and summing to 1, which is what makes layers comparable.
        divergence: of the routing of two languages, from 0 to 1; NaN where it is not known.
    """

    shares: Sequence[float]
    divergence: float = math.nan


# From the layers, the counts of the uniform budget, whose total is to be kept, and the least that every layer keeps
# (the model's top-k, or all that the uniform budget leaves, where that is less) to the number of experts kept by layer.
Allocation = Callable[[Sequence[LayerScores], Sequence[int], int], list[int]]


def kept_count(experts: int, ratio: float) -> int:
    """How many of ``experts`` stay at a pruning ratio (the share that is cut), rounded to the nearest whole expert.

    Raises:
        RequestError: the ratio is not in [0, 1), or no expert would stay.
    """
    check_ratio(ratio)
    kept = experts - round(experts * ratio)
    if kept < 1:
        highest = int((1 - 1 / experts) * 100) / 100
        raise RequestError(
            f"A ratio of {ratio:g} would leave none of {experts} experts in a layer.",
            next_command=f"make export PAIR=en-de RATIO={highest:g}",
        )
    return kept


def check_ratio(ratio: float) -> None:
    """Refuse what is not a share.

    Raises:
        RequestError: the ratio is not in [0, 1).
    """
    if not 0 <= ratio < 1:
        raise RequestError(
            f"A ratio is the share of experts to cut, from 0 up to (not including) 1; {ratio:g} is not.",
            next_command="make export PAIR=en-de RATIO=0.75",
        )


def uniform(layers: Sequence[LayerScores], even: Sequence[int], floor: int) -> list[int]:
    """The same share of every layer."""
    return list(even)


def layerwise(layers: Sequence[LayerScores], even: Sequence[int], floor: int) -> list[int]:
    """One expert after another, the highest share of score in any layer stays."""
    return _highest_shares(layers, [min(floor, kept) for kept in even], sum(even))


def coverage(layers: Sequence[LayerScores], even: Sequence[int], floor: int) -> list[int]:
    """The smallest set of each layer that covers the same part of its score; the part is found by bisection.

    The idea is SHAPE's (arXiv 2606.09886). What the last expert of each layer leaves of the total goes to the highest
    shares.
    """
    ordered = [sorted(layer.shares, reverse=True) for layer in layers]
    least = [min(floor, kept) for kept in even]

    def counts(part: float) -> list[int]:
        return [max(low, _smallest(shares, part)) for low, shares in zip(least, ordered)]

    low, high = 0.0, 1.0
    for _ in range(50):
        part = (low + high) / 2
        low, high = (part, high) if sum(counts(part)) <= sum(even) else (low, part)
    return _highest_shares(layers, counts(low), sum(even))


def jsd(layers: Sequence[LayerScores], even: Sequence[int], floor: int) -> list[int]:
    """More experts where two languages are routed apart (arXiv 2605.28042): in proportion to the divergence of a layer.

    Every layer keeps ``floor``; the rest is apportioned by Hamilton's method, and what a layer has no room for goes to
    the others.
    """
    return _by_divergence(layers, even, floor, [layer.divergence for layer in layers])


def inverse_jsd(layers: Sequence[LayerScores], even: Sequence[int], floor: int) -> list[int]:
    """The control of ``jsd``: the same spread of weights, the other way round."""
    weights = [layer.divergence for layer in layers]
    return _by_divergence(layers, even, floor, [max(weights) + min(weights) - weight for weight in weights])


def _by_divergence(
    layers: Sequence[LayerScores], even: Sequence[int], floor: int, weights: Sequence[float]
) -> list[int]:
    if any(math.isnan(layer.divergence) for layer in layers):
        raise RequestError(
            "The allocation by divergence needs the gate weights of both languages, which these statistics do not hold.",
            next_command="slimmoe calibrate MODEL --pair en-de -o stats.safetensors",
        )
    least = [min(floor, kept) for kept in even]
    room = [len(layer.shares) - low for layer, low in zip(layers, least)]
    more = apportion(sum(even) - sum(least), weights, room)
    return [low + part for low, part in zip(least, more)]


def apportion(total: int, weights: Sequence[float], room: Sequence[int]) -> list[int]:
    """Whole parts of ``total`` in proportion to ``weights``, none above its ``room``: Hamilton's method.

    Where a part would exceed its room it takes the room, and the rest is apportioned again among the others. Weights that
    are all 0 count as equal.
    """
    full: set[int] = set()
    while True:
        left = total - sum(room[i] for i in full)
        open_ = [i for i in range(len(room)) if i not in full]
        whole = sum(weights[i] for i in open_)
        quotas = {i: left * (weights[i] / whole if whole > 0 else 1 / len(open_)) for i in open_}
        over = {i for i, quota in quotas.items() if quota > room[i]}
        if not over:
            break
        full |= over
    parts = [room[i] if i in full else int(quotas[i]) for i in range(len(room))]
    by_rest = sorted(open_, key=lambda i: (int(quotas[i]) - quotas[i], i))
    for i in [i for i in by_rest if parts[i] < room[i]][: total - sum(parts)]:
        parts[i] += 1
    return parts


def divergence(one: Sequence[float], other: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two distributions given by masses, in bits: 0 the same, 1 disjoint; NaN without mass."""
    masses = sum(one), sum(other)
    if not all(mass > 0 for mass in masses):
        return math.nan
    p, q = ([value / mass for value in values] for values, mass in zip((one, other), masses))
    middle = [(a + b) / 2 for a, b in zip(p, q)]
    return sum(sum(a * math.log2(a / m) for a, m in zip(values, middle) if a > 0) / 2 for values in (p, q))


def _smallest(ordered: Sequence[float], part: float) -> int:
    """How many of the highest shares have the sum ``part``."""
    total = 0.0
    for count, share in enumerate(ordered):
        if total >= part:
            return count
        total += share
    return len(ordered)


def _highest_shares(layers: Sequence[LayerScores], counts: list[int], total: int) -> list[int]:
    """Raise ``counts`` to ``total`` in all: one after another, the highest share in any layer that does not stay yet."""
    counts = list(counts)
    ordered = [sorted(layer.shares, reverse=True) for layer in layers]
    waiting = [(-shares[count], i) for i, (shares, count) in enumerate(zip(ordered, counts)) if count < len(shares)]
    heapq.heapify(waiting)
    for _ in range(total - sum(counts)):
        _, i = heapq.heappop(waiting)
        counts[i] += 1
        if counts[i] < len(ordered[i]):
            heapq.heappush(waiting, (-ordered[i][counts[i]], i))
    return counts


ALLOCATIONS: dict[str, Allocation] = {
    "uniform": uniform,
    "layerwise": layerwise,
    "coverage": coverage,
    "jsd": jsd,
    "inverse-jsd": inverse_jsd,
}


SEARCH = "search"  # the counts are found by trying (prune/trials/search.py)


def check_allocation(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        RequestError: it is one.
    """
    if name not in (*ALLOCATIONS, SEARCH):
        raise RequestError(f"Unknown allocation {name!r}; known: {', '.join((*ALLOCATIONS, SEARCH))}.")


def find_allocation(name: str) -> Allocation:
    """Look up by name.

    Raises:
        RequestError: an unknown name, or the search, which needs a model.
    """
    check_allocation(name)
    if name == SEARCH:
        raise RequestError(
            "A search for the budget runs the model.",
            next_command="slimmoe plan STATS --ratio 0.75 --allocation search --model MODEL -o plan.json",
        )
    return ALLOCATIONS[name]
