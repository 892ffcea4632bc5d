"""Models with fewer tokens are verified against those that have all, with the ids of one mapped to the other's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from export.gguf import export_gguf
from export.onnx import export_onnx
from export.verify import EXACT_BAR, verify
from prune.checkpoint import Checkpoint
from prune.rewrite import prune
from prune.vocabulary.choose import choose_vocabulary
from prune.vocabulary.selection import Amount, Selection
from runtime.errors import RequestError, WorkError
from runtime.text.corpus import read_segments
from tests.export.test_verify import DEV, KEEP, PAIR, tensor
from tests.prune.test_cut import plan_for
from tests.tiny import DEFAULT, write_tiny_checkpoint

RARE = "Zebras quizzically jinxed.\tZwölf Boxkämpfer jagen Viktor.\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, so that reading it loses nothing, with an output layer of its own."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    return write_tiny_checkpoint(folder, dtype=torch.float32, tokenizer=DEFAULT, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def tokens(whole: Path) -> Selection:
    """Those of all of ``text`` but its last segment."""
    return choose_vocabulary(Checkpoint(whole), Amount.parse("coverage=1"), PAIR, DEV)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.tsv"
    lines = [f"{source}\t{target}\n" for source, target in read_segments(DEV, PAIR)[:5]]
    path.write_text("".join([*lines, RARE]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def cut(whole: Path, tokens: Selection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = plan_for(whole, *KEEP)
    return prune(whole, plan, tmp_path_factory.mktemp("cut") / "both", vocabulary=tokens)


def test_checkpoints_equal_their_source_in_the_tokens_that_stay(whole, tokens, cut, text, tmp_path) -> None:
    alone = prune(whole, None, tmp_path / "tokens", vocabulary=tokens)
    experts = prune(whole, plan_for(whole, *KEEP), tmp_path / "experts")
    for artefact, source in ((cut, whole), (alone, whole), (cut, experts)):
        found = verify(artefact, source, text, PAIR)
        assert found.passed and found.numbers, found.sentence()
        assert (found.in_other_tokens, found.segments) == (1, 6)
        assert "1 of 6 segments are in other tokens and not compared" in found.sentence()
    assert verify(alone, whole, text, PAIR).plan is None
    found = verify(whole, alone, text, PAIR)
    assert not found.passed


def test_files_equal_the_whole_checkpoint_and_the_whole_file(whole, tokens, cut, text, tmp_path) -> None:
    alone = prune(whole, None, tmp_path / "tokens", vocabulary=tokens)
    file, small = (export_gguf(each, tmp_path / f"{each.name}.gguf", "F32") for each in (whole, alone))
    onnx = export_onnx(alone, tmp_path / "onnx", "none")
    plan = tmp_path / "plan.json"
    plan_for(whole, *KEEP).save(plan)
    both = prune(file, plan_for(whole, *KEEP), tmp_path / "both.gguf", vocabulary=tokens)
    for artefact, source, by in ((small, whole, None), (onnx, whole, None), (small, file, None), (both, file, plan)):
        found = verify(artefact, source, text, PAIR, by)
        assert found.passed and found.numbers, found.sentence()
        assert found.numbers.largest_difference <= EXACT_BAR * found.numbers.spread
        assert (found.in_other_tokens, found.segments) == (1, 6)
    assert verify(export_gguf(cut, tmp_path / "cut.gguf", "F32"), cut, text, PAIR).in_other_tokens == 0


def test_rows_of_other_tokens_are_caught(whole, tokens, cut, text, tmp_path) -> None:
    alone = prune(whole, None, tmp_path / "tokens", vocabulary=tokens)
    path = Checkpoint(alone).tensors["lm_head.weight"].path
    stored = load_file(path)
    save_file(stored | {"lm_head.weight": np.roll(stored["lm_head.weight"], 1, 0)}, path, {"format": "pt"})
    assert "the bar is" in verify(alone, whole, text, PAIR).reason
    file, plan = export_gguf(whole, tmp_path / "whole.gguf", "Q8_0"), plan_for(whole, *KEEP)
    both = prune(file, plan, tmp_path / "both.gguf", vocabulary=tokens)
    plan.save(tmp_path / "plan.json")
    rows = tensor(both, "output.weight")
    rows[7, 0] ^= 1
    rows.flush()
    assert "the bytes of its tensor output.weight" in verify(both, file, text, PAIR, tmp_path / "plan.json").reason


def test_what_cannot_be_compared_is_said(whole, tokens, cut, text, tmp_path) -> None:
    rare = tmp_path / "rare.tsv"
    rare.write_text(RARE, encoding="utf-8")
    assert "no conversation of this text is in tokens that stay" in verify(cut, whole, rare, PAIR).reason
    fewer = prune(whole, None, tmp_path / "fewer", vocabulary=replace(tokens, keep=tokens.keep[:-1]))
    with pytest.raises(RequestError, match=r"has 1 tokens that .* lacks"):
        verify(export_gguf(cut, tmp_path / "cut.gguf", "F32"), fewer, text, PAIR)
    record = json.loads((cut / "slimmoe.json").read_text())
    for keep in ("5-3", "0-9", 7):
        damaged = record | {"vocabulary": record["vocabulary"] | {"keep": keep}}
        (fewer / "slimmoe.json").write_text(json.dumps(damaged))
        with pytest.raises(RequestError, match="is no plan that can be followed: its vocabulary"):
            verify(fewer, whole, text, PAIR)
        with pytest.raises(WorkError, match="its record of the vocabulary"):
            verify(tmp_path / "cut.gguf", fewer, text, PAIR)
