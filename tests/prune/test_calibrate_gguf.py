"""Statistics of a GGUF file are those of its checkpoint, and none of torch, transformers and accelerate is needed."""

import contextlib
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

import prune.calibrate.from_gguf
import prune.rewrite
from export.gguf import export_gguf
from export.verify import verify
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.observe_gguf import GgufObserver
from prune.calibrate.stats import LayerStats, Stats
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.plan.plan import make_plan
from runtime.engines.llama import BATCH, LlamaEngine
from runtime.errors import RequestError, WorkError
from runtime.text.pairs import Pair
from tests.export.test_gguf_families import RUNNABLE, write_subject
from tests.prune.test_cut import plan_for

ROOT = Path(__file__).parents[2]
CHANGES = {"deepseek_v2": {"n_group": 1}}  # its groups are refused (prune/families/deepseek_v2.toml)
EN_DE = Pair("en", "de")
TEXT = "The file is open.\tDie Datei ist geöffnet.\nHello.\tHallo.\nSave the page as a file\tSeite sichern\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tsv"
    path.write_text(TEXT * 12)  # more than one batch
    return path


@pytest.fixture(scope="module")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("calibrate") / "tiny.gguf", "F32")


calibrate_gguf = partial(prune.calibrate.from_gguf.calibrate_gguf, quiet=True, threads=1)


def assert_close(found: Stats, expected: Stats, tolerance: float, names: set[str] | None = None) -> None:
    """Every sum within ``tolerance`` of its largest value: additions in another order."""
    assert found.layers.keys() == expected.layers.keys()
    unseen = set(expected.known) - set(found.known)
    assert unseen <= {"easy_ep"}  # where llama.cpp's graph does not name the hidden states
    for i, layer in expected.layers.items():
        for name in (names or set(expected.known)) - unseen:
            a, b = getattr(found.layers[i], name), getattr(layer, name)
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), (i, name)


UNLIKE = ("llama4_text",)  # gates weight the experts' inputs: refused, see below


@pytest.mark.parametrize("family", [name for name in RUNNABLE if name not in UNLIKE])
def test_statistics_equal_those_of_the_checkpoint(family: str, corpus: Path, tmp_path: Path) -> None:
    folder = write_subject(tmp_path / "model", family, **CHANGES.get(family, {})).folder
    file = export_gguf(folder, tmp_path / "model.gguf", "F32")
    found, (expected, _) = calibrate_gguf(file, EN_DE, corpus), calibrate(folder, EN_DE, corpus, quiet=True)
    assert "easy_ep" in expected.known
    assert_close(found, expected, 1e-3)
    assert (found.fingerprint, found.top_k, found.pair) == (expected.fingerprint, expected.top_k, expected.pair)
    told = ("sha256", "segments", "prompt_tokens", "response_tokens")
    assert [found.calibration[name] for name in told] == [expected.calibration[name] for name in told]
    assert found.calibration["prompt_tokens"] + found.calibration["response_tokens"] > BATCH
    assert found.calibration["dtype"] == "F32"


def test_a_token_limit_stops_early(tiny_gguf: Path, corpus: Path) -> None:
    assert calibrate_gguf(tiny_gguf, EN_DE, corpus, limit=1).calibration["segments"] == 1


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_where_it_was(
    tiny_gguf: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches, killed in the second one's graph."""
    monkeypatch.setattr(prune.calibrate.from_gguf, "SAVE_SECONDS", 0.0)
    begun, begin, see = [], GgufObserver.begin, GgufObserver.see

    def counted(self: GgufObserver, role: np.ndarray) -> None:
        begun.append(len(role))
        begin(self, role)

    def kill(self: GgufObserver, tensor: object) -> bool:
        if len(begun) == 2:
            raise Killed
        return see(self, tensor)

    whole, output = calibrate_gguf(tiny_gguf, EN_DE, corpus), tmp_path / "out" / "stats"
    monkeypatch.setattr(GgufObserver, "begin", counted)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(GgufObserver, "see", kill)
        calibrate_gguf(tiny_gguf, EN_DE, corpus, output=output)
    assert len(begun) == 2 and not output.exists()
    (tmp_path / output.parent / ".stats.3.partial").mkdir()  # of a run in four processes
    calibrate_gguf(tiny_gguf, EN_DE, corpus, output=output)
    assert begun == [begun[0], begun[1], begun[1]]
    assert_close(Stats.load(output), whole, 0)
    assert [path.name for path in output.parent.iterdir()] == ["stats"]


def test_what_a_run_on_another_text_left_is_not_taken_over(
    tiny_gguf: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune.calibrate.from_gguf, "SAVE_SECONDS", 0.0)
    output = tmp_path / "stats"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Stats, "save", lambda *_: (_ for _ in ()).throw(Killed))
        calibrate_gguf(tiny_gguf, EN_DE, corpus, output=output)
    assert (tmp_path / ".stats.0.partial" / "sums").exists()
    corpus.write_text("Hello.\tHallo.\n")
    stats = calibrate_gguf(tiny_gguf, EN_DE, corpus, output=output)
    assert_close(stats, calibrate_gguf(tiny_gguf, EN_DE, corpus), 0)


def test_damaged_weights_are_one_sentence(tiny_gguf: Path, corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_gguf.read_bytes())
    reader = GGUFReader(damaged, "r+")
    tensor = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.ffn_down_exps.weight")
    tensor.data[...] = np.nan
    reader.data.flush()
    with pytest.raises(WorkError, match="Layer 1 computes values that are not numbers"):
        calibrate_gguf(damaged, EN_DE, corpus, output=tmp_path / "out" / "stats")
    assert not any((tmp_path / "out").iterdir())  # the same command would fail again


def test_segments_that_are_too_long_are_left_out_and_counted(tiny_gguf: Path, corpus: Path, caplog) -> None:
    corpus.write_text(TEXT + "word " * 2000 + "\tWort\n" + TEXT)
    assert calibrate_gguf(tiny_gguf, EN_DE, corpus).calibration["segments"] == 6
    assert "1 of 7 segments have more than 512 tokens" in caplog.text and "segments 4." in caplog.text


STAGES = ["ffn_moe_topk", "ffn_moe_weights", "ffn_moe_down", "ffn_moe_weighted"]


@pytest.mark.parametrize(
    "names",
    [
        [STAGES[0], STAGES[1], STAGES[3], STAGES[2]],  # as Llama 4, whose gates weight the experts' inputs
        STAGES + STAGES,  # as models with two kinds of routed experts in a layer
        STAGES[1:],
    ],
    ids=["gates before experts", "twice", "no choice"],
)
def test_a_graph_of_another_kind_is_refused(names: list[str]) -> None:
    GgufObserver({3: 8}, [(name, 3) for name in STAGES])
    with pytest.raises(RequestError, match="cannot be observed"):
        GgufObserver({3: 8}, [(name, 3) for name in names])


@pytest.fixture
def bare() -> list[str]:
    """The command on an interpreter without torch, transformers and accelerate."""
    blocker = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers', 'accelerate'):\n"
        "            raise ImportError(f'{name} is not installed')\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from slimmoe.cli import main\n"
        "main()\n"
    )
    return [sys.executable, "-c", blocker]


def run(command: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_from_a_gguf_file_to_a_plan_without_torch(
    tiny_gguf: Path, corpus: Path, tmp_path: Path, bare: list[str]
) -> None:
    stats, plan, pair = tmp_path / "stats", tmp_path / "plan.json", ("--pair", "en-de")
    few = tmp_path / "few.tsv"
    few.write_text("Hello.\tHallo.\n")
    for arguments in (
        ("calibrate", tiny_gguf, *pair, "--corpus", corpus, "-o", stats),
        ("plan", stats, "--ratio", "0.5", "-o", plan, "--explain"),
        ("evaluate", tiny_gguf, *pair, "--test", few, "--threads", 1),
    ):
        result = run(bare, *arguments)
        assert result.returncode == 0, result.stderr
    assert plan.exists() and Stats.load(stats).known == [field.name for field in fields(LayerStats)]
    result = run(bare, "calibrate", tiny_gguf, *pair, "-o", tmp_path / "other", "--stream")
    assert result.returncode == 2 and "stays on disk anyway" in result.stderr and "Traceback" not in result.stderr
    assert "torch is not installed" in run(bare, "calibrate", "models/default", *pair, "-o", tmp_path / "x").stderr


@pytest.mark.parametrize("told", [2, 4, 6])  # 6: as many as the graph's three tokens have experts
def test_the_observer_refuses_a_graph_of_other_tokens(told: int, tiny_gguf: Path) -> None:
    """As it would see where llama.cpp took a batch apart: the roles would be other tokens'."""
    names = [(name, layer) for layer in range(2) for name in STAGES]
    observer = GgufObserver({0: 8, 1: 8}, names)
    observer.begin(np.zeros(told, np.int64))
    with (
        contextlib.closing(LlamaEngine(tiny_gguf, threads=1, context=64, watched=True)) as engine,
        engine.watch(observer),
        pytest.raises(WorkError, match=f"3 of {told} tokens"),
    ):
        engine.evaluate([[5, 6, 7]])


def test_a_file_of_one_expert_is_calibrated_verified_and_cut(
    tiny_checkpoint: Path, corpus: Path, tmp_path: Path
) -> None:
    """llama-quantize drops the axis of a single expert from its tensors."""
    cut = prune.rewrite.prune(tiny_checkpoint, plan_for(tiny_checkpoint, [3], [6]), tmp_path / "cut")
    model = GgufModel(export_gguf(cut, tmp_path / "one.gguf", "Q4_K_M"))
    assert model.file.tensors["blk.0.ffn_gate_inp.weight"].shape == (256,)
    assert model.moe_layers == {0: 1, 1: 1} and model.fingerprint == Checkpoint(cut).fingerprint
    stats = calibrate_gguf(model.source, EN_DE, corpus)
    tokens = stats.calibration["prompt_tokens"] + stats.calibration["response_tokens"]
    assert all(layer.count.sum() == tokens for layer in stats.layers.values())
    assert "routers" not in verify(model.source, cut, corpus, EN_DE).reason
    again = prune.rewrite.prune(model.source, make_plan(stats, 0, "gate"), tmp_path / "again.gguf")
    assert GgufModel(again).fingerprint == model.fingerprint and GgufModel(again).moe_layers == model.moe_layers
