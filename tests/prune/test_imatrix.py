"""The counts of an importance matrix are routing statistics, of which only what is known is used."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.gguf import export_gguf
from prune.calibrate.imatrix import read_counts
from prune.calibrate.observe_gguf import GgufObserver, Listing
from prune.calibrate.stats import Stats
from prune.gguf_model import GgufModel
from prune.plan.explanation import explain
from prune.plan.plan import make_plan
from runtime import llama_paths
from runtime.engines.llama import LlamaEngine
from runtime.errors import RequestError
from runtime.text.pairs import Pair

ROOT = Path(__file__).parents[2]
EN_DE = Pair("en", "de")
CHUNK, CHUNKS = 64, 3


@pytest.fixture(scope="module")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("imatrix") / "tiny.gguf", "F32")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text((ROOT / "runtime/text/data" / "dev.en").read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def imatrix(tiny_gguf: Path, text: Path) -> Path:
    path = text.with_name("imatrix.gguf")
    options = f"-c {CHUNK} -b {CHUNK} --chunks {CHUNKS} -t 1 -fa off -ctk f32 -ctv f32".split()
    command = [str(llama_paths.HOME / "bin" / "llama-imatrix"), "-m", str(tiny_gguf), "-f", str(text), "-o", str(path)]
    result = subprocess.run([*command, *options], capture_output=True, text=True)
    assert path.exists(), result.stderr
    return path


def test_counts_are_those_of_the_same_tokens_observed(tiny_gguf: Path, text: Path, imatrix: Path) -> None:
    stats = read_counts(imatrix, GgufModel(tiny_gguf), EN_DE)
    engine = LlamaEngine(tiny_gguf, threads=1, context=CHUNK, exact=True, watched=True)
    with contextlib.closing(engine):
        ids, listing = engine.encode(text.read_text(encoding="utf-8")), Listing()
        with engine.watch(listing):
            engine.evaluate([ids[:1]])
        observer = GgufObserver(GgufModel(tiny_gguf).moe_layers, listing.names)
        observer.begin(np.zeros(CHUNK, np.int64))
        with engine.watch(observer):
            for start in range(0, CHUNK * CHUNKS, CHUNK):
                engine.evaluate([ids[start : start + CHUNK]])
    assert stats.known == ["count"]
    assert stats.calibration["prompt_tokens"] == CHUNK * CHUNKS and stats.calibration["segments"] == CHUNKS
    for i, layer in stats.layers.items():
        assert np.array_equal(layer.count, observer.sums[i][:, 0])


def test_only_criteria_that_read_counts_work(tiny_gguf: Path, imatrix: Path, tmp_path: Path) -> None:
    read_counts(imatrix, GgufModel(tiny_gguf), EN_DE).save(tmp_path / "stats")
    stats = Stats.load(tmp_path / "stats")
    plan = make_plan(stats, 0.5, "frequency")
    for layer in plan.layers:
        count = stats.layers[layer.layer].count.sum(0)
        assert sorted(count[layer.keep].tolist()) == sorted(count.tolist())[4:]
    with pytest.raises(RequestError, match=r"'reap' needs gate_norm, .*with them work: frequency, random"):
        make_plan(stats, 0.5, "reap")
    with pytest.raises(RequestError, match="no gate weights"):
        explain(plan, stats)


def test_the_command(tiny_gguf: Path, tiny_checkpoint: Path, imatrix: Path, tmp_path: Path) -> None:
    def slimmoe(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "slimmoe", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
        )

    for model, name in ((tiny_gguf, "a"), (tiny_checkpoint, "b")):
        options = ("--pair", "en-de", "--imatrix", imatrix, "-o", tmp_path / name)
        assert re.search(f"counts of {CHUNK * CHUNKS} tokens", slimmoe("calibrate", model, *options).stdout)
    a, b = (Stats.load(tmp_path / name) for name in ("a", "b"))
    assert a.fingerprint == b.fingerprint and np.array_equal(a.layers[1].count, b.layers[1].count)
    refused = slimmoe("plan", tmp_path / "a", "--ratio", "0.5", "-o", tmp_path / "plan.json", "--explain")
    assert refused.returncode == 2 and "these statistics do not hold" in refused.stderr
    assert not (tmp_path / "plan.json").exists()
