"""The ONNX engine: decoding in place, stopping, and sentences for what is broken."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.engines import open_engine
from runtime.engines.onnx import OnnxEngine
from runtime.errors import RequestError, WorkError
from runtime.pairs import Pair

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 8000, 40)]


@pytest.fixture
def engine(tiny_onnx: Path) -> OnnxEngine:
    return OnnxEngine(tiny_onnx, threads=1)


@pytest.fixture
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx", "model_q4.onnx"])
def test_decoding_step_by_step_equals_one_prefill(tiny_onnx, name):
    engine = OnnxEngine(tiny_onnx / "onnx" / name, threads=1)
    written = engine.generate(IDS, 24).token_ids
    whole = engine.logits([*IDS, *written])
    assert whole.dtype == np.float32 and whole.shape == (len(IDS) + 24, 8192)
    assert tuple(whole[len(IDS) - 1 : -1].argmax(-1)) == written


def test_a_generation_leaves_no_trace_in_the_next(engine):
    first = engine.generate(IDS, 16).token_ids
    engine.generate(IDS[::-1] * 2, 16)
    assert engine.generate(IDS, 16).token_ids == first


def test_threads_default_to_usable_cores_and_do_not_change_the_result(tiny_onnx, engine):
    default = open_engine(tiny_onnx)
    assert default.threads >= 1 and default.name.startswith("onnxruntime ")
    assert default.generate(IDS, 8).token_ids == engine.generate(IDS, 8).token_ids


def test_end_of_sequence_ends_and_is_left_out(folder):
    free = OnnxEngine(folder, threads=1).generate(IDS, 12)
    end = free.token_ids[-1]
    config = json.loads((folder / "generation_config.json").read_text())
    for value in (end, [0, end]):
        (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": value}))
        stopped = OnnxEngine(folder, threads=1).generate(IDS, 12)
        assert stopped.finished and stopped.token_ids == free.token_ids[: free.token_ids.index(end)]
    beyond = OnnxEngine(folder, threads=1).generate(IDS, 12, stop=False)
    assert not beyond.finished and beyond.token_ids == free.token_ids
    assert not free.finished and free.prompt_tokens == len(IDS) and len(free.token_ids) == 12


def test_the_context_bounds_a_generation(tiny_onnx):
    engine = OnnxEngine(tiny_onnx, threads=1, context=48)
    assert len(engine.generate(IDS, 100).token_ids) == 8
    with pytest.raises(RequestError, match="the context 48"):
        engine.generate(IDS * 2, 10)
    with pytest.raises(RequestError, match="context of 48"):
        engine.logits(IDS * 2)
    assert OnnxEngine(tiny_onnx, threads=1, context=10**6).context == 1024  # no more than the model has positions for


def test_text_goes_round(engine):
    text = "Die Datei „naïve.txt“ fehlt."
    prompt = engine.template.prompt(Pair("en", "de"), "Save the file.")
    assert engine.decode(engine.encode(text)) == text
    assert engine.decode(engine.encode(prompt)) == "Translate into German:\nSave the file."  # special tokens recognised


def test_int4_is_preferred(folder, tiny_onnx):
    (folder / "onnx" / "model_q4.onnx").unlink()
    int8 = OnnxEngine(tiny_onnx / "onnx" / "model_int8.onnx", threads=1)
    assert np.array_equal(OnnxEngine(folder, threads=1).logits(IDS), int8.logits(IDS))
    int4 = OnnxEngine(tiny_onnx / "onnx" / "model_q4.onnx", threads=1)
    assert np.array_equal(OnnxEngine(tiny_onnx, threads=1).logits(IDS), int4.logits(IDS))


@pytest.mark.parametrize("name", ["model_q4.onnx", "model_q4.onnx_data", "model.onnx", "model.onnx_data"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(folder, name, share):
    path = folder / "onnx" / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WorkError, match="damaged or incomplete"):
        OnnxEngine(path.with_suffix(".onnx"), threads=1)


def test_missing_files_are_one_sentence(folder):
    (folder / "onnx" / "model_q4.onnx_data").unlink()
    with pytest.raises(WorkError, match="damaged or incomplete"):
        OnnxEngine(folder, threads=1)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WorkError, match=r"tokenizer\.json is damaged"):
        OnnxEngine(folder, threads=1)
    for graph in (folder / "onnx").glob("*.onnx"):
        graph.unlink()
    with pytest.raises(RequestError, match="holds no model_q4"):
        OnnxEngine(folder, threads=1)
