"""ONNX folders on a device: what is refused, and, among the slow tests, WebGPU on whatever Vulkan driver there is.

On a machine without a GPU the driver may be lavapipe of Mesa 25 or later, which computes on the processor: slow, but by the
provider's own kernels.
"""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from runtime.engines import Offload, Request, open_engine
from runtime.engines.devices import GPU, Device
from runtime.engines.onnx import OnnxEngine
from runtime.engines.onnx_check import SelfTest, run_self_test, self_test_file
from runtime.engines.onnx_device import PLUGINS, SingleBatch, find_onnx_device
from runtime.engines.onnx_load import load_session
from runtime.engines.scheduler import Scheduler
from runtime.errors import RequestError, WorkError
from runtime.formats.onnx_folder import graph_file
from runtime.text.pairs import Pair

IDS = [int(i) for i in np.random.default_rng(3).integers(4, 2000, 24)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tiny_onnx: Path) -> Iterator[OnnxEngine]:
    with contextlib.closing(OnnxEngine(tiny_onnx, threads=1)) as loaded:
        yield loaded


def test_a_device_that_is_not_there_is_named(tiny_onnx: Path) -> None:
    with pytest.raises(RequestError, match="no device no-such-device here, only cpu") as refused:
        open_engine(tiny_onnx, 1, offload=Offload("no-such-device"))
    installed = importlib.util.find_spec(PLUGINS["WebGPU"])
    assert refused.value.next_command == ("slimmoe devices" if installed else "pip install onnxruntime-ep-webgpu")


@pytest.mark.parametrize(
    "asked", [Offload(gpu_layers=3), Offload(cpu_experts="all"), Offload("webgpu", gpu_layers="all")]
)
def test_layers_are_not_split(tiny_onnx: Path, asked: Offload) -> None:
    with pytest.raises(RequestError, match="cannot split a model by layers"):
        open_engine(tiny_onnx, 1, offload=asked)


def test_the_processor_may_be_named(tiny_onnx: Path) -> None:
    with contextlib.closing(open_engine(tiny_onnx, 1, offload=Offload("CPU"))) as loaded:
        assert (loaded.where, loaded.on_device) == ("", {})


def test_a_graph_that_the_processor_refuses_too_is_not_the_device_s_fault(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_onnx, tmp_path / "onnx")
    path = graph_file(folder)
    graph = onnx.load(path, load_external_data=False)
    graph.opset_import[0].version = 99
    path.write_bytes(graph.SerializeToString())
    handle = next(each for each in onnxruntime.get_ep_devices() if each.ep_name == "CPUExecutionProvider")
    with pytest.raises(WorkError, match="has the ONNX opset 99, which onnxruntime"):
        load_session(path, 1, device=Device("webgpu", "WebGPU", "", GPU, 0, 0, handle))


def test_a_device_that_computes_wrongly_is_refused_by_its_name(
    engine: OnnxEngine, tiny_onnx: Path, monkeypatch
) -> None:
    monkeypatch.setattr(SelfTest, "deviation", lambda *_: 1.8)
    engine.where = "webgpu (a card, GPU) computes what it has operators for: asked for"
    with pytest.raises(WorkError, match=r"off by 1\.8 .* webgpu computes it wrongly") as refused:
        run_self_test(graph_file(tiny_onnx), engine)
    assert refused.value.next_command == "the same with --device cpu"


def test_one_sequence_at_a_time_writes_what_an_engine_writes(engine: OnnxEngine, monkeypatch) -> None:
    requests = [Request(IDS[:end], 12) for end in (5, 24, 11)]
    expected = [engine.generate(each.prompt_ids, 12).token_ids for each in requests]
    monkeypatch.setattr(engine, "batch", lambda places, room: SingleBatch(engine, room))
    with contextlib.closing(Scheduler(engine)) as scheduler:
        found = [future.result().token_ids for future in [scheduler.submit(each) for each in requests]]
    assert found == expected


def test_beams_need_rows(engine: OnnxEngine, monkeypatch) -> None:
    monkeypatch.setattr(engine, "batch", lambda places, room: SingleBatch(engine, room))
    with contextlib.closing(Scheduler(engine)) as scheduler, pytest.raises(RequestError, match="room for 1 of 4 beams"):
        scheduler.submit(replace(Request(IDS, 12), beam=4)).result()


@pytest.fixture(scope="module")
def webgpu() -> Device:
    """A device that WebGPU can use, if only a driver that computes on the processor."""
    os.environ["ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"] = "1"
    try:
        return find_onnx_device("webgpu")
    except RequestError as error:
        pytest.skip(f"{error.sentence} {error.next_command}")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that gives the default model with a quarter of its experts as an ONNX folder."""
    from export.onnx import export_onnx
    from prune.rewrite import prune
    from tests.prune.test_cut import plan_for

    home = tmp_path_factory.mktemp("small")
    prune(ROOT / "models" / "default", plan_for(ROOT / "models" / "default", *[[*range(8)]] * 6), home / "checkpoint")
    return lambda kind: export_onnx(home / "checkpoint", home / kind, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_webgpu_computes_what_the_processor_computes(kind: str, small: Any, webgpu: Device) -> None:
    folder = small(kind)
    try:
        on_device = OnnxEngine(folder, 1, 64, device=webgpu)  # loading runs the self-test, prefill and steps
    except WorkError as error:
        if "adapter" not in error.sentence:
            raise
        pytest.skip(f"{error.sentence} apt-get install -t bookworm-backports mesa-vulkan-drivers")
    with contextlib.closing(on_device), contextlib.closing(OnnxEngine(folder, 1, 64)) as engine:
        bar = SelfTest.load(self_test_file(graph_file(folder))).tolerance
        prompt = engine.encode(engine.template.prompt(Pair("en", "de"), "Save the file."))
        ours, theirs = on_device.logits(prompt), engine.logits(prompt)
        assert np.median(np.sqrt(((ours - theirs) ** 2).mean(1)) / theirs.std(1)) < bar
        on_device._start(8)  # a cache that is too small: it grows
        written = engine.generate(prompt, 8).token_ids
        steps, expected = (each.decoded_logits(prompt, written) for each in (on_device, engine))
        assert np.median(np.sqrt(((steps - expected) ** 2).mean(1)) / expected.std(1)) < bar
        assert on_device.on_device["backend"] == "WebGPU" and on_device.where.startswith("webgpu (")
        assert on_device.buffers.keys() == {"weights_bytes"}
