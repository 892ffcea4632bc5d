"""The slimmoe command in a process of its own that starts in no time: forked from one that has imported it.

``python -m tests.warm_command`` is that one: for each line of JSON on its standard input it forks a command, and answers
how it ended.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MODULES = [
    "slimmoe.cli", "slimmoe.api", "slimmoe.runs", "slimmoe.sweep", "slimmoe.doctor", "prune.checkpoint", "prune.hub",
    "prune.calibrate.from_checkpoint", "prune.calibrate.from_gguf", "prune.calibrate.imatrix", "prune.recovery.recover",
    "prune.rewrite", "prune.trials.search", "export.capabilities", "export.fit", "export.onnx", "export.gguf",
    "export.verify", "runtime.engines.onnx", "runtime.engines.llama", "runtime.measure.bench_limited", "runtime.report",
    "runtime.measure.compare", "rich.progress", "safetensors.torch", "tokenizers", "transformers.models.auto",
]  # fmt: skip
MOST_MEMORY = 2 << 30  # beyond what it has at its start, for the sake of the machine


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        status: None where it was ended after its time; negative: the signal that ended it.
        seconds: of the processor, of it and its children.
        grown: bytes of memory that it held at most beyond those of the process it was forked from.
    """

    status: int | None
    output: str
    errors: str
    seconds: float
    grown: int


def _main(words: list[str], streams: list[str], folder: str | None, variables: dict[str, str]) -> None:
    """In the forked process: the command and what it does at its end, but not the interpreter's slow one."""
    status = 1
    try:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_MEMORY, resource.RLIM_INFINITY))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(streams, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.environ.update(variables)
        if folder is not None:
            os.chdir(folder)
        from slimmoe.cli import main

        sys.argv = ["slimmoe", *words]
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _parse_once() -> None:
    """All verbs are imported, and what parses options, which is when they are first parsed."""
    from runtime.errors import SlimmoeError
    from slimmoe.cli import app_of

    with contextlib.suppress(SlimmoeError):
        app_of()(["translate", "/nowhere.gguf"], standalone_mode=False)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in _MODULES:
        importlib.import_module(name)
    _parse_once()
    atexit._clear()  # of what was imported, which takes its time; a command's own are run at its end
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()  # else a collection in a fork would copy all pages
    for line in sys.stdin:
        order = json.loads(line)
        told, tell = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(tell, str(_resident()).encode())
            _main(order["words"], order["streams"], order["folder"], order["variables"])
        timer = threading.Timer(order["seconds"], os.kill, (pid, signal.SIGKILL))
        timer.start()
        _, status, used = os.wait4(pid, 0)
        late = not timer.is_alive()
        timer.cancel()
        before = int(os.read(told, 20))
        os.close(told)
        os.close(tell)
        ended = {"status": None if late else os.waitstatus_to_exitcode(status)}
        ended |= {"seconds": used.ru_utime + used.ru_stime, "grown": max(0, used.ru_maxrss * 1024 - before)}
        print(json.dumps(ended), file=answers, flush=True)


@cache
def _server() -> Any:
    command = [sys.executable, "-m", "tests.warm_command"]
    server = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.kill)
    return server


def run_command(
    *arguments: str | Path, seconds: float, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> Finished:
    """Run it for at most ``seconds``, in ``folder`` and with ``variables`` of the environment."""
    with tempfile.TemporaryDirectory() as scratch:
        streams = [Path(scratch) / "stdout", Path(scratch) / "stderr"]
        for path in streams:
            path.write_bytes(b"")
        order = {"words": [*map(os.fspath, arguments)], "streams": [*map(str, streams)], "seconds": seconds}
        order |= {"folder": folder and str(folder), "variables": {**(variables or {})}}
        server = _server()
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        ended = json.loads(server.stdout.readline())
        output, errors = (path.read_text(encoding="utf-8", errors="replace") for path in streams)
    return Finished(ended["status"], output, errors, ended["seconds"], ended["grown"])


if __name__ == "__main__":
    _serve()
