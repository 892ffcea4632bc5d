"""The side-by-side run: what it asks of a runtime, how it compares, and what it calls a ratio."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.__main__ import LLAMA, OPTIMUM, Peer, compare_tokens, ratio, row, table
from runtime.engines.onnx import OnnxEngine
from runtime.errors import WorkError

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 2000, 12)]
SERVE = Path(__file__).parents[1] / "benchmarks" / "peers" / "serve.py"


def peer(runtime: str, graph: Path) -> Peer:
    command = ["-m", "benchmarks.peers.serve"] if runtime == "ours" else [str(SERVE)]
    return Peer(runtime, [sys.executable, *command, runtime, str(graph), "1"], "ours")


def test_runtimes_in_processes_of_their_own_write_the_same_tokens(tiny_onnx):
    graph = tiny_onnx / "onnx" / "model_q4.onnx"
    expected = OnnxEngine(graph, threads=1).generate(IDS, 8, stop=False).token_ids
    peers = [peer("ours", graph), peer("genai", graph)]
    try:
        for each in peers:
            each.start()
            answer = each.ask(ids=IDS, limit=8)
            assert tuple(answer["tokens"]) == expected and answer["prefill_seconds"] > 0 < answer["decode_seconds"]
            each.race(IDS)
            assert len(each.prefill) == len(each.decode) == 3 and each.spent > 0
        compare_tokens(peers, [IDS, IDS[::-1]], frozenset(expected[3:4]))
    finally:
        for each in peers:
            each.stop()
    assert [each.same for each in peers] == [None, 2]
    assert peers[0].runtime.startswith("onnxruntime 1.") and peers[1].runtime.startswith("onnxruntime-genai 0.")


def test_a_runtime_that_fails_is_one_sentence(tmp_path):
    broken = peer("genai", tmp_path / "onnx" / "model.onnx")
    with pytest.raises(WorkError, match="genai failed: "):
        broken.start()
    broken.stop()


def test_a_ratio_compares_each_at_its_fastest():
    """The machine was busy now and then, and one of them suffers more."""
    fast = Peer("slimmoe int4", [], "", prefill=[8.0, 1.0, 7.0], decode=[4.0, 0.4, 4.2], same=3)
    slow = Peer(LLAMA, [], LLAMA, prefill=[0.2, 0.5, 4.0], decode=[0.1, 2.0, 0.1, 0.1])
    assert ratio(fast, slow, "prefill") == 2.0 and ratio(fast, slow, "decode") == 2.1
    rows = [row(each, {LLAMA: slow, OPTIMUM: slow}, 2) for each in (slow, fast)]
    assert rows[1]["decode_to_llama"] == rows[1]["decode_to_optimum"] == 2.1 and rows[1]["threads"] == 2
    assert [each["generations"] for each in rows] == [4, 3]
    assert "| slimmoe int4 | 8 | 2.00 | 4 | 2.10 | 2.1 | 3 of 8 equal ours |" in table(rows)
