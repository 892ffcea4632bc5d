"""Fixtures: a tiny random MoE checkpoint with a real tokenizer. No network, nothing outside the temporary folder."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3-MoE in bf16: 2 layers, 8 experts, top-2, in several shards. Read only: copy before changing it."""
    from tests.tiny import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_checkpoint`` as an ONNX folder with all three variants. Read only: copy before changing it."""
    from export.onnx import FILES, export_onnx

    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    for quant in FILES:
        export_onnx(tiny_checkpoint, folder, quant)
    return folder
