"""What this machine has: processor, cores this process may use, memory left, and the memory cgroups that limit it."""

import contextlib
import os
import platform
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Cores that this process may use, which is fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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


def memory_hierarchy() -> tuple[Path, Path, int] | None:
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
    left, found = psutil.virtual_memory().available, memory_hierarchy()
    if found:
        mount, own, version = found
        groups = [Group(each, version) for each in (own, *own.parents) if each.is_relative_to(mount)]
        left = min([left, *(each for each in (group.left() for group in groups) if each is not None)])
    return left
