"""One server for all tests that change nothing of it: the tiny model in float32, where a batch changes no word."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.serving import Client, serving
from tests.tiny import write_chain_checkpoint


@pytest.fixture(scope="session")
def graph(tiny_onnx: Path) -> Path:
    return tiny_onnx / "onnx" / "model.onnx"


@pytest.fixture(scope="session")
def client(graph: Path) -> Iterator[Client]:
    with serving(graph) as client:
        yield client


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A model that says "die." to everything, and "und." where a glossary wants it."""
    from export.onnx import export_onnx

    folder = tmp_path_factory.mktemp("speaker")
    next_ones = {"<|assistant|>": {" die": 1, " und": 0.8}, " die": {".": 1}, " und": {".": 1}, ".": {"<|end|>": 1}}
    with serving(
        export_onnx(write_chain_checkpoint(folder / "model", next_ones), folder / "onnx-folder", "none")
    ) as client:
        yield client
