"""Budgets: how many experts of a layer stay at a ratio. Standard library only, so that a request is checked before set-up."""

from runtime.errors import RequestError


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
