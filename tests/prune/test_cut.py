import json
import shutil
from pathlib import Path

import pytest
import torch

from prune.checkpoint import Checkpoint
from prune.cut import prune
from prune.families import families
from prune.model import load_model, masked
from prune.plan import Layer, Plan
from runtime.errors import RequestError, WorkError
from tests.tiny import CONFIGS, write_tiny_checkpoint

CPU = torch.device("cpu")


def plan_for(folder: Path, *keep: list[int], ratio: float = 0.5) -> Plan:
    checkpoint = Checkpoint(folder)
    layers = [Layer(i, n, ids) for (i, n), ids in zip(checkpoint.moe_layers.items(), keep, strict=True)]
    top_k = min(checkpoint.top_k, *(len(ids) for ids in keep))
    return Plan("tiny", checkpoint.fingerprint, "en-de", "reap", "uniform", ratio, 0, top_k, layers)


def test_every_family_has_a_tiny_config() -> None:
    assert {path.stem for path in CONFIGS.glob("*.json")} == set(families())


@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("keep", [([1, 2, 5, 7], [0, 3, 4, 6]), ([3], [6])], ids=["half", "fewer than top-k"])
def test_the_cut_equals_the_masked_model(family: str, keep: tuple[list[int], ...], tmp_path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", family)
    plan = plan_for(source, *keep)
    prune(source, plan, tmp_path / "cut")
    ids = torch.randint(4, 8000, (3, 40))
    with torch.inference_mode():
        small = load_model(tmp_path / "cut", CPU, torch.float32)(input_ids=ids).logits
        full = load_model(source, CPU, torch.float32)
        with masked(full, Checkpoint(source), plan):
            reference = full(input_ids=ids).logits
        unmasked = full(input_ids=ids).logits
    assert (small - reference).abs().max() <= 1e-5
    assert (small - unmasked).abs().max() > 1e-2  # the masked experts did matter, and the mask is gone again


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


def test_a_plan_of_another_model_is_refused(tiny_checkpoint, tmp_path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match="another model"):
        prune(other, plan_for(tiny_checkpoint, [0], [0]), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("keep", [([], []), ([2, 1], [1, 2]), ([0, 8], [0, 1])], ids=["empty", "unsorted", "range"])
def test_a_wrong_keep_list_is_refused(keep, tiny_checkpoint, tmp_path) -> None:
    with pytest.raises(RequestError, match="keep-list"):
        prune(tiny_checkpoint, plan_for(tiny_checkpoint, *keep), tmp_path / "cut")


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
