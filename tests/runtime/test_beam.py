"""Beam search: against one that computes every sequence anew, on both engines and on layers with a state."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.gguf import export_gguf
from export.onnx import export_onnx
from runtime.engines import Engine, Request
from runtime.engines.beam import BeamSearch
from runtime.engines.llama import LlamaEngine
from runtime.engines.onnx import OnnxEngine
from runtime.engines.scheduler import Scheduler
from runtime.text.pairs import Pair
from runtime.translate.checked import translate_checked
from runtime.translate.segments import translate
from tests.tiny import write_chain_checkpoint, write_tiny_checkpoint

EN_DE = Pair("en", "de")
PROMPT = [5, 17, 230, 41, 99, 12, 300, 7]
# The likeliest first token leads to unlikely ones.
GARDEN = {
    "<|assistant|>": {" files": 1.0, " file": 0.98},
    " files": {",": 0.6, ".": 0.6, " the": 0.6, " a": 0.6},
    " file": {"!": 3},
    **{each: {"<|end|>": 3} for each in (",", ".", "!", " the", " a")},
}


def exported(kind: str, checkpoint: Path, folder: Path) -> Engine:
    if kind == "gguf":
        return LlamaEngine(export_gguf(checkpoint, folder / "model.gguf", "F32"), 1, exact=True)
    return OnnxEngine(export_onnx(checkpoint, folder / "onnx-folder", "none"), 1)


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def engine(request: Any, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with contextlib.closing(exported(request.param, tiny_checkpoint, tmp_path_factory.mktemp("beam"))) as loaded:
        yield loaded


def searched(engine: Engine, prompt: Sequence[int], width: int, steps: int) -> list[int]:
    """The likeliest of ``width`` beams after so many steps, none of which ends, from whole sequences."""
    beams = [(0.0, list[int]())]
    for _ in range(steps):
        found = []
        for score, written in beams:
            logits = engine.logits([*prompt, *written])[-1].astype(np.float64)
            scores = score + logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
            found += [(scores[token], [*written, int(token)]) for token in scores.argsort()[-width:]]
        beams = sorted(found, key=lambda each: -each[0])[:width]
    return beams[0][1]


@pytest.mark.parametrize("width", [2, 5])
def test_the_beams_are_those_of_whole_sequences(engine: Engine, width: int) -> None:
    with contextlib.closing(BeamSearch(engine)) as search:
        for shift in range(3):
            prompt = [token + shift for token in PROMPT]
            done = search.run(Request(prompt, 6, stop=False, beam=width))
            assert list(done.token_ids) == searched(engine, prompt, width, 6) and not done.finished


def test_one_beam_is_greedy(engine: Engine) -> None:
    with contextlib.closing(BeamSearch(engine)) as search:
        done = search.run(Request(PROMPT, 12, stop=False))
    assert done.token_ids == engine.generate(PROMPT, 12, stop=False).token_ids


@pytest.mark.parametrize(
    ("kind", "family"), [("gguf", "granitemoehybrid"), ("onnx", "granitemoehybrid"), ("gguf", "gpt_oss")]
)
def test_layers_with_a_state_or_a_window_are_copied_as_well(kind: str, family: str, tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "model", family)
    with contextlib.closing(exported(kind, checkpoint, tmp_path)) as engine:
        with contextlib.closing(BeamSearch(engine)) as search:
            done = search.run(Request(PROMPT, 5, stop=False, beam=3))
        assert list(done.token_ids) == searched(engine, PROMPT, 3, 5)


@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_beams_find_the_likelier_answer(kind: str, tmp_path: Path) -> None:
    checkpoint = write_chain_checkpoint(tmp_path / "model", GARDEN)
    with contextlib.closing(exported(kind, checkpoint, tmp_path)) as engine:
        (greedy,) = translate(engine, EN_DE, ["Save the file."])
        (best,) = translate(engine, EN_DE, ["Save the file."], beam=3)
        (checked,) = translate_checked(engine, EN_DE, ["Save it."], beam=3)
        assert greedy.text.startswith("files") and best.text == checked.text == "file!"
        assert best.generation is not None and best.generation.finished
        heard: list[int] = []
        with contextlib.closing(Scheduler(engine, 1)) as scheduler:
            prompt = engine.encode(engine.template.prompt(EN_DE, "Save the file."))
            asked = [Request(prompt, 9, beam=3, on_token=heard.append), Request(prompt, 9)]
            beams, alone = (each.result(60) for each in [scheduler.submit(each) for each in asked])
        assert tuple(heard) == beams.token_ids == best.generation.token_ids and alone.text == greedy.generation.text  # type: ignore[union-attr]
