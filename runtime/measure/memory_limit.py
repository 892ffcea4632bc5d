"""Run a program with less memory than the machine has: in a memory cgroup, or with RLIMIT_DATA where none can be made.

A cgroup is the true test: it counts anonymous memory and the page cache of files alike, as a small machine would. The
kernel documents both versions: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.machine import Group, cgroup_of
from runtime.measure.memory import PeakMemory
from runtime.processes import ends_with_us

RLIMIT_NOTE = (
    "No memory cgroup can be made here. RLIMIT_DATA limits anonymous memory alone: mapped files and the page cache are "
    "free under it, so a model that it lets run may still thrash on a machine of that size."
)
_REFUSED = re.compile(r"MemoryError|bad_alloc|(failed|unable) to allocate|out of memory|cannot allocate", re.IGNORECASE)
# sh enters the group itself before it becomes the program, so that not a byte is counted elsewhere.
_ENTER = 'echo $$ > "$0" && exec "$@"'
_RLIMIT = 'ulimit -d "$0" && exec "$@"'


def drop_cache(files: Iterable[Path]) -> None:
    """Let the system forget what it holds of these files, as far as no other process has them mapped."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not yet written stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _make_group(limit: int) -> Group | None:
    """A new group below this process's own, or below the nearest one above it that may be written; None without any."""
    found = cgroup_of("memory")
    if found is None:
        return None
    version = found.version
    for parent in found.with_ancestors():
        try:
            group = Group(Path(tempfile.mkdtemp(prefix="slimmoe-", dir=parent)), version)
        except OSError:
            continue
        try:
            # Version 2 has the files only where the parent hands memory down to its children.
            if (group.folder / ("memory.limit_in_bytes" if version == 1 else "memory.max")).exists():
                group.set_limit(limit)
                entered = ["sh", "-c", _ENTER, str(group.folder / "cgroup.procs"), "true"]
                if not subprocess.run(entered, stderr=subprocess.DEVNULL).returncode:
                    return group
        except OSError:
            pass
        group.remove()
    return None


@contextlib.contextmanager
def limited(command: Sequence[str], limit: int) -> Iterator[tuple[list[str], Group | None]]:
    """The command that runs ``command`` with at most ``limit`` bytes, and its cgroup (None: RLIMIT_DATA it is).

    The group is gone when the block ends, and so is what still runs in it. On Linux alone.
    """
    group = _make_group(limit)
    if group is None:
        yield ["sh", "-c", _RLIMIT, str(limit // 1024), *command], None
        return
    try:
        yield ["sh", "-c", _ENTER, str(group.folder / "cgroup.procs"), *command], group
    finally:
        group.remove()


@dataclass(frozen=True)
class Outcome:
    """How a child process ended, and the memory it was seen with.

    Attributes:
        status: its exit status; minus the signal that ended it.
        stopped: it was ended here because its time was over.
        killed: it failed for want of memory: the kernel ended it, it crashed, or it said so. Only said of a limited run.
        method: what limited it: "cgroup v1", "cgroup v2", "RLIMIT_DATA", or "".
        refaults: see ``Group``; None without a group.
    """

    status: int
    output: str
    errors: str
    seconds: float
    memory: PeakMemory
    stopped: bool = False
    killed: bool = False
    method: str = ""
    refaults: int | None = None


def _run(command: Sequence[str], seconds: float | None) -> Outcome:
    started, stopped = time.perf_counter(), False
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"}, **ends_with_us(),
    )  # fmt: skip
    try:
        with PeakMemory(child.pid) as memory:
            try:
                output, errors = child.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                stopped = True
                child.kill()
                output, errors = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    return Outcome(child.returncode, output, errors, time.perf_counter() - started, memory, stopped)


def run(
    command: Sequence[str], limit: int | None = None, files: Iterable[Path] = (), seconds: float | None = None
) -> Outcome:
    """Run a program to its end.

    Args:
        limit: bytes of memory it may use.
        files: of which the page cache is dropped first, since a group pays only for what it is the first to read.
        seconds: after which it is ended.
    """
    drop_cache(files)
    if limit is None:
        return _run(command, seconds)
    with limited(command, limit) as (wrapped, group):
        outcome = _run(wrapped, seconds)
        crashed = outcome.status < 0 or bool(group and group.oom_kills()) or bool(_REFUSED.search(outcome.errors))
        return replace(
            outcome,
            killed=outcome.status != 0 and not outcome.stopped and crashed,
            method=f"cgroup v{group.version}" if group else "RLIMIT_DATA",
            refaults=group.refaults() if group else None,
        )
