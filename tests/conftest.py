"""Fixtures: a tiny random MoE checkpoint with a real tokenizer. No network, nothing outside the temporary folder."""

import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prune.families import families
from runtime import llama_paths

# Families that differ in all that matters to a cut and a file: softmax and sigmoid routers, groups, selection biases,
# shared experts, stacked and single experts, MXFP4, latent attention, delta nets, Mamba2, a vision wrapper.
REPRESENTATIVES = {
    *("deepseek_v3", "gemma4_text", "gpt_oss", "hy_v3", "nemotron_h", "qwen3_5_moe_text", "qwen3_moe"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for the processes that they start."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that goes over the families is slow for all but REPRESENTATIVES, unless it is marked ``every_family``."""
    others = {*families()} - REPRESENTATIVES
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()  # type: ignore[reportAttributeAccessIssue]
        of_another = not others.isdisjoint(value for value in parameters if isinstance(value, str))
        if of_another and not item.get_closest_marker("every_family"):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs remember and keep is kept out of the user's folders, and speeds are measured no longer than it takes."""
    os.environ["SLIMMOE_SPEED_SECONDS"] = "0"
    os.environ["SLIMMOE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["SLIMMOE_MODELS"] = str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", autouse=True)
def warm_converter() -> Iterator[None]:
    """Conversions to GGUF do not each import torch and llama.cpp's converter."""
    from tests.export.warm_converter import WarmConverter

    converting = importlib.import_module("export.gguf.convert")
    with WarmConverter(llama_paths.HOME / "source") as warm, pytest.MonkeyPatch.context() as patch:
        patch.setattr(converting, "run_tool", warm.run_tool)
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3-MoE in bf16: 2 layers, 8 experts, top-2, in several shards. Read only: copy before changing it."""
    from tests.tiny import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the default model's whole vocabulary. Read only."""
    from tests.tiny import DEFAULT, write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("wide") / "model", tokenizer=DEFAULT)


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_checkpoint`` as an ONNX folder with all variants. Read only: copy before changing it."""
    from export.onnx import export_onnx
    from runtime.formats.onnx_folder import FILES

    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    for quant in FILES:
        export_onnx(tiny_checkpoint, folder, quant)
    return folder


@pytest.fixture
def short_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbuffered files take at most 7 bytes at a time, as a system may."""

    class Short(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(memoryview(data)[:7])

    usual = Path.open

    def open_short(path: Path, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        return Short(path, mode) if mode == "wb" and buffering == 0 else usual(path, mode, buffering, *rest, **options)

    monkeypatch.setattr(Path, "open", open_short)
