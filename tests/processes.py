"""Other processes beside a test: the slimmoe command in several, and a device of llama.cpp's in one."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_slimmoe(*arguments: str, processes: int) -> subprocess.CompletedProcess[str]:
    """Run the command on the processor, under torchrun where it is in more than one process of one thread each."""
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m")
    module = (*torchrun, "slimmoe") if processes > 1 else ("slimmoe",)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = (sys.executable, "-m", *module, *arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@contextlib.contextmanager
def rpc_server(program: Path) -> Iterator[tuple[str, int]]:
    """The address of llama.cpp's RPC server on this machine, with one thread, and the id of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-H", "127.0.0.1", "-p", str(port), "-t", "1"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while child.poll() is None:  # until it listens, some hundredths of a second
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                break
        yield f"127.0.0.1:{port}", child.pid
    finally:
        child.kill()
        child.wait()
