"""A model in part on another device computes what it computes on the processor, and lies where it is said to lie.

An RPC server on this machine stands for the device: the same library in another process. What is measured here is where
weights go and that results stay, never a speed.
"""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.gguf import export_gguf
from runtime.engines import Offload, devices, llama_library, open_engine
from runtime.engines.llama import LlamaEngine
from runtime.engines.offload import ON_CPU
from runtime.engines.split import gguf_bytes, plan_split, split_bytes
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.llama_paths import library_folder

IDS = [3, 9, 27, 81, 14, 5, 66, 120, 7, 7, 31]
BAR = 1e-5  # of the largest logit difference over the logits' spread: float32, added up in another order at most


@pytest.fixture(scope="module")
def gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "F32")


@contextlib.contextmanager
def _served(limit: int | None = None) -> Iterator[str]:
    """The name of a device in another process, which may take ``limit`` bytes of address space more."""
    server = library_folder() / "ggml-rpc-server"
    if not server.exists():
        pytest.skip("ggml-rpc-server was not built with this llama.cpp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [server, "-H", "127.0.0.1", "-p", str(port), "-t", "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert child.stdout
        for line in child.stdout:  # until it listens
            if b"transport" in line or b"listen" in line.lower():
                break
        yield f"rpc://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


@pytest.fixture(scope="module")
def device() -> Iterator[str]:
    with _served() as name:
        yield name


@pytest.fixture(scope="module")
def reference(gguf: Path) -> np.ndarray:
    with contextlib.closing(LlamaEngine(gguf, 1, 64, True, offload=ON_CPU)) as engine:
        return engine.logits(IDS)


def test_print(device, gguf):
    for a in ((device,"all",0),(device,"all","all"),(device,3,0)):
        e=LlamaEngine(gguf,1,64,True,offload=Offload(*a)); print(e.where,e.on_device,e.buffers,dict(llama_library.buffers)); e.close()
