"""Layer by layer, interrupted or in several processes: the statistics are those of one pass in memory."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import prune.calibrate.from_checkpoint
import prune.calibrate.stream
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.observe import Observer
from prune.calibrate.stats import LayerStats, Stats
from prune.checkpoint import Checkpoint
from prune.families import families, load_family
from runtime.errors import RequestError, WorkError
from runtime.text.pairs import Pair
from tests.processes import run_slimmoe
from tests.tiny import VOCABULARY, write_tiny_checkpoint

EN_DE = Pair("en", "de")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch) -> Path:
    """Three batches of two segments."""
    monkeypatch.setattr(prune.calibrate.from_checkpoint, "BATCH_TOKENS", 60)
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"The file {i} is open.\tDie Datei {i} ist geöffnet.\n" for i in range(6)))
    return path


def assert_equal(a: Stats, b: Stats, rtol: float = 1e-4) -> None:
    assert a.layers.keys() == b.layers.keys()
    for i, layer in a.layers.items():
        for field in dataclasses.fields(LayerStats):
            x, y = getattr(layer, field.name), getattr(b.layers[i], field.name)
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(), err_msg=f"{i} {field.name}")
            assert y.any()


def largest_layer(folder: Path) -> int:
    """Weights of the routed layer that has most."""
    found = Checkpoint(folder)
    return max(
        sum(math.prod(x.shape) for name, x in found.tensors.items() if name.startswith(found.prefix(layer)))
        for layer in found.moe_layers
    )


@pytest.mark.parametrize("family", families())
def test_every_decoder_streams_to_the_same_statistics(family: str, corpus, tmp_path, monkeypatch) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", family, vocab_size=VOCABULARY)  # the tokenizer's
    if Checkpoint(folder).config.get("is_encoder_decoder"):
        with pytest.raises(RequestError, match="only decoder models"):
            calibrate(folder, EN_DE, corpus, quiet=True)
        return
    whole, _ = calibrate(folder, EN_DE, corpus, quiet=True)
    places, chosen = [], prune.calibrate.stream.place_of_experts
    monkeypatch.setattr(
        "prune.calibrate.stream.place_of_experts", lambda *given: places.append(chosen(*given)) or places[-1]
    )
    largest = largest_layer(folder)
    for left in (1 << 40, 6 * largest, 0):  # two layers in float32, or one with experts in bf16, or none
        monkeypatch.setattr("prune.calibrate.one_by_one.memory_left", lambda left=left: left)
        streamed, _ = calibrate(folder, EN_DE, corpus, quiet=True, stream=True)
        assert_equal(streamed, whole)
    assert places == ["computing", "stored", "files"] or load_family(family).modules.scaled_inputs


def test_a_model_that_does_not_fit_into_memory_is_streamed_unasked(tiny_checkpoint, corpus, monkeypatch) -> None:
    size = 4 * Checkpoint(tiny_checkpoint).weights
    for left, streamed in ((2 * size, False), (size, True)):
        monkeypatch.setattr("prune.device.memory_left", lambda left=left: left)
        _, where = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
        assert ("layer by layer" in where) == streamed


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("stream", "killed_at", "left"), [(False, 3, 1), (True, 5, 3)], ids=["in memory", "layers"])
def test_an_interrupted_run_goes_on_where_it_was(
    stream: bool, killed_at: int, left: int, tiny_checkpoint, corpus, tmp_path, monkeypatch
) -> None:
    """Three batches through two layers: killed in the last batch, or in the second layer's second batch."""
    monkeypatch.setattr(prune.calibrate.from_checkpoint, "SAVE_SECONDS", 0.0)
    calls, begin = [], Observer.begin

    def counted(self, batch) -> None:
        calls.append(batch)
        if len(calls) == killed_at:
            raise Killed
        begin(self, batch)

    output = tmp_path / "out" / "stats"
    whole, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    monkeypatch.setattr(Observer, "begin", counted)
    with pytest.raises(Killed):
        calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True, stream=stream, output=output)
    assert not output.exists()
    before = len(calls)
    calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True, stream=stream, output=output)
    assert len(calls) - before == left
    assert_equal(Stats.load(output), whole)
    assert [path.name for path in output.parent.iterdir()] == ["stats"]


def test_what_another_run_left_is_not_taken_over(tiny_checkpoint, corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prune.calibrate.from_checkpoint, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Stats, "save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True, output=tmp_path / "stats")
    assert (tmp_path / ".stats.0.partial" / "sums").exists()
    corpus.write_text("Hello.\tHallo.\n")
    stats, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True, output=tmp_path / "stats")
    assert_equal(stats, calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)[0])


@pytest.mark.parametrize("stream", [False, True])
def test_a_nan_in_a_router_is_one_sentence(stream: bool, corpus, tmp_path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model")
    from safetensors.torch import load_file, save_file

    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        for name, tensor in tensors.items():
            if name.endswith("layers.1.mlp.gate.weight"):
                tensor[0, 0] = torch.nan
        save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(WorkError, match="Layer 1 computes values that are not numbers"):
        calibrate(folder, EN_DE, corpus, quiet=True, stream=stream, output=tmp_path / "stats")
    assert not (tmp_path / "stats").exists()


def test_experts_in_the_files_that_do_not_belong_together_are_one_sentence(corpus, tmp_path, monkeypatch) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_tiny_checkpoint(tmp_path / "model")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    for shard in folder.glob("*.safetensors"):
        if name in (tensors := load_file(shard)):
            save_file(tensors | {name: tensors[name][:-1].contiguous()}, shard, {"format": "pt"})
    monkeypatch.setattr("prune.calibrate.one_by_one.memory_left", lambda: 0)
    with pytest.raises(WorkError, match=r"layers\.1\.mlp\.experts"):
        calibrate(folder, EN_DE, corpus, quiet=True, stream=True)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [(), ("--stream",)], ids=["in memory", "layers"])
def test_two_processes_give_the_statistics_of_one(stream: tuple[str, ...], tiny_checkpoint, tmp_path) -> None:
    arguments = ("calibrate", str(tiny_checkpoint), "--pair", "en-de", *stream)
    for processes, name in ((1, "one"), (2, "two")):
        result = run_slimmoe(*arguments, "-o", str(tmp_path / name), processes=processes)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("calibrated on") == 1
    one, both = Stats.load(tmp_path / "one"), Stats.load(tmp_path / "two")
    assert_equal(both, one, rtol=1e-6)
    assert both.calibration["processes"] == 2 and both.calibration["segments"] == one.calibration["segments"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
