"""Verification passes what is right, and fails what computes something else."""

from pathlib import Path

import pytest

from export.gguf import export_gguf
from export.onnx import export_onnx
from export.verify import EXACT_BAR, verify
from prune.cut import prune
from runtime.errors import RequestError
from runtime.pairs import Pair
from tests.prune.test_cut import plan_for
from tests.tiny import write_tiny_checkpoint

DEV, PAIR = Path(__file__).parents[2] / "data" / "dev", Pair("en", "de")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("other") / "model", seed=1)


def test_a_cut_equals_its_masked_source_and_no_other(tiny_checkpoint, other, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2], [5, 6, 7]), tmp_path / "cut")
    assert verify(tmp_path / "cut", tiny_checkpoint, DEV, PAIR).passed
    with pytest.raises(RequestError, match="another model"):
        verify(tmp_path / "cut", other, DEV, PAIR)


def test_a_cut_with_other_experts_than_its_plan_s_fails(tiny_checkpoint, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2], [5, 6, 7]), tmp_path / "cut")
    plan_for(tiny_checkpoint, [0, 1, 3], [5, 6, 7]).save(tmp_path / "cut" / "slimmoe.json")
    assert not verify(tmp_path / "cut", tiny_checkpoint, DEV, PAIR).passed


def test_float32_artefacts_are_held_to_the_exact_bar(tiny_checkpoint, other, tmp_path) -> None:
    export_gguf(other, tmp_path / "other.gguf", "F32")
    right, wrong = (verify(tmp_path / "other.gguf", source, DEV, PAIR) for source in (other, tiny_checkpoint))
    assert right.passed and right.largest_difference <= EXACT_BAR and right.top1_agreement == 1
    assert not wrong.passed and wrong.divergence > right.divergence


def test_quantised_artefacts_are_held_to_a_share_of_the_information(tiny_checkpoint, other, tmp_path) -> None:
    export_onnx(other, tmp_path / "onnx", "int8")
    right, wrong = (verify(tmp_path / "onnx", source, DEV, PAIR) for source in (other, tiny_checkpoint))
    assert right.passed and not wrong.passed
    assert right.divergence < 0.25 * right.information < wrong.divergence
