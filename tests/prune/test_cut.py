import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from prune.checkpoint import Checkpoint
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from runtime.errors import RequestError, WorkError
from runtime.formats import copying
from runtime.formats.copying import WAYS, copy_range, joined
from tests.tiny import write_tiny_checkpoint


def plan_for(folder: Path, *keep: list[int], ratio: float = 0.5) -> Plan:
    checkpoint = Checkpoint(folder)
    layers = [Layer(i, n, ids) for (i, n), ids in zip(checkpoint.moe_layers.items(), keep, strict=True)]
    top_k = min(checkpoint.top_k, *(len(ids) for ids in keep))
    return Plan("tiny", checkpoint.fingerprint, "en-de", "reap", "uniform", ratio, 0, top_k, layers)


def test_the_cut_says_what_it_is(tiny_checkpoint, tmp_path) -> None:
    plan = plan_for(tiny_checkpoint, [0, 1, 2], [5, 6, 7])
    prune(tiny_checkpoint, plan, tmp_path / "cut")
    cut = Checkpoint(tmp_path / "cut")
    assert set(cut.moe_layers.values()) == {3} and cut.config["num_local_experts"] == 3
    assert Plan.load(tmp_path / "cut" / "slimmoe.json") == plan
    assert (tmp_path / "cut" / "tokenizer.json").exists()
    index = json.loads((tmp_path / "cut" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(cut.tensors)


def test_nothing_cut_is_a_copy(tiny_checkpoint, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [*range(8)], [*range(8)], ratio=0), tmp_path / "same")
    assert Checkpoint(tmp_path / "same").fingerprint == Checkpoint(tiny_checkpoint).fingerprint


def test_what_is_there_is_not_overwritten(tiny_checkpoint, tmp_path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "mine").write_text("kept")
    with pytest.raises(RequestError, match="exists already"):
        prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0], [0]), tmp_path / "cut")
    assert (tmp_path / "cut" / "mine").read_text() == "kept"


def test_a_truncated_shard_is_one_sentence_and_nothing_is_written(tiny_checkpoint, tmp_path) -> None:
    plan = plan_for(tiny_checkpoint, [0], [0])
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    shard = sorted(broken.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(WorkError, match="cut short"):
        prune(broken, plan, tmp_path / "cut")
    shard.unlink()
    with pytest.raises(WorkError, match="is missing"):
        prune(broken, plan, tmp_path / "cut")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_folder_that_is_no_moe_is_refused(tmp_path) -> None:
    with pytest.raises(RequestError, match="no model folder"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no config\.json"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RequestError, match="not supported"):
        Checkpoint(tmp_path)


def read_all(folder: Path) -> dict[str, np.ndarray]:
    """All tensors by name. numpy has no bfloat16, so the folder must not hold any."""
    return {name: array for path in folder.glob("*.safetensors") for name, array in load_file(path).items()}


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of an f16 checkpoint in one shard, with its tensors changed by ``change(dict)``."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    tensors = read_all(source)
    change(tensors)
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.fixture
def half_checkpoint(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "half", dtype=torch.float16, hidden_size=64, vocab_size=512)


def test_quantised_experts_are_cut_by_bytes_whatever_their_tensors_are_called(half_checkpoint, tmp_path) -> None:
    def quantise(tensors: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        for name in [name for name in tensors if ".experts." in name]:
            del tensors[name]
            stem = name.removesuffix(".weight")
            tensors[f"{stem}.qweight"] = rng.integers(-(2**31), 2**31 - 1, (8, 12), dtype=np.int32)
            tensors[f"{stem}.scales"] = rng.random((4, 12)).astype(np.float16)

    source = rewritten(half_checkpoint, tmp_path / "quantised", quantise)
    keep = ([1, 2, 7], [0, 3, 6])
    prune(source, plan_for(source, *keep), tmp_path / "cut")
    before, after = read_all(source), read_all(tmp_path / "cut")
    assert sum(".experts." in name for name in after) == 2 * 3 * 6
    for layer, ids in enumerate(keep):
        for new, old in enumerate(ids):
            for part in ("gate_proj.qweight", "down_proj.scales"):
                stem = f"model.layers.{layer}.mlp.experts"
                assert np.array_equal(after[f"{stem}.{new}.{part}"], before[f"{stem}.{old}.{part}"])


def test_stacked_mxfp4_experts_are_cut_along_their_outermost_axis(tmp_path) -> None:
    plain = write_tiny_checkpoint(tmp_path / "plain", "gpt_oss", dtype=torch.float16)

    def quantise(tensors: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
            del tensors[name]
            tensors[f"{name}_blocks"] = rng.integers(0, 255, (8, 6, 2, 16), dtype=np.uint8)
            tensors[f"{name}_scales"] = rng.integers(0, 255, (8, 6, 2), dtype=np.uint8)

    source = rewritten(plain, tmp_path / "mxfp4", quantise)
    prune(source, plan_for(source, [1, 2, 7], [0, 3, 6]), tmp_path / "cut")
    before, after = read_all(source), read_all(tmp_path / "cut")
    for part in ("gate_up_proj_blocks", "down_proj_scales", "down_proj_bias"):
        name = f"model.layers.1.mlp.experts.{part}"
        assert np.array_equal(after[name], before[name][[0, 3, 6]])


def test_tensors_that_no_rule_accounts_for_are_listed_all_at_once(half_checkpoint, tmp_path) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.layers.0.mlp.some_bias"] = np.zeros(8, np.float16)
        tensors["model.layers.1.mlp.experts.stacked"] = np.zeros((4, 2), np.float16)

    source = rewritten(half_checkpoint, tmp_path / "odd", add)
    with pytest.raises(WorkError, match=r"layers\.0\.mlp\.some_bias.*layers\.1\.mlp\.experts\.stacked"):
        prune(source, plan_for(source, [1], [2]), tmp_path / "cut")


def test_a_tensor_that_the_family_describes_may_have_as_many_values_as_there_are_experts(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "model", "qwen2_moe", dtype=torch.float16, num_experts=64, hidden_size=64)
    name = "model.layers.1.mlp.shared_expert_gate.weight"
    before = read_all(source)[name]
    prune(source, plan_for(source, [1, 2], [0, 3]), tmp_path / "cut")
    assert before.size == 64 and np.array_equal(read_all(tmp_path / "cut")[name], before)


def test_experts_must_all_have_the_same_tensors(half_checkpoint, tmp_path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        del tensors["model.layers.0.mlp.experts.3.up_proj.weight"]
        del tensors["model.layers.1.mlp.experts.7.down_proj.weight"]

    source = rewritten(half_checkpoint, tmp_path / "holes", spoil)
    with pytest.raises(WorkError, match=r"2 expert tensors.*expert 3: up_proj.*expert 7: down_proj"):
        prune(source, plan_for(source, [1], [2]), tmp_path / "cut")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_every_way_of_copying_copies_the_range_and_notices_the_end(way, tmp_path) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb", buffering=0) as a, (tmp_path / "b").open("wb", buffering=0) as b:
        b.write(b"before")
        copy_range(a, b, 10, 90_000, [way])
        copy_range(a, b, 5, 7, [way])
        with pytest.raises(WorkError, match="cut short"):
            copy_range(a, b, 99_999, 100_001, [way])
    assert (tmp_path / "b").read_bytes() == b"before" + data[10:90_000] + data[5:7] + data[99_999:]


def test_where_the_system_refuses_the_fast_ways_a_slow_one_copies(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    # Neither copy_file_range nor sendfile writes to a file that is open for appending.
    with (tmp_path / "a").open("rb", buffering=0) as a, (tmp_path / "b").open("ab", buffering=0) as b:
        copy_range(a, b, 2, 6)
    assert (tmp_path / "b").read_bytes() == b"2345"


def test_neighbouring_ranges_of_one_file_are_joined() -> None:
    a, b = io.BytesIO(), io.BytesIO()
    steps = [(a, 0, 4), (a, 4, 8), b"", (a, 8, 9), (b, 9, 10), b"x", (b, 10, 11), (b, 2, 3)]
    assert [*joined(steps)] == [(a, 0, 9), (b, 9, 10), b"x", (b, 10, 11), (b, 2, 3)]


def test_steps_are_written_in_order_however_far_reading_is_ahead(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(copying, "READ_AHEAD", 100)
    monkeypatch.setattr(copying, "_PIECE", 30)
    data = np.random.default_rng(0).bytes(5000)
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb", buffering=0) as a, (tmp_path / "b").open("wb", buffering=0) as b:
        copying.copy_all([(a, 1000, 1250), b"between", (a, 0, 10), b"", (a, 4990, 5000)], b)
    assert (tmp_path / "b").read_bytes() == data[1000:1250] + b"between" + data[:10] + data[4990:]


def test_a_system_that_writes_a_little_at_a_time_gets_all_of_it(half_checkpoint, tmp_path: Path, request) -> None:
    plan = plan_for(half_checkpoint, [0, 3, 5], [1, 2, 7])
    prune(half_checkpoint, plan, tmp_path / "expected")
    request.getfixturevalue("short_writes")
    prune(half_checkpoint, plan, tmp_path / "cut")
    shards = [path.name for path in (tmp_path / "expected").glob("*.safetensors")]
    assert shards
    for name in shards:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
