"""The budget by layer that keeps the cut model's predictions nearest to the whole one's, found by trying.

The ranking within a layer is a criterion's and stays; what is searched are the counts, under the uniform budget's total
(EvoESAP, arXiv 2603.06003). Every trial is written down beside the output, so that a stopped search goes on.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prune.calibrate.stats import Stats
from prune.plan.budget import ALLOCATIONS, SEARCH, LayerScores, kept_count
from prune.plan.plan import Plan, layer_scores, plan_of_counts, score_layers
from prune.trials.trial import Trial, progress
from runtime.errors import RequestError
from runtime.formats.files import new_file

EVALUATIONS = 200
ELITES = 4  # budgets that are changed further: the best so far
MOST_REPEATS = 1_000  # changes in a row that were tried already, after which there is nothing left to try
Counts = tuple[int, ...]


def search_plan(
    stats: Stats,
    ratio: float,
    criterion: str,
    fitness: Callable[[Plan], float],
    *,
    evaluations: int = EVALUATIONS,
    seconds: float | None = None,
    seed: int = 0,
    journal: Path | None = None,
    trial: str = "",
    against: Stats | None = None,
    tell: Callable[[int, float], object] = lambda done, best: None,
) -> Plan:
    """The plan of the best budget.

    Args:
        fitness: of a plan, higher is better, such as ``Trial.overlap``.
        evaluations: how many budgets are tried; the first are those of the other allocations.
        seconds: stop after so long; the result then depends on the machine.
        journal: file of trials of the same request, which are not done again.
        trial: what ``fitness`` measures on, by which the journal knows its request.
        tell: is called after each trial with their number and the best fitness.

    Raises:
        RequestError: ratio out of range, unknown criterion, or statistics without the sums that it reads.
    """
    scores = score_layers(stats, criterion, against, seed)
    layers = layer_scores(stats, scores)
    even = [kept_count(len(values), ratio) for values in scores.values()]
    least = max(stats.routing.layer_floor, min(stats.top_k, *even))
    rng, started = np.random.default_rng(seed), time.monotonic()
    found: dict[Counts, float] = {}

    def plan(counts: Sequence[int]) -> Plan:
        return plan_of_counts(stats, scores, counts, ratio, criterion, SEARCH, seed)

    ranked = hashlib.sha256(b"".join(values.tobytes() for values in scores.values())).hexdigest()[:16]
    key = {"model": stats.fingerprint, "scores": ranked, "ratio": ratio, "trial": trial}
    known = _read(journal, key)

    def attempt(counts: Counts) -> None:
        if counts not in known:
            known[counts] = fitness(plan(counts))
            _write(journal, counts, known[counts])
        found[counts] = known[counts]
        tell(len(found), max(found.values()))

    for counts in _starts(layers, even, stats.top_k, least):
        attempt(counts)
    rooms, repeats = [len(values) for values in scores.values()], 0
    while len(found) < evaluations and repeats < MOST_REPEATS:
        if seconds is not None and time.monotonic() - started > seconds:
            break
        parents = sorted(found, key=lambda counts: -found[counts])[:ELITES]
        child = _changed(parents[int(rng.integers(len(parents)))], rooms, least, rng)
        if child is None:
            break
        repeats += 1
        if child not in found:
            attempt(child)
            repeats = 0
    best = max(found, key=lambda counts: found[counts])
    return plan(best)


def search_by_overlap(
    trial: Trial,
    stats: Stats,
    ratio: float,
    criterion: str,
    output: Path,
    *,
    evaluations: int = EVALUATIONS,
    seconds: float | None = None,
    seed: int = 0,
    against: Stats | None = None,
    quiet: bool = False,
) -> tuple[Plan, float]:
    """The plan found by ``Trial.overlap``, not written yet, and its overlap; the journal lies beside ``output``.

    Raises:
        RequestError: see ``search_plan``.
    """
    journal, overlap = output.parent / f".{output.name}.search", 0.0
    with progress(evaluations, "search", quiet) as bar:

        def tell(done: int, best: float) -> None:
            nonlocal overlap
            overlap = best
            bar.update(done - bar.n)
            bar.set_postfix(overlap=f"{best:.4f}")

        found = search_plan(
            stats, ratio, criterion, trial.overlap, evaluations=evaluations, seconds=seconds, seed=seed, journal=journal,
            trial=trial.about, against=against, tell=tell,
        )  # fmt: skip
    journal.unlink()
    return found, overlap


def _starts(layers: Sequence[LayerScores], even: list[int], floor: int, least: int) -> list[Counts]:
    """The budgets of the allocations that need no trial, each once."""
    starts: dict[Counts, None] = {tuple(even): None}
    for allocate in ALLOCATIONS.values():
        try:
            counts = tuple(allocate(layers, even, floor))
        except RequestError:  # by divergence, where that is not known
            continue
        if min(counts) >= least:
            starts[counts] = None
    return list(starts)


def _changed(counts: Counts, rooms: Sequence[int], least: int, rng: np.random.Generator) -> Counts | None:
    """A budget in which some experts move from one layer to another; None where no layer can give or take."""
    givers = [i for i, count in enumerate(counts) if count > least]
    pairs = [(i, j) for i in givers for j, count in enumerate(counts) if j != i and count < rooms[j]]
    if not pairs:
        return None
    changed = list(counts)
    for _ in range(int(rng.integers(1, 3))):
        give, take = pairs[int(rng.integers(len(pairs)))]
        most = min(changed[give] - least, rooms[take] - changed[take], max(1, rooms[take] // 16))
        if most > 0:
            moved = int(rng.integers(1, most + 1))
            changed[give] -= moved
            changed[take] += moved
    return tuple(changed)


def _read(journal: Path | None, key: dict[str, Any]) -> dict[Counts, float]:
    """Trials that a stopped search of the same request left; the file begins anew where it is of another."""
    if journal is None:
        return {}
    head = json.dumps(key, sort_keys=True)
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    known: dict[Counts, float] = {}
    for line in lines[1:] if lines and lines[0] == head else []:
        try:
            row = json.loads(line)
            known[tuple(row["counts"])] = float(row["fitness"])
        except (ValueError, KeyError, TypeError):  # the last line of a killed run
            break
    with new_file(journal) as temporary:
        temporary.write_text("".join([head + "\n", *(_line(*row) for row in known.items())]), encoding="utf-8")
    return known


def _line(counts: Counts, fitness: float) -> str:
    return json.dumps({"counts": counts, "fitness": fitness}) + "\n"


def _write(journal: Path | None, counts: Counts, fitness: float) -> None:
    if journal is not None:
        with open(journal, "a", encoding="utf-8") as file:
            file.write(_line(counts, fitness))
