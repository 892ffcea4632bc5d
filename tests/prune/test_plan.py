import itertools
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune.calibrate.stats import SUMS, LayerStats, Routing, Stats
from prune.plan.budget import ALLOCATIONS, LayerScores, apportion, divergence, kept_count
from prune.plan.criteria import CRITERIA, SUMS_READ
from prune.plan.explanation import explain
from prune.plan.plan import Plan, make_plan, score_layers
from runtime.errors import RequestError


def some_stats(experts: int = 8, layers: int = 2, top_k: int = 2, seed: int = 0) -> Stats:
    rng = np.random.default_rng(seed)

    def layer() -> LayerStats:
        sums = (rng.integers(1, 100, (2, experts)).astype(float) for _ in SUMS)
        together = rng.integers(1, 20, (2, experts, experts)).astype(float)
        return LayerStats(*sums, gram=rng.random((2, experts, experts)) + 9 * np.eye(experts), together=together)

    made = {i: layer() for i in range(layers)}
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


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_makes_a_valid_plan(name: str, allocation: str) -> None:
    plan = make_plan(some_stats(), 0.5, name, allocation=allocation, against=some_stats(seed=1))
    assert sum(len(layer.keep) for layer in plan.layers) == 8 and plan.allocation == allocation
    for layer in plan.layers:
        assert layer.keep == sorted(set(layer.keep)) and len(layer.keep) >= plan.top_k == 2
        assert set(layer.keep) <= set(range(layer.experts))


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_reads_no_other_sums_than_it_says(name: str) -> None:
    """All others unknown: it works, and scores by them; one of its own unknown: it is refused."""
    stats = some_stats()

    def only(sums: set[str]) -> Stats:
        return replace(
            stats, layers={i: LayerStats(**{n: getattr(s, n) for n in sums}) for i, s in stats.layers.items()}
        )

    read = SUMS_READ[name]
    for scores in score_layers(only(read), name, against=only(read)).values():
        assert np.isfinite(scores).all()
    for missing in read - {"count"}:
        with pytest.raises(RequestError, match=f"{missing}, .*frequency, .*random"):
            make_plan(only(read - {missing}), 0.5, name)


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
    for field in fields(LayerStats):
        getattr(stats.layers[0], field.name)[:, 2] = 0
    stats.layers[0].gram[:, :, 2] = 0
    for name in CRITERIA.keys() - {"random", "inverse-gate", "contrast"}:
        assert 2 not in make_plan(stats, 0.25, name).layers[0].keep, name


def test_contrast_prefers_what_the_pair_alone_uses() -> None:
    own, other = some_stats(experts=3, layers=1), some_stats(experts=3, layers=1)
    own.layers[0].gate[:] = [10, 9, 1]
    other.layers[0].gate[:] = [10, 0, 9]
    other.layers[0].count[:] = own.layers[0].count
    assert make_plan(own, 0.6, "gate").layers[0].keep == [0]
    assert make_plan(own, 0.6, "contrast", against=other).layers[0].keep == [1]
    with pytest.raises(RequestError, match="compares with other text"):
        make_plan(own, 0.6, "contrast")
    with pytest.raises(RequestError, match="another model"):
        make_plan(own, 0.6, "contrast", against=replace(other, fingerprint="e" * 32))


def test_reconstruction_sees_that_experts_cancel() -> None:
    """Experts 0 and 1 are loud but each other's opposite: dropping both costs nothing, dropping either costs much."""
    outputs = np.array([[3.0, 0], [-3.0, 0], [0, 1.0], [0, 1.0]])
    stats = some_stats(experts=4, layers=1)
    stats.layers[0].gram[:] = outputs @ outputs.T / 2
    assert make_plan(stats, 0.5, "activation-norm").layers[0].experts == 4
    best = min(itertools.combinations(range(4), 2), key=lambda drop: np.square(outputs[list(drop)].sum(0)).sum())
    assert best == (0, 1)
    assert make_plan(stats, 0.25, "reconstruction").layers[0].keep in ([0, 1, 2], [0, 1, 3])


SHARES = st.lists(st.floats(0, 1), min_size=4, max_size=9)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@given(layers=st.lists(st.tuples(SHARES, st.floats(0, 1)), min_size=1, max_size=6), ratio=st.floats(0, 0.7))
def test_every_allocation_keeps_uniform_s_total_and_the_floor(
    allocation: str, layers: list[tuple[list[float], float]], ratio: float
) -> None:
    scores = [LayerScores(shares, apart) for shares, apart in layers]
    even = [kept_count(len(layer.shares), ratio) for layer in scores]
    counts = ALLOCATIONS[allocation](scores, even, 2)
    assert sum(counts) == sum(even)
    for count, kept, layer in zip(counts, even, scores):
        assert min(2, kept) <= count <= len(layer.shares)


@pytest.mark.parametrize("allocation", ["layerwise", "coverage"])
def test_more_goes_to_the_layer_that_spreads_its_work(allocation: str) -> None:
    layers = [LayerScores([0.97, 0.01, 0.01, 0.01]), LayerScores([0.25, 0.25, 0.25, 0.25])]
    assert ALLOCATIONS[allocation](layers, [2, 2], 1) == [1, 3]


def test_more_goes_where_the_languages_are_routed_apart_and_inverted_where_they_are_not() -> None:
    layers = [LayerScores([0.1] * 10, apart) for apart in (0.1, 0.3, 0.6)]
    assert ALLOCATIONS["jsd"](layers, [5, 5, 5], 2) == [3, 5, 7]  # 2 each; 9 more by 0.1 : 0.3 : 0.6 = 0.9, 2.7, 5.4
    assert ALLOCATIONS["inverse-jsd"](layers, [5, 5, 5], 2) == [7, 5, 3]
    with pytest.raises(RequestError, match="gate weights"):
        ALLOCATIONS["jsd"]([LayerScores([0.5, 0.5])], [1], 1)


def test_hamilton_s_method_gives_what_has_no_room_to_the_others() -> None:
    assert apportion(10, [1, 1, 1], [9, 9, 9]) == [4, 3, 3]
    assert apportion(10, [8, 1, 1], [4, 9, 9]) == [4, 3, 3]
    assert apportion(6, [0, 0], [4, 4]) == [3, 3]
    assert apportion(8, [1, 0], [4, 4]) == [4, 4]


def test_divergence_is_zero_of_the_same_and_one_of_the_disjoint() -> None:
    assert divergence([1, 2, 3], [2, 4, 6]) == pytest.approx(0)
    assert divergence([1, 0], [0, 5]) == pytest.approx(1)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.1, 0.8])
    entropy = lambda x: -(x * np.log2(x)).sum()  # noqa: E731
    assert divergence(p.tolist(), q.tolist()) == pytest.approx(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
    assert np.isnan(divergence([0, 0], [1, 1]))


def test_shape_prefers_what_others_cannot_do_without() -> None:
    """All have the same gate mass; 0 and 1 come together only, 2 and 3 come with anything."""
    stats = some_stats(experts=4, layers=1)
    stats.layers[0].gate[:] = 1
    together = np.array([[10, 10, 0, 0], [10, 10, 0, 0], [0, 0, 10, 3], [0, 0, 3, 10.0]])
    stats.layers[0].together[:] = together
    assert make_plan(stats, 0.5, "shape").layers[0].keep == [0, 1]
    stats.layers[0].together[:] = 10 * np.eye(4)  # top-k of 1
    stats.layers[0].gate[:] = [1, 2, 3, 4]
    assert make_plan(stats, 0.5, "shape").layers[0].keep == [2, 3]


def test_groups_keep_their_size_where_they_can() -> None:
    stats = some_stats(experts=8, layers=1)
    stats.routing = Routing(groups=2, topk_groups=1, group_floor=2, layer_floor=2)
    stats.layers[0].gate[:] = [8, 7, 6, 5, 1, 2, 3, 4]
    assert make_plan(stats, 0.5, "gate").layers[0].keep == [0, 1, 6, 7]
    assert make_plan(stats, 0.75, "gate").layers[0].keep == [0, 1]  # one of each would be under the group's floor
    assert make_plan(stats, 0.625, "gate").layers[0].keep == [0, 1, 2]  # three do not divide
    assert make_plan(replace(stats, top_k=3), 0.5, "gate").layers[0].keep == [0, 1, 2, 3]  # one group has not three
    with pytest.raises(RequestError, match="fewer than 2 experts in layer 0"):
        make_plan(stats, 0.9, "gate")


def test_an_explanation_counts_what_was_kept_and_how_concentrated_it_was() -> None:
    stats = some_stats(experts=4, layers=1)
    stats.layers[0].gate[:] = [4, 4, 0, 0]
    (layer,) = explain(make_plan(stats, 0.75, "gate"), stats)
    assert (layer.kept, layer.experts, layer.never_chosen) == (1, 4, 2)
    assert layer.effective == pytest.approx(2) and layer.mass_kept == layer.busiest_dropped == pytest.approx(0.5)


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


def test_a_plan_replaces_an_older_one_and_nothing_else(tmp_path) -> None:
    plan, other = make_plan(some_stats(), 0.5), tmp_path / "notes.json"
    for text in ("not JSON", "[1, 2]", '{"format": "mine/1"}'):
        other.write_text(text)
        with pytest.raises(RequestError, match="kept as it is"):
            plan.save(other)
        assert other.read_text() == text
    plan.save(tmp_path / "plan.json")
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
