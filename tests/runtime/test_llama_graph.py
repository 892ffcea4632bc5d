"""Watching llama.cpp's graph: what is read is what was computed, what is written is computed with, nothing crashes."""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from export.gguf import export_gguf
from runtime.engines.llama import LlamaEngine
from runtime.engines.llama_graph import ExpertMask, GraphTensor, masked
from tests.gguf_files import write_moe

IDS = [5, 900, 17, 2000, 77, 8, 1234, 300]
EXPERTS, TOP_K = 8, 2


@pytest.fixture(scope="module")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("graph") / "tiny.gguf", "F32")


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    with contextlib.closing(_open(tiny_gguf)) as loaded:
        yield loaded


def _open(path: Path) -> LlamaEngine:
    return LlamaEngine(path, threads=1, context=64, exact=True, watched=True, sequences=4)


class Watcher:
    """Calls ``act`` with every tensor of these names."""

    def __init__(self, act: Callable[[GraphTensor], bool | None], *names: str) -> None:
        self._act, self._names = act, names

    def wants(self, name: str, layer: int) -> bool:
        return name in self._names

    def see(self, tensor: GraphTensor) -> bool:
        return self._act(tensor) is not False


def _record(engine: LlamaEngine, *names: str) -> dict[tuple[str, int], np.ndarray]:
    seen: dict[tuple[str, int], np.ndarray] = {}

    def keep(tensor: GraphTensor) -> None:
        seen[tensor.name, tensor.layer] = tensor.read().copy()

    with engine.watch(Watcher(keep, *names)):
        engine.logits(IDS)
    return seen


def test_a_strided_tensor_is_read_by_its_strides(engine: LlamaEngine) -> None:
    """Top-k is the first columns of the sorted experts: read without strides it would be a few tokens' whole order."""
    seen = _record(engine, "ffn_moe_probs", "ffn_moe_topk", "ffn_moe_weights")
    for layer in range(2):
        chosen = seen["ffn_moe_topk", layer][0, 0]
        probabilities = seen["ffn_moe_probs", layer][0, 0]
        assert chosen.shape == (len(IDS), TOP_K) and probabilities.shape == (len(IDS), EXPERTS)
        assert np.array_equal(chosen, np.argsort(-probabilities, kind="stable")[:, :TOP_K])
        weights = seen["ffn_moe_weights", layer][0, :, :, 0]
        assert np.array_equal(weights, np.take_along_axis(probabilities, chosen, 1))


def test_a_copy_of_a_tensor_holds_what_its_memory_holds(engine: LlamaEngine) -> None:
    """The way of a GPU's tensors, taken with tensors in memory: reading, and overwriting one."""

    def compare(tensor: GraphTensor) -> None:
        direct = tensor.read().copy()
        tensor._in_memory = False
        copied = tensor.read()
        assert np.array_equal(direct, copied)
        copied[...] = 0
        assert np.array_equal(direct, tensor.read())
        tensor.write(direct[:, :, ::-1])
        tensor._in_memory = True
        assert np.array_equal(direct[:, :, ::-1], tensor.read())
        tensor.write(direct)

    before = engine.logits(IDS)
    with engine.watch(Watcher(compare, "ffn_moe_topk", "ffn_moe_down")):
        assert np.array_equal(engine.logits(IDS), before)


def test_watching_changes_nothing(engine: LlamaEngine) -> None:
    before = engine.logits(IDS)
    assert len(_record(engine, "ffn_moe_logits", "ffn_moe_down", "ffn_moe_weighted")) == 6
    assert np.array_equal(engine.logits(IDS), before)


def test_masked_experts_are_not_chosen(engine: LlamaEngine) -> None:
    dropped = {0: [1, 2, 5], 1: [0, 7]}
    before = engine.logits(IDS)
    with masked(engine, dropped):
        with_mask = engine.logits(IDS)
    assert np.abs(with_mask - before).max() > 1e-3
    assert np.array_equal(engine.logits(IDS), before)
    mask, seen = ExpertMask(dropped), {}

    class Both:
        def wants(self, name: str, layer: int) -> bool:
            return mask.wants(name, layer) or name in ("ffn_moe_topk", "ffn_moe_weights_norm")

        def see(self, tensor: GraphTensor) -> bool:
            if tensor.name == "ffn_moe_topk":
                seen[tensor.layer] = tensor.read().copy()
            elif tensor.name == "ffn_moe_weights_norm":
                assert np.allclose(tensor.read().sum(-1), 1)
            else:
                mask.see(tensor)
            return True

    with engine.watch(Both()):
        assert np.array_equal(engine.logits(IDS), with_mask)
    for layer, experts in dropped.items():
        assert not np.isin(seen[layer], experts).any()


def test_an_exception_reaches_the_caller_and_the_engine_lives_on(engine: LlamaEngine) -> None:
    before = engine.logits(IDS)
    calls = []

    def fail(tensor: GraphTensor) -> None:
        calls.append(tensor.layer)
        raise LookupError("mine")

    with engine.watch(Watcher(fail, "ffn_moe_topk")), pytest.raises(LookupError, match="mine"):
        engine.logits(IDS)
    assert calls == [0]  # the graph ended there
    assert np.array_equal(engine.logits(IDS), before)

    class Unwilling:
        def wants(self, name: str, layer: int) -> bool:
            raise LookupError("asked")

        def see(self, tensor: GraphTensor) -> bool:
            return True

    with engine.watch(Unwilling()), pytest.raises(LookupError, match="asked"):
        engine.logits(IDS)
    assert np.array_equal(engine.logits(IDS), before)


def test_ctrl_c_in_the_middle_of_a_graph(engine: LlamaEngine) -> None:
    before, calls = engine.logits(IDS), []

    def interrupt(tensor: GraphTensor) -> None:
        calls.append(tensor.layer)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # the suite itself may ignore the signal
    try:
        with engine.watch(Watcher(interrupt, "ffn_moe_topk")), pytest.raises(KeyboardInterrupt):
            engine.logits(IDS)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert calls == [0]
    assert np.array_equal(engine.logits(IDS), before)


def test_a_handler_that_only_notes_ctrl_c_does_not_pass_half_a_graph_off_as_whole(engine: LlamaEngine) -> None:
    before, noted = engine.logits(IDS), []
    handler = signal.signal(signal.SIGINT, lambda *_: noted.append(True))
    try:
        watcher = Watcher(lambda _: os.kill(os.getpid(), signal.SIGINT), "ffn_moe_topk")
        with engine.watch(watcher), pytest.raises(KeyboardInterrupt):
            engine.logits(IDS)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert noted == [True]
    assert np.array_equal(engine.logits(IDS), before)


def test_the_rest_of_a_graph_may_be_left_out(engine: LlamaEngine) -> None:
    calls = []

    def stop(tensor: GraphTensor) -> bool:
        calls.append(tensor.layer)
        return False

    with engine.watch(Watcher(stop, "ffn_moe_down")):
        engine.evaluate([IDS])
    assert calls == [0]


def test_sequences_together_are_what_they_are_alone(engine: LlamaEngine) -> None:
    seen: list[np.ndarray] = []
    watcher = Watcher(lambda tensor: seen.append(tensor.read().copy()), "ffn_moe_logits")
    parts = [IDS, IDS[3:5], [42], IDS[::-1]]
    with engine.watch(watcher):
        engine.evaluate(parts)
        for part in parts:
            engine.evaluate([part])
    for layer in range(2):
        alone = np.concatenate([seen[2 + 2 * i + layer] for i in range(len(parts))], axis=2)
        assert np.abs(seen[layer] - alone).max() < 1e-4


def test_callbacks_outlive_garbage_collection(tiny_gguf: Path, tmp_path: Path) -> None:
    unknown = write_moe(tmp_path / "x.gguf")  # of an architecture that llama.cpp does not know
    engines = [_open(tiny_gguf) for _ in range(2)]
    first = engines[0].logits(IDS)
    for _ in range(3):
        gc.collect()
        records = [_record(engine, "ffn_moe_topk") for engine in engines]
        assert all(np.array_equal(records[0][key], records[1][key]) for key in records[0])
        with pytest.raises(Exception, match="cannot be loaded"):  # llama.cpp logs, through its own callback
            LlamaEngine(unknown)
    engines.pop().close()
    gc.collect()
    with masked(engines[0], {0: [1]}):
        assert not np.array_equal(engines[0].logits(IDS), first)
    engines[0].close()


def test_an_engine_that_was_not_opened_for_it_cannot_be_watched(tiny_gguf: Path) -> None:
    with (
        contextlib.closing(LlamaEngine(tiny_gguf, threads=1, context=64)) as plain,
        pytest.raises(ValueError, match="watched"),
    ):
        plain.watch(Watcher(lambda _: None))
