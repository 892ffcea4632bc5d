"""What this machine has: processor, cores this process may use, memory left, and the cgroups that limit both."""

import contextlib
import math
import os
import platform
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc/self")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space in a path of /proc/self/mountinfo


def _allowed_cores() -> set[int]:
    """Numbers of the cores that the scheduler may put this process on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine's under taskset and in a container with a CPU quota."""
    return max(1, int(min(len(_allowed_cores()), _cpu_quota())))


def _cpu_quota() -> float:
    """Cores' worth of time that the cgroups of this process allow; infinite without a limit.

    Linux: Documentation/scheduler/sched-bwc.rst (version 1) and admin-guide/cgroup-v2.rst, ``cpu.max``.
    """
    found = cgroup_of("cpu")
    if found is None:
        return math.inf
    quotas = [math.inf]
    for folder in found.with_ancestors():
        with contextlib.suppress(OSError, ValueError):  # the root has no files for it; "max" is no number
            if found.version == 1:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            else:
                quota, period = (folder / "cpu.max").read_text().split()
            if int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas)


def _cpu_seconds() -> tuple[float, float]:
    """Seconds that the cores this process may use were busy since boot, and those that it and its ended children took."""
    times, busy = psutil.cpu_times(percpu=True), ("user", "nice", "system", "irq", "softirq", "steal")
    cores = [each for number, each in enumerate(times) if number in _allowed_cores()]
    return sum(getattr(core, name, 0.0) for core in cores for name in busy), sum(os.times()[:4])


class OtherLoad:
    """What other processes do while a block runs. The children that it starts must have ended with it.

    Attributes:
        cores: how many of the cores that this process may use the others kept busy, on average.
        share: the same as a share of these cores, 0 to 1.
    """

    cores = share = 0.0

    def __enter__(self) -> "OtherLoad":
        self._started, self._before = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *exception: object) -> None:
        seconds, (busy, own) = time.perf_counter() - self._started, _cpu_seconds()
        others = (busy - self._before[0]) - (own - self._before[1])
        count = len(_allowed_cores())
        self.cores = min(max(others / max(seconds, 1e-9), 0.0), count)
        self.share = self.cores / count


def free_cores(seconds: float = 0.05) -> int:
    """Usable cores less those that other processes keep busy, which is looked at for so long; at least one."""
    with OtherLoad() as others:
        time.sleep(seconds)
    return max(1, min(usable_cores(), len(_allowed_cores()) - round(others.cores)))


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
        """Bytes that anonymous memory may still grow by, files being dropped for it; None without a limit.

        Above memory.high nothing is killed, and everything is slowed down until it is as good as dead.
        """
        names, used = (
            (["memory.limit_in_bytes"], "total_rss") if self.version == 1 else (["memory.max", "memory.high"], "anon")
        )
        limits = []
        for name in names:
            with contextlib.suppress(OSError, ValueError):  # the root of version 2 has none; "max" is no number
                limits.append(int((self.folder / name).read_text()))
        try:
            taken = self._count("memory.stat", used)
        except (OSError, ValueError):  # not for this user
            return None
        return None if not limits or taken is None else max(0, min(limits) - taken)

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


@dataclass(frozen=True)
class Cgroup:
    """This process's cgroup of one controller: its folder below the controller's mount, and the version (1 or 2)."""

    mount: Path
    folder: Path
    version: int

    def with_ancestors(self) -> list[Path]:
        """The folder and those above it, whose limits hold for it too."""
        return [each for each in (self.folder, *self.folder.parents) if each.is_relative_to(self.mount)]


def cgroup_of(controller: str) -> Cgroup | None:
    """This process's cgroup of a controller (``memory``, ``cpu``); None where there is none."""
    try:
        groups = [line.split(":", 2) for line in (PROC / "cgroup").read_text().splitlines()]
        mounts = [line.split(" - ") for line in (PROC / "mountinfo").read_text().splitlines()]
    except OSError:
        return None
    old = next((path for _, names, path in groups if controller in names.split(",")), None)
    own = old or next((path for number, _, path in groups if number == "0"), None)
    for mount, system in mounts:
        kind, options = system.split()[0], system.split()[-1].split(",")
        if own is not None and (kind == "cgroup" and controller in options if old else kind == "cgroup2"):
            root, place = (_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), each) for each in mount.split()[3:5])
            below = os.path.relpath(own, root)  # in a container the mount may begin at the container's own group
            return Cgroup(Path(place), Path(place) / ("." if below.startswith("..") else below), 1 if old else 2)
    return None


def memory_left() -> int:
    """Bytes that this process may still take without swapping or being killed: what the machine and its cgroups have."""
    left, found = psutil.virtual_memory().available, cgroup_of("memory")
    if found:
        groups = [Group(each, found.version).left() for each in found.with_ancestors()]
        left = min([left, *(each for each in groups if each is not None)])
    return left
