import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune.budget import kept_count
from prune.criteria import CRITERIA
from prune.plan import Plan, make_plan
from prune.stats import LayerStats, Stats
from runtime.errors import RequestError, WorkError


def some_stats(experts: int = 8, layers: int = 2, top_k: int = 2) -> Stats:
    rng = np.random.default_rng(0)
    made = {i: LayerStats(*(rng.integers(1, 100, (2, experts)).astype(float) for _ in range(4))) for i in range(layers)}
    return Stats(made, "a model", "f" * 32, "en-de", top_k, {"corpus": "x", "prompt_tokens": 1, "response_tokens": 1})


@given(st.integers(1, 512), st.floats(0, 0.999))
def test_a_ratio_keeps_the_nearest_whole_count_or_is_refused(experts: int, ratio: float) -> None:
    try:
        kept = kept_count(experts, ratio)
    except RequestError as error:
        assert experts * (1 - ratio) <= 0.5 + 1e-9 and error.next_command
    else:
        assert 1 <= kept <= experts and abs(kept - experts * (1 - ratio)) <= 0.5 + 1e-9


@pytest.mark.parametrize("ratio", [1.0, 1.2, -0.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(RequestError, match="share of experts"):
        kept_count(32, ratio)


def test_three_quarters_of_32_leave_8_and_99_percent_leave_none() -> None:
    assert kept_count(32, 0.75) == 8
    with pytest.raises(RequestError, match="none of 32 experts"):
        kept_count(32, 0.99)


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_makes_a_valid_plan(name: str) -> None:
    plan = make_plan(some_stats(), 0.5, name)
    for layer in plan.layers:
        assert layer.keep == sorted(set(layer.keep)) and len(layer.keep) == 4
        assert set(layer.keep) <= set(range(layer.experts))


def test_reap_is_a_mean_and_frequency_a_count() -> None:
    stats = some_stats(experts=2, layers=1)
    layer = stats.layers[0]
    layer.count[:] = [[1, 50], [1, 50]]
    layer.gate_norm[:] = [[5, 60], [5, 60]]  # means 5.0 and 1.2
    assert make_plan(stats, 0.5, "reap").layers[0].keep == [0]
    assert make_plan(stats, 0.5, "frequency").layers[0].keep == [1]
    assert make_plan(stats, 0.5, "saliency").layers[0].keep == [1]


def test_an_expert_that_was_never_chosen_goes_first() -> None:
    stats = some_stats(experts=4, layers=1)
    for name in ("count", "gate", "norm", "gate_norm"):
        getattr(stats.layers[0], name)[:, 2] = 0
    for name in ("reap", "frequency", "saliency"):
        assert 2 not in make_plan(stats, 0.25, name).layers[0].keep


def test_top_k_falls_to_what_stays() -> None:
    assert make_plan(some_stats(top_k=2), 0.5).top_k == 2
    assert make_plan(some_stats(top_k=2), 0.9).top_k == 1


def test_random_follows_its_seed() -> None:
    plans = [make_plan(some_stats(32), 0.5, "random", seed).hash for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_plans_and_statistics_survive_the_disk(tmp_path) -> None:
    stats = some_stats()
    stats.save(tmp_path / "stats.safetensors")
    again = Stats.load(tmp_path / "stats.safetensors")
    assert np.array_equal(again.layers[1].gate_norm, stats.layers[1].gate_norm)
    assert (again.fingerprint, again.pair, again.top_k) == (stats.fingerprint, stats.pair, stats.top_k)
    plan = make_plan(again, 0.75)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "slimmoe-plan/1"


def test_damaged_files_are_one_sentence(tmp_path) -> None:
    some_stats().save(tmp_path / "stats")
    (tmp_path / "short").write_bytes((tmp_path / "stats").read_bytes()[:-100])
    with pytest.raises(WorkError, match="damaged"):
        Stats.load(tmp_path / "short")
    with pytest.raises(RequestError, match="no statistics file"):
        Stats.load(tmp_path / "nothing")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(RequestError, match="not a readable plan"):
        Plan.load(tmp_path / "plan.json")
