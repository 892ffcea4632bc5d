"""Budgets: how many experts of a layer stay at a ratio. Standard library only, so that a request is checked before set-up."""

import heapq
from collections.abc import Callable, Sequence

from runtime.errors import RequestError

# From each layer's shares of score (summing to 1), the ratio and the least count to the number of experts kept by layer.
Allocation = Callable[[Sequence[Sequence[float]], float, int], list[int]]


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


def uniform(shares: Sequence[Sequence[float]], ratio: float, floor: int) -> list[int]:
    """The same share of every layer."""
    return [kept_count(len(layer), ratio) for layer in shares]


def layerwise(shares: Sequence[Sequence[float]], ratio: float, floor: int) -> list[int]:
    """Counts by layer under the total of ``uniform``: one after another, the highest share of any layer stays.

    Args:
        shares: each layer's scores, not negative and summing to 1, which is what makes layers comparable.
        floor: what every layer keeps at least, the model's top-k (or all that ``uniform`` leaves, where that is less).
    """
    even = uniform(shares, ratio, floor)
    counts = [min(floor, kept) for kept in even]
    ordered = [sorted(layer, reverse=True) for layer in shares]
    waiting = [(-layer[count], i) for i, (layer, count) in enumerate(zip(ordered, counts)) if count < len(layer)]
    heapq.heapify(waiting)
    for _ in range(sum(even) - sum(counts)):
        _, i = heapq.heappop(waiting)
        counts[i] += 1
        if counts[i] < len(ordered[i]):
            heapq.heappush(waiting, (-ordered[i][counts[i]], i))
    return counts


ALLOCATIONS: dict[str, Allocation] = {"uniform": uniform, "layerwise": layerwise}


def find_allocation(name: str) -> Allocation:
    """Look up by name.

    Raises:
        RequestError: unknown name.
    """
    if name not in ALLOCATIONS:
        raise RequestError(f"Unknown allocation {name!r}; known: {', '.join(ALLOCATIONS)}.")
    return ALLOCATIONS[name]
