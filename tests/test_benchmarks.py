"""What the benchmarks report is what they say it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import on_gpu, work_folder
from benchmarks.types import losses
from models.recipe.prepare import corpus_segments
from prune.conversations import Conversation
from runtime.errors import RequestError
from runtime.text.pairs import Pair


def test_losses_of_all_positions_and_of_those_that_predict_the_response() -> None:
    """By logits that are not normalised: position 1, the prompt's last, predicts the response's first token."""
    reference = np.log([[0.5, 0.5], [0.8, 0.2], [0.9, 0.1]]) + 3
    other = np.log([[0.25, 0.75], [0.2, 0.8], [0.9, 0.1]]) - 2
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    second = 0.8 * np.log(0.8 / 0.2) + 0.2 * np.log(0.2 / 0.8)
    found = losses([Conversation([0, 1, 0], 2)], [reference], [other])
    assert found == {
        "kl": pytest.approx((first + second) / 3), "top1": pytest.approx(1 / 3, abs=1e-5),
        "response_kl": pytest.approx(second / 2), "response_top1": 0.5, "tokens": 3,
    }  # fmt: skip


def test_the_folder_to_work_in_is_made_and_left_empty(tmp_path: Path) -> None:
    with work_folder(tmp_path / "not" / "there") as work:
        assert work.parent == tmp_path / "not" / "there"
        (work / "file").touch()
    assert not any((tmp_path / "not" / "there").iterdir())


def test_a_benchmark_without_the_recipe_s_corpus_names_the_step_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        corpus_segments(tmp_path / "corpus", Pair("en", "de"), "train")
    assert f"models.recipe.corpus {tmp_path} " in (refused.value.next_command or "")


def test_the_check_of_a_card_keeps_what_it_has_and_says_what_is_left_out(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Tried without a card: the processor against itself."""
    card = on_gpu.Card(torch.device("cpu"), tiny_checkpoint, Pair("en", "de"), tmp_path, seconds=1, gigabytes=0)
    on_gpu.main(card, ["statistics", "onnx", "large_recovery"], tmp_path / "rows.jsonl")
    sums, graphs, large = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert sums["largest_difference"] == 0 and sums["tokens"] > 1000
    assert all(graphs[quant]["deviation"] <= graphs[quant]["tolerance"] for quant in ("int4", "fp16"))
    assert "--gigabytes 0" in large["left_out"]
