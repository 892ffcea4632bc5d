"""Run a program with less memory than the machine has: in a memory cgroup, or where none may be made with RLIMIT_DATA;
and how much of it there is.

A cgroup is the true test: it counts anonymous memory and the page cache of files alike, as a small machine would. The
kernel documents both versions: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from runtime.memory import PeakMemory

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


@dataclass(frozen=True)
class Group:
    """A memory cgroup: its folder, and the version (1 or 2) that its files are of."""

    folder: Path
    version: int

    def set_limit(self, limit: int) -> None:
        """Limit memory to so many bytes, with no swap beyond."""
        old = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit, "memory.swappiness": 0}
        for name, value in (old if self.version == 1 else {"memory.max": limit, "memory.swap.max": 0}).items():
            if (self.folder / name).exists():  # a kernel without swap has no files for it
                (self.folder / name).write_text(str(value))

    def _count(self, file: str, *names: str) -> int | None:
        """The first of these counters that a file has."""
        counters = dict(line.rsplit(maxsplit=1) for line in (self.folder / file).read_text().splitlines())
        return next((int(counters[name]) for name in names if name in counters), None)

    def oom_kills(self) -> int:
        """Processes that the kernel killed for want of memory (0 where it does not count them: before Linux 4.13)."""
        return self._count("memory.oom_control" if self.version == 1 else "memory.events", "oom_kill") or 0

    def refaults(self) -> int | None:
        """Pages of files that were dropped and soon needed again; None where the kernel does not count them."""
        return self._count("memory.stat", "workingset_refault_file", "workingset_refault")

    def left(self) -> int | None:
        """Bytes that anonymous memory may still grow by, files being dropped for it; None without a limit."""
        limit, used = ("memory.limit_in_bytes", "total_rss") if self.version == 1 else ("memory.max", "anon")
        try:
            text, taken = (self.folder / limit).read_text().strip(), self._count("memory.stat", used)
        except OSError:  # the root of version 2 has neither
            return None
        return None if text == "max" or taken is None else max(0, int(text) - taken)

    def remove(self) -> None:
        """End what is left in it, and delete it."""
        for pid in (self.folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for _ in range(100):  # a killed process leaves it a moment later
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.05)
        self.folder.rmdir()


def _hierarchy() -> tuple[Path, Path, int] | None:
    """The mount of the memory controller, this process's own group below it, and the version."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    old = next((path for _, names, path in groups if "memory" in names.split(",")), None)
    own = old or next((path for number, _, path in groups if number == "0"), None)
    for mount, system in mounts:
        kind, options = system.split()[0], system.split()[-1].split(",")
        if own is not None and (kind == "cgroup" and "memory" in options if old else kind == "cgroup2"):
            root, place = mount.split()[3:5]
            below = os.path.relpath(own, root)  # in a container the mount may begin at the container's own group
            return Path(place), Path(place) / ("." if below.startswith("..") else below), 1 if old else 2
    return None


def memory_left() -> int:
    """Bytes that this process may still take without swapping or being killed: what the machine and its cgroups have."""
    left, found = psutil.virtual_memory().available, _hierarchy()
    if found:
        mount, own, version = found
        groups = [Group(each, version) for each in (own, *own.parents) if each.is_relative_to(mount)]
        left = min([left, *(each for each in (group.left() for group in groups) if each is not None)])
    return left


def _make_group(limit: int) -> Group | None:
    """A new group below this process's own, or below the nearest one above it that may be written; None without any."""
    found = _hierarchy()
    if found is None:
        return None
    mount, own, version = found
    for parent in (own, *own.parents):
        if not parent.is_relative_to(mount):
            return None
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
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
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
