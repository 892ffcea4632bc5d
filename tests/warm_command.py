"""The slimmoe command in a process of its own that starts in no time: forked from one that has imported it."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_MODULES = ["slimmoe.cli", "prune.checkpoint", "export.capabilities", "export.fit", "export.onnx", "export.gguf"]


@dataclass(frozen=True)
class Finished:
    status: int | None  # None: it was ended after its time
    output: str
    errors: str
    seconds: float


def _main(arguments: list[str], streams: tuple[str, str]) -> None:
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    from slimmoe.cli import main

    sys.argv = ["slimmoe", *arguments]
    main()


def run_command(*arguments: str, seconds: float) -> Finished:
    """Run it for at most ``seconds``."""
    with tempfile.TemporaryDirectory() as scratch:
        return _run(arguments, Path(scratch), seconds)


def _run(arguments: tuple[str, ...], scratch: Path, seconds: float) -> Finished:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    streams = str(scratch / "stdout"), str(scratch / "stderr")
    for path in streams:
        Path(path).write_bytes(b"")
    process = context.Process(target=_main, args=([*map(str, arguments)], streams))
    started = time.monotonic()
    process.start()
    process.join(seconds)
    took = time.monotonic() - started
    status = process.exitcode
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    output, errors = (Path(path).read_text(encoding="utf-8", errors="replace") for path in streams)
    return Finished(status, output, errors, took)
