"""A model in part on another device computes what it computes on the processor, and lies where it is said to lie.

An RPC server on this machine stands for the device: the same library in another process. What is measured here is where
weights go and that results stay, never a speed.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import slimmoe
from export.gguf import export_gguf
from runtime.engines import Offload, devices, open_engine
from runtime.engines.llama import LlamaEngine
from runtime.engines.offload import ON_CPU
from runtime.engines.split import Count, GraphBytes, LayerBytes, ModelBytes, gguf_bytes, plan_split, split_bytes
from runtime.errors import RequestError
from runtime.formats.gguf_file import GgufFile
from runtime.llama_paths import library_folder
from tests.processes import rpc_server

IDS = [3, 9, 27, 81, 14, 5, 66, 120, 7, 7, 31]
BAR = 1e-5  # of the largest logit difference over the logits' spread: float32, added up in another order at most


@pytest.fixture(scope="module")
def gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "F32")


@contextlib.contextmanager
def _served() -> Iterator[tuple[str, int]]:
    """The name of a device in another process, and the id of that process."""
    server = library_folder() / "ggml-rpc-server"
    if not server.exists():
        pytest.skip("ggml-rpc-server was not built with this llama.cpp")
    with rpc_server(server) as (address, process):
        yield f"rpc://{address}", process


@pytest.fixture(scope="module")
def device() -> Iterator[str]:
    with _served() as (name, _):
        yield name


@pytest.fixture(scope="module")
def reference(gguf: Path) -> np.ndarray:
    with contextlib.closing(LlamaEngine(gguf, 1, 64, True, offload=ON_CPU)) as engine:
        return engine.logits(IDS)


@pytest.mark.parametrize(("layers", "experts"), [("all", 0), ("all", "all"), ("all", 1), (2, 0)])
def test_a_split_model_computes_the_same_and_lies_where_it_is_planned(
    gguf: Path, device: str, reference: np.ndarray, layers: Count, experts: Count
) -> None:
    with contextlib.closing(LlamaEngine(gguf, 1, 256, True, offload=Offload(device, layers, experts))) as engine:
        found, told, buffers = engine.logits(IDS), engine.on_device, engine.buffers
    assert np.abs(found - reference).max() < BAR * reference.std()
    model = gguf_bytes(GgufFile(gguf), 256, 4)
    planned = plan_split(model, 0, layers, experts)
    there = told["device_weights_bytes"] + told["device_kv_cache_bytes"]
    here = buffers["weights_bytes"] + buffers.get("kv_cache_bytes", 0)
    assert there == pytest.approx(
        planned.device_bytes - model.graph.whole, rel=0.01
    )  # llama.cpp logs hundredths of MiB
    assert here == pytest.approx(
        planned.host_bytes - model.graph.beside(bool(planned.cpu_experts or layers == 2)), rel=0.01
    )
    assert (told["backend"], told["gpu_layers"]) == ("RPC", 3 if layers == "all" else layers)


def test_where_a_device_has_less_memory_than_it_says_less_is_put_there(gguf: Path, reference: np.ndarray) -> None:
    with _served() as (device, process):
        devices.find_device(device)
        taken = int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
        room = taken + gguf.stat().st_size // 2
        resource.prlimit(process, resource.RLIMIT_AS, (room, room))
        with contextlib.closing(LlamaEngine(gguf, 1, 256, True, offload=Offload(device))) as engine:
            found, told = engine.logits(IDS), engine.where
    assert np.abs(found - reference).max() < BAR * reference.std()
    assert "more could not be had" in told and "all of it:" not in told


def test_python_says_where_as_the_command_does(gguf: Path, device: str) -> None:
    with contextlib.closing(slimmoe.open_engine(gguf, 1, device=device, gpu_layers=2, cpu_experts="all")) as engine:
        assert "has 2 of 3 layers but the experts of 1 layer" in engine.where
    with slimmoe.Translator(gguf, "en-de", device="cpu") as translator:
        assert len(list(translator.translate(["Save the file."]))) == 1
    with pytest.raises(RequestError):
        slimmoe.Translator(gguf, "en-de", device="no-such-device")


def test_another_process_is_no_gpu(gguf: Path, device: str) -> None:
    known = devices.find_device(device)
    assert not known.is_gpu
    if not any(each.is_gpu for each in devices.find_devices()):
        with contextlib.closing(open_engine(gguf, 1)) as engine:
            assert (engine.where, engine.on_device) == ("", {})


def test_an_automatic_split_says_what_it_takes(gguf: Path, device: str) -> None:
    with contextlib.closing(open_engine(gguf, 1, offload=Offload(device))) as engine:
        assert "all of it" in engine.where
        assert "MB free" in engine.where


@pytest.mark.parametrize("asked", [Offload("no-such-device"), Offload("cpu", "all")])
def test_what_no_device_can_do_is_refused(gguf: Path, asked: Offload) -> None:
    with pytest.raises(RequestError) as refused:
        open_engine(gguf, 1, offload=asked)
    assert refused.value.next_command == "slimmoe devices"


@pytest.mark.parametrize("typed", ["-1", "many", "1.5", ""])
def test_a_number_of_layers_is_one(typed: str) -> None:
    with pytest.raises(RequestError, match="a number, all or auto"):
        Offload.parse("auto", typed, "auto")


def test_the_short_form_agrees_with_the_long_one_or_is_refused() -> None:
    assert (
        Offload.parse("auto", "3", "all", True) == Offload.parse("auto", "3", "auto", True) == Offload("auto", 3, "all")
    )
    with pytest.raises(RequestError, match="--cpu-experts 3 is given too"):
        Offload.parse("auto", "auto", "3", True)


def test_experts_leave_a_device_before_layers_do() -> None:
    graph = GraphBytes(hidden=1, logits=10, masks=1, experts=4)
    model = ModelBytes(tuple(LayerBytes(experts=100, other=10, cache=1) for _ in range(4)), 20, 30, graph)
    whole = split_bytes(model, 5, 0)
    assert whole.is_whole
    assert whole.device_bytes == 4 * 111 + 20 + 11
    assert whole.host_bytes == 30 + 2
    assert plan_split(model, whole.device_bytes) == whole
    less = plan_split(model, whole.device_bytes - 1)
    assert (less.gpu_layers, less.cpu_experts, less.device_bytes) == (5, 1, whole.device_bytes - 100)
    assert less.host_bytes == whole.host_bytes + 100 + 4  # the experts of one layer, and what they compute
    none = plan_split(model, 74)  # one byte less than all layers without experts
    assert (none.gpu_layers, none.cpu_experts, none.device_bytes) == (4, 3, 3 * 11 + 20 + 11)
    assert plan_split(model, 10).gpu_layers == 0
