import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from prune.calibrate.stats import PAIR_SUMS, SUMS, LayerStats, Stats
from prune.plan.plan import make_plan
from runtime.errors import RequestError, WorkError


def some_stats(seed: int = 0, experts: int = 4, **changes) -> Stats:
    rng = np.random.default_rng(seed)

    def layer() -> LayerStats:
        pairs = {name: rng.random((2, experts, experts)) for name in PAIR_SUMS}
        return LayerStats(*(rng.random((2, experts)) for _ in SUMS), **pairs)

    about = {"corpus": f"corpus {seed}", "sha256": "a", "segments": 3, "prompt_tokens": 10, "response_tokens": 20}
    fields = {"model": "m", "fingerprint": "f", "pair": "en-de", "top_k": 2, "calibration": about | {"seconds": 1.5}}
    return Stats({0: layer(), 3: layer()}, **(fields | changes))


def test_every_sum_survives_the_disk(tmp_path) -> None:
    stats = some_stats()
    stats.save(tmp_path / "stats")
    again = Stats.load(tmp_path / "stats")
    for i, layer in stats.layers.items():
        for field in dataclasses.fields(layer):
            assert np.array_equal(getattr(again.layers[i], field.name), getattr(layer, field.name))
        assert np.array_equal(again.layers[i].square[1], layer.gram[1].diagonal())
    assert again.calibration == stats.calibration


def test_statistics_of_two_texts_add_up() -> None:
    a, b = some_stats(0), some_stats(1)
    both = a + b
    for field in dataclasses.fields(LayerStats):
        expected = getattr(a.layers[3], field.name) + getattr(b.layers[3], field.name)
        assert np.array_equal(getattr(both.layers[3], field.name), expected)
    used = both.calibration
    assert (used["segments"], used["prompt_tokens"], used["response_tokens"], used["seconds"]) == (6, 20, 40, 3.0)
    assert used["corpus"] == "corpus 0 + corpus 1" and used["sha256"] == "a"


@pytest.mark.parametrize("changes", [{"fingerprint": "g"}, {"top_k": 3}, {"experts": 8}], ids=str)
def test_what_is_not_comparable_does_not_add_up(changes) -> None:
    with pytest.raises(RequestError, match="do not add up"):
        some_stats() + some_stats(**changes)


def test_sums_left_out_are_not_known_and_stay_so(tmp_path) -> None:
    layer = LayerStats(count=np.ones((2, 4)))
    assert layer.known == ["count"] and np.isnan(layer.gram).all()
    counted = dataclasses.replace(some_stats(), layers={0: layer, 3: layer})
    assert (counted + some_stats()).known == ["count"]
    assert np.array_equal((counted + some_stats()).layers[3].count, some_stats().layers[3].count + 1)
    counted.save(tmp_path / "stats")
    again = Stats.load(tmp_path / "stats")
    assert again.known == ["count"] and again.layers[3].gram.shape == (2, 4, 4)


def test_a_file_without_a_list_of_its_sums_holds_them_all(tmp_path) -> None:
    """As files were written before there were statistics that lack some."""
    some_stats().save(tmp_path / "stats")
    with safe_open(tmp_path / "stats", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["about"])
    assert about.pop("sums") == [field.name for field in dataclasses.fields(LayerStats)]
    newer = ("easy_ep", "together")
    tensors = {name: values for name, values in tensors.items() if not name.endswith(newer)}
    save_file(tensors, tmp_path / "old", {"format": "slimmoe-stats/2", "about": json.dumps(about)})
    older = Stats.load(tmp_path / "old")
    assert older.known == [name for name in some_stats().known if name not in newer]
    assert make_plan(older, 0.5, "gate").layers == make_plan(some_stats(), 0.5, "gate").layers
    with pytest.raises(RequestError, match="easy_ep"):
        make_plan(older, 0.5, "easy-ep")
    del tensors["layer.3.gram"]
    save_file(tensors, tmp_path / "damaged", {"format": "slimmoe-stats/2", "about": json.dumps(about)})
    with pytest.raises(WorkError, match="damaged"):
        Stats.load(tmp_path / "damaged")


def test_an_older_or_foreign_file_is_one_sentence(tmp_path) -> None:
    save_file({"layer.0.count": np.ones((2, 4))}, tmp_path / "old", {"format": "slimmoe-stats/1", "about": "{}"})
    with pytest.raises(RequestError, match=r"holds slimmoe-stats/1.*calibrate again"):
        Stats.load(tmp_path / "old")
    save_file({"weight": np.ones(2)}, tmp_path / "foreign")
    with pytest.raises(RequestError, match="not a statistics file"):
        Stats.load(tmp_path / "foreign")
    about = json.dumps({"model": "m"})
    save_file({"layer.0.count": np.ones((2, 4))}, tmp_path / "part", {"format": "slimmoe-stats/2", "about": about})
    with pytest.raises(WorkError, match="damaged"):
        Stats.load(tmp_path / "part")


def test_statistics_of_several_pairs_name_them_all() -> None:
    assert (some_stats() + some_stats(pair="de-en") + some_stats()).pair == "en-de + de-en"


def test_statistics_replace_older_ones_and_nothing_else(tmp_path: Path) -> None:
    stats, model = some_stats(), tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(RequestError, match="kept as it is"):
        stats.save(model)
    assert model.read_bytes() == b"GGUF" + bytes(60)
    with pytest.raises(RequestError, match="not a statistics file"):
        Stats.load(model)
    with pytest.raises(RequestError, match="is a folder"):
        stats.save(tmp_path)
    stats.save(tmp_path / "s")
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(whole[:-10])  # a damaged one may be replaced too
    with pytest.raises(WorkError, match="damaged"):
        Stats.load(tmp_path / "s")
    stats.save(tmp_path / "s")
    again = Stats.load(tmp_path / "s")  # safetensors writes its header's entries in any order, so not byte by byte
    assert again.calibration == stats.calibration and np.array_equal(again.layers[3].gram, stats.layers[3].gram)
