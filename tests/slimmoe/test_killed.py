"""Real signals to real processes, just before what they wrote is whole: nothing half-written, nothing left for long."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from prune.calibrate.stats import LayerStats, Routing, Stats
from prune.gguf_model import GgufModel
from prune.plan.plan import make_plan
from runtime.formats.files import new_file
from tests.gguf_files import write_moe

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys, time
import runtime.formats.files as room
number = int(sys.argv.pop(1))
sync = room._sync
def killed(path):
    os.kill(os.getpid(), number)
    time.sleep(1)  # a signal with a handler is delivered here
    sync(path)
if number:
    room._sync = killed
from slimmoe.cli import main
main()
"""


def run(number: int, *words: str | Path, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KILLED, str(number), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, **options)


def save_plan(path: Path, model: Path) -> None:
    """One that keeps half of the experts of a GGUF file."""
    known = GgufModel(model)
    layers = {i: LayerStats(*np.ones((6, 2, n)), gram=np.ones((2, n, n))) for i, n in known.moe_layers.items()}
    stats = Stats(layers, str(model), known.fingerprint, "en-de", known.top_k, {}, Routing.of(known))
    stats.save(path.with_suffix(".safetensors"))
    make_plan(stats, 0.5).save(path)


# Of each verb the words that follow it, for a GGUF file or an ONNX folder, a plan and an output.
VERBS: dict[str, Callable[[Path, Path, Path, Path], list[str | Path]]] = {
    "plan": lambda _, __, plan, out: [plan.with_suffix(".safetensors"), "--ratio", "0.5", "-o", out],
    "prune": lambda gguf, _, plan, out: [gguf, "--plan", plan, "-o", out.with_suffix(".gguf")],
    "translate": lambda _, onnx, __, out: [onnx, "Save the file.", "--pair", "en-de", "--threads", "1", "-o", out],
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_killed_leaves_nothing_that_its_next_run_does_not_remove(verb: str, tiny_onnx, tmp_path) -> None:
    gguf, folder = write_moe(tmp_path / "x.gguf"), tmp_path / "here"
    folder.mkdir()
    save_plan(tmp_path / "plan.json", gguf)
    words = [verb, *VERBS[verb](gguf, tiny_onnx, tmp_path / "plan.json", folder / "out")]
    ended = run(signal.SIGTERM, *words)
    assert ended.returncode == 143, ended.stderr.decode()
    assert b"slimmoe: stopped" in ended.stderr and b"Traceback" not in ended.stderr
    assert not any(folder.iterdir())
    assert run(signal.SIGKILL, *words).returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.startswith(".out") and left.suffix == ".part"
    done = run(0, *words)
    assert done.returncode == 0, done.stderr.decode()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_what_another_process_is_writing_is_no_leftover(tmp_path) -> None:
    script = "import sys, pathlib\nfrom runtime.formats.files import new_file\nwith new_file(pathlib.Path(sys.argv[1])) as t:"
    script += "\n    t.write_text('first'); print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, tmp_path / "x"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == b"ready\n"
        with new_file(tmp_path / "x") as temporary:
            temporary.write_text("second")
        other.stdin.close()
        assert other.wait() == 0
    assert (tmp_path / "x").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ties a child to its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(number: signal.Signals, tiny_onnx, tmp_path) -> None:
    words = ["bench", tiny_onnx, "--pair", "en-de", "--threads", "1", "-o", tmp_path / "bench.jsonl"]
    command = [sys.executable, "-m", "slimmoe", *map(str, words)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen = psutil.Process(parent.pid)
    while not (children := seen.children(recursive=True)):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait() in (-number, 128 + number)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_converter_ends_with_the_export_and_its_scratch_goes_with_the_next(
    number: signal.Signals, tiny_checkpoint, tmp_path
) -> None:
    words = ["gguf", str(tiny_checkpoint), "--quant", "Q8_0", "-o", str(tmp_path / "out.gguf")]
    command = [sys.executable, "-m", "slimmoe", *words]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (children := psutil.Process(parent.pid).children()) or not list(tmp_path.glob(".out.gguf.work.*/*")):
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(number)
    assert parent.wait() in (-number, 128 + number)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and bool(list(tmp_path.iterdir())) == (number == signal.SIGKILL)
    assert run(0, *words).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]
