"""Batches: sequences join and leave, and each computes what it computes alone; and the scheduler that fills them."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.gguf import export_gguf
from export.onnx import export_onnx
from runtime.engines import Engine, NoRoom, PromptTooLong, Request, open_engine
from runtime.engines.base import Feed
from runtime.engines.llama import LlamaEngine
from runtime.engines.onnx import OnnxEngine
from runtime.engines.scheduler import Scheduler
from runtime.text.pairs import Pair
from runtime.translate.segments import translate
from tests.tiny import write_tiny_checkpoint

PREFIX = tuple(int(i) for i in np.random.default_rng(9).integers(4, 500, 6))
BAR = 1e-3  # of logits in float32: llama.cpp's cache positions and the order of additions differ


def exported(kind: str, checkpoint: Path, folder: Path) -> Path:
    if kind == "gguf":
        return export_gguf(checkpoint, folder / "model.gguf", "F32")
    return export_onnx(checkpoint, folder / "onnx-folder", "none")


def opened(artefact: Path, context: int | None = None) -> Engine:
    if artefact.suffix == ".gguf":
        return LlamaEngine(artefact, 1, context, exact=True)
    return OnnxEngine(artefact, 1, context)


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def artefact(request: Any, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(request.param, tiny_checkpoint, tmp_path_factory.mktemp("batches"))


@pytest.fixture
def engine(artefact: Path) -> Iterator[Engine]:
    with contextlib.closing(opened(artefact)) as loaded:
        yield loaded


def check_batch(engine: Engine, seed: int) -> None:
    """Sequences of random tokens join a batch and leave it at random; each row is held against the sequence alone."""
    random = np.random.default_rng(seed)
    with contextlib.closing(engine.batch(places=3, room=64)) as batch:
        sequences: dict[int, list[int]] = {}
        begun = 0
        for _ in range(30):
            feeds = []
            for place in [place for place in sequences if random.random() < 0.15]:
                batch.free(place)
                del sequences[place]
            for place in range(3):
                if place in sequences:
                    token = int(random.integers(4, 500))
                    sequences[place].append(token)
                    feeds.append(Feed(place, (token,)))
                elif random.random() < 0.4:
                    begun += 1
                    shares = bool(random.random() < 0.6)
                    tokens = [*(PREFIX if shares else ()), *map(int, random.integers(4, 500, random.integers(1, 20)))]
                    sequences[place] = tokens
                    feeds.append(Feed(place, tuple(tokens), PREFIX if shares else ()))
            for feed, row in zip(feeds, batch.evaluate(feeds) if feeds else []):
                alone = engine.logits(sequences[feed.place])[-1]
                assert np.abs(row - alone).max() <= BAR
        assert begun > 6


def test_sequences_that_join_and_leave_compute_what_they_compute_alone(engine: Engine) -> None:
    check_batch(engine, 1)


@pytest.mark.parametrize(
    ("kind", "family"), [("gguf", "nemotron_h"), ("onnx", "nemotron_h"), ("onnx", "qwen3_5_moe_text")]
)
def test_so_do_those_of_layers_with_a_state(kind: str, family: str, tmp_path: Path) -> None:
    import torch

    checkpoint = write_tiny_checkpoint(tmp_path / "model", family, dtype=torch.float32)
    with contextlib.closing(opened(exported(kind, checkpoint, tmp_path))) as engine:
        check_batch(engine, 2)


PROMPTS = [[*PREFIX, *range(10 + n, 15 + 2 * n)] for n in range(12)]
LIMITS = [5 + 3 * n % 17 for n in range(12)]


def test_the_scheduler_writes_what_one_generation_writes(engine: Engine) -> None:
    alone = [engine.generate(prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS)]
    for workers, places in ((1, 1), (2, 1), (2, 3)):
        told: dict[int, list[int]] = {number: [] for number in range(len(PROMPTS))}
        with contextlib.closing(Scheduler(engine, workers, places)) as scheduler:
            futures = [
                scheduler.submit(Request(prompt, limit, on_token=told[number].append))
                for number, (prompt, limit) in enumerate(zip(PROMPTS, LIMITS))
            ]
            done = [future.result(60) for future in futures]
        assert [one.token_ids for one in done] == [one.token_ids for one in alone]
        assert [tuple(tokens) for tokens in told.values()] == [one.token_ids for one in alone]
        assert [one.text for one in done] == [one.text for one in alone]


def test_clients_push_into_a_running_batch_and_cancel(engine: Engine) -> None:
    """A cancelled one gives its place away at its next token, and waits for no more where it had none yet."""
    writing, go_on = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        writing.set()
        assert go_on.wait(60)

    with contextlib.closing(Scheduler(engine, 1, 2)) as scheduler:
        held = scheduler.submit(Request(PROMPTS[0], 200, False, on_token=hold))
        assert writing.wait(60)
        others = [scheduler.submit(Request(prompt, 3, False)) for prompt in PROMPTS]
        assert held.cancel() and others[5].cancel()
        go_on.set()
        for number, other in enumerate(others):
            if number != 5:
                assert len(other.result(60).token_ids) == 3
        with pytest.raises(CancelledError):
            held.result()
        left = scheduler.submit(Request(PROMPTS[0], 10**6, False))
    assert left.cancelled() or left.done()
    with pytest.raises(ValueError, match="closed"):
        scheduler.submit(Request(PROMPTS[0], 3))
    assert engine.generate(PROMPTS[0], 3).token_ids


def test_what_a_callback_raises_ends_its_own_generation_alone(engine: Engine) -> None:
    def fail(_: int) -> None:
        raise OSError("gone")

    with contextlib.closing(Scheduler(engine, 1, 4)) as scheduler:
        bad, good = (scheduler.submit(Request(PROMPTS[1], 4, on_token=each)) for each in (fail, None))
        with pytest.raises(OSError, match="gone"):
            bad.result(60)
        assert good.result(60).token_ids == engine.generate(PROMPTS[1], 4).token_ids


def test_a_longer_text_gets_a_larger_cache(artefact: Path) -> None:
    with contextlib.closing(opened(artefact)) as engine, contextlib.closing(Scheduler(engine, 1, 3)) as scheduler:
        assert engine.context == 1024  # of the tiny model
        long = [int(i) for i in np.random.default_rng(3).integers(4, 500, 700)]
        futures = [scheduler.submit(Request(ids, 4, False)) for ids in (PROMPTS[0], long, PROMPTS[1])]
        assert [future.result(60).token_ids for future in futures] == [
            engine.generate(ids, 4, False).token_ids for ids in (PROMPTS[0], long, PROMPTS[1])
        ]
        with pytest.raises(PromptTooLong, match="1024 tokens and the context 1024: split"):
            scheduler.submit(Request(range(4, 1028), 4))


def test_what_memory_has_no_room_for_is_one_sentence(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    few = engine.buffers["kv_cache_bytes"] // 2
    monkeypatch.setattr("runtime.engines.cache_room.memory_left", lambda: few)
    long = list(range(4, 804))
    with contextlib.closing(Scheduler(engine, 1, 16)) as scheduler:
        futures = [scheduler.submit(Request(ids, 100, False)) for ids in (PROMPTS[0], long, PROMPTS[1])]
        assert len(futures[0].result(60).token_ids) == len(futures[2].result(60).token_ids) == 100
        with pytest.raises(NoRoom, match="MB of memory are left: split the text"):
            futures[1].result(60)
    (refused,) = translate(engine, Pair("en", "de"), ["word " * 500], workers=1)
    assert "memory" in refused.refused and refused.text == ""


def test_a_batch_outlives_its_engine(artefact: Path) -> None:
    engine = open_engine(artefact, threads=1)
    with contextlib.closing(engine.batch(2, 32)) as batch:
        (before,) = (row.copy() for row in batch.evaluate([Feed(0, (5, 6, 7))]))
        engine.close()
        (after,) = batch.evaluate([Feed(0, (8,))])
        batch.free(0)
        assert np.array_equal(batch.evaluate([Feed(0, (5, 6, 7))])[0], before) and after.shape == before.shape


def test_an_answer_begins_with_the_token_of_its_rank_and_goes_on_greedily(engine: Engine) -> None:
    prompt = list(range(10, 20))
    likely = [int(each) for each in engine.logits(prompt)[-1].argsort()[::-1][:8] if not engine.is_end(int(each))]
    with contextlib.closing(Scheduler(engine, 1, 3)) as scheduler:
        pending = [scheduler.submit(Request(prompt, 4, stop=False, rank=rank)) for rank in range(3)]
        written = [each.result(60).token_ids for each in pending]
    assert [each[0] for each in written] == likely[:3]
    assert written[0] == engine.generate(prompt, 4, stop=False).token_ids
    for each in written:
        assert each[1] == int(engine.logits([*prompt, each[0]])[-1].argmax())
