"""Memory of a running process: anonymous and file-backed pages apart, because only the first cannot be dropped."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

POINTS = 200  # of a series at most
NOTE = (
    ""
    if sys.platform == "linux"
    else "The resident set counts as anonymous: this system does not tell pages of files, nor major faults, apart."
)


@dataclass(frozen=True)
class Memory:
    """Bytes. On Linux these are proportional set sizes; elsewhere the resident set counts as anonymous.

    ``anonymous`` includes memory shared with other processes, which cannot be dropped either.
    """

    total: int
    anonymous: int
    file: int

    def most(self, other: "Memory") -> "Memory":
        """The greater of each value, on its own."""
        return Memory(max(self.total, other.total), max(self.anonymous, other.anonymous), max(self.file, other.file))


def read_memory(pid: int) -> Memory:
    """Memory of a process now (Linux: /proc/PID/smaps_rollup, proportional set size)."""
    if sys.platform != "linux":
        resident = psutil.Process(pid).memory_info().rss
        return Memory(resident, resident, 0)
    kilobytes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        kilobytes[name] = int(value.split()[0])
    total = kilobytes["Pss"]
    file = kilobytes.get("Pss_File", total - kilobytes["Anonymous"])  # Pss_File: Linux 5.3 and newer
    return Memory(total * 1024, (total - file) * 1024, file * 1024)


def read_major_faults(pid: int) -> int | None:
    """Pages that a process had to wait for the disk for, since it began; None where the system does not say."""
    if sys.platform != "linux":
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    return int(fields[9])


class Series:
    """Memory over time in at most POINTS points, however long it grows: each is the peak of an equal stretch."""

    def __init__(self) -> None:
        self.points: list[tuple[float, Memory]] = []  # seconds when the stretch began, and its peaks
        self._stretch, self._added = 1, 0  # samples that a point stands for, and those seen so far

    def add(self, seconds: float, memory: Memory) -> None:
        if self._added % self._stretch:
            began, peak = self.points[-1]
            self.points[-1] = (began, peak.most(memory))
        else:
            if len(self.points) == POINTS:
                pairs = zip(self.points[::2], self.points[1::2], strict=True)
                self.points = [(began, first.most(second)) for (began, first), (_, second) in pairs]
                self._stretch *= 2
            self.points.append((seconds, memory))
        self._added += 1

    def rows(self) -> list[list[float]]:
        """``[seconds, anonymous bytes, file bytes]`` of each point."""
        return [[round(seconds, 2), memory.anonymous, memory.file] for seconds, memory in self.points]


class PeakMemory:
    """Samples a process until it ends.

    Attributes:
        peak: the greatest values seen, each on its own.
        series: memory over time.
        major_faults: of the process until the last sample; None where the system does not say.
    """

    def __init__(self, pid: int, interval: float = 0.05) -> None:
        self._pid, self._interval = pid, interval
        self._stop = threading.Event()
        self.peak = Memory(0, 0, 0)
        self.series = Series()
        self.major_faults: int | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        started = time.perf_counter()
        while not self._stop.is_set():
            try:
                now = read_memory(self._pid)
                self.major_faults = read_major_faults(self._pid)
            except (OSError, KeyError, psutil.Error):
                return  # the process has ended
            self.peak = self.peak.most(now)
            self.series.add(time.perf_counter() - started, now)
            self._stop.wait(self._interval)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
