"""What the command is to its terminal: text in UTF-8, signals that end it cleanly, warnings of one line, a quick end."""

import atexit
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from runtime.errors import as_typed

ENDING = [each for each in ("SIGTERM", "SIGHUP") if hasattr(signal, each)]


class _AsTyped(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return as_typed(super().format(record))


def prepare() -> None:
    """Standard output and errors in UTF-8 whatever the locale; warnings without what a terminal would obey."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if isinstance(logging.lastResort, logging.Handler):
        logging.lastResort.setFormatter(_AsTyped())


@contextlib.contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Within it, SIGTERM and a closed terminal end the work as Ctrl-C does; yields the signal that came, in a list.

    One that is ignored, as under nohup, stays so. What cleans up is not disturbed by a second one.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    taken = [each for each in (getattr(signal, name) for name in ENDING) if signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, end)
    try:
        yield came
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def leave(end: SystemExit) -> None:
    """End the process without the interpreter's teardown of all modules, which takes 50 ms of processor time.

    What waits for the end is done: functions of ``atexit``, buffered output.

    Raises:
        SystemExit: ``end``, for the interpreter: a thread still works, or the output has nobody who reads it.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if not isinstance(end.code, int | None) or any(not thread.daemon for thread in others):
        raise end
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before the start
            stream.flush()
    except (OSError, ValueError):
        raise end from None
    os._exit(end.code or 0)
