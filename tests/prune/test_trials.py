"""Searching a budget and auditing criteria, by trials on the masked model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prune.calibrate.from_checkpoint import calibrate
from prune.plan.plan import Plan, make_plan
from prune.trials.audit import audit, rank_correlation
from prune.trials.search import search_by_overlap, search_plan
from prune.trials.trial import Trial
from runtime.text.pairs import Pair
from tests.prune.test_plan import some_stats

PAIR = Pair("en", "de")


def nearness_to(target: list[int]):
    """A fitness with one best budget."""
    return lambda plan: -sum(abs(len(layer.keep) - wanted) for layer, wanted in zip(plan.layers, target))


def counts(plan: Plan) -> list[int]:
    return [len(layer.keep) for layer in plan.layers]


def test_a_search_finds_the_best_budget_under_the_total_and_keeps_the_ranking() -> None:
    stats = some_stats(experts=16, layers=4)
    found = search_plan(stats, 0.5, "gate", nearness_to([2, 14, 4, 12]), evaluations=400)
    assert counts(found) == [2, 14, 4, 12] and found.allocation == "search"
    full = make_plan(stats, 0.0, "gate")
    scores = {i: layer.gate.sum(0) for i, layer in stats.layers.items()}
    for layer in found.layers:
        dropped = set(full.layers[layer.layer].keep) - set(layer.keep)
        assert min(scores[layer.layer][layer.keep]) >= max(scores[layer.layer][j] for j in dropped)


def test_a_small_space_is_searched_through_and_ends() -> None:
    found = search_plan(some_stats(experts=4, layers=2), 0.5, "gate", nearness_to([2, 2]), evaluations=10_000)
    assert counts(found) == [2, 2]


def test_a_stopped_search_goes_on_without_trying_anything_twice(tmp_path: Path) -> None:
    stats, journal, tried = some_stats(experts=16, layers=4), tmp_path / "journal", []
    best = nearness_to([2, 14, 4, 12])

    def stops(plan: Plan) -> float:
        if len(tried) == 30:
            raise KeyboardInterrupt
        tried.append(tuple(counts(plan)))
        return best(plan)

    def goes_on(plan: Plan) -> float:
        tried.append(tuple(counts(plan)))
        return best(plan)

    with pytest.raises(KeyboardInterrupt):
        search_plan(stats, 0.5, "gate", stops, evaluations=100, journal=journal)
    with open(journal, "a") as file:
        file.write('{"counts": [1')  # killed while it wrote
    again = search_plan(stats, 0.5, "gate", goes_on, evaluations=100, journal=journal)
    assert len(tried) == len(set(tried)) == 100
    assert counts(again) == counts(search_plan(stats, 0.5, "gate", best, evaluations=100))
    assert len(journal.read_text().splitlines()) == 101
    search_plan(stats, 0.75, "gate", best, evaluations=5, journal=journal)  # another request begins anew
    assert len(journal.read_text().splitlines()) == 6


@pytest.fixture(scope="module")
def trial(tiny_checkpoint: Path) -> Trial:
    return Trial(tiny_checkpoint, PAIR, Path("data/dev"), 800)


@pytest.fixture(scope="module")
def stats(tiny_checkpoint: Path):
    return calibrate(tiny_checkpoint, PAIR, Path("data/dev"), 800, quiet=True)[0]


def test_nothing_cut_is_the_whole_model_and_more_cut_is_further_from_it(trial: Trial, stats) -> None:
    overlaps = [trial.overlap(make_plan(stats, ratio)) for ratio in (0.0, 0.5, 0.75)]
    assert overlaps[0] == pytest.approx(1, abs=2e-3)  # the distributions are kept in 16 bits
    assert 1 > overlaps[1] > overlaps[2] > 0
    assert trial.loss(make_plan(stats, 0.0)) != trial.loss(make_plan(stats, 0.75))


def test_a_search_on_a_model_is_no_worse_than_what_it_starts_from(trial: Trial, stats, tmp_path: Path) -> None:
    found, overlap = search_by_overlap(trial, stats, 0.5, "gate", tmp_path / "plan.json", evaluations=8, quiet=True)
    assert overlap >= trial.overlap(make_plan(stats, 0.5)) and sum(counts(found)) == 8
    assert not list(tmp_path.iterdir())


def test_an_audit_tells_a_criterion_that_knows_from_one_that_does_not(trial: Trial, stats) -> None:
    """A loss made of the gate mass that is lost: gate knows the order by heart, and chance does not."""
    mass = {i: layer.gate.sum(0) / layer.gate.sum() for i, layer in stats.layers.items()}

    def loss(plan: Plan) -> float:
        return -sum(float(mass[layer.layer][layer.keep].sum()) for layer in plan.layers)

    found = audit(stats, loss, experts=8)
    by_gate = found.correlations()["gate"]
    assert all(value == pytest.approx(1) for value in by_gate.values())
    assert abs(np.mean(list(found.correlations()["random"].values()))) < 0.9
    assert len(found.removals) == 16 and json.dumps(found.to_dict())
    real = audit(stats, trial.loss, experts=2)
    assert len(real.removals) == 4 and all(np.isfinite(each.added_loss) for each in real.removals)


def test_ranks_of_equal_values_are_their_mean() -> None:
    assert rank_correlation(np.array([1, 2, 2, 3.0]), np.array([10, 20, 20, 30.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3.0]), np.array([3, 2, 1.0])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_statistics_of_several_pairs_still_make_plans() -> None:
    both = some_stats() + replace(some_stats(seed=1), pair="de-en")
    assert sum(counts(make_plan(both, 0.5, allocation="jsd"))) == 8
