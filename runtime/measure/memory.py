"""Memory of a running process: anonymous and file-backed pages apart, because only the first cannot be dropped."""

import contextlib
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from runtime.errors import RequestError

POINTS = 200  # of a series at most
SHARE = 0.05  # of the time, at most, goes into looking: the kernel walks every page for one look
_LINUX = sys.platform == "linux"
NOTE = (
    "Memory is the resident set, all of it counted as anonymous: this system does not tell pages of files apart, and "
    "counts shared pages in full."
)


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_MOST = 2**63 - 1  # bytes that a system can count


def parse_memory(text: str, next_command: str) -> int:
    """Bytes of ``8GiB``, ``8 GB``, ``500MiB`` or ``1.5g``.

    Raises:
        RequestError: not a size, less than a megabyte, or more than any machine has.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].lower()) if match else None
    size = 0 if match is None or unit is None else float(match[1]) * unit  # of too many digits: infinite
    if not 10**6 <= size <= _MOST:
        raise RequestError(
            f"{text!r} is not a size of memory, for example 8GiB, 8GB or 500MiB.", next_command=next_command
        )
    return round(size)


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
    if not _LINUX:
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
    if not _LINUX:
        return getattr(
            psutil.Process(pid).memory_info(), "pageins", None
        )  # macOS; Windows counts soft faults with them
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    return int(fields[9])


class Series:
    """Memory over time in at most POINTS points, however long it grows: each is the peak of as many samples."""

    def __init__(self) -> None:
        self.points: list[tuple[float, Memory]] = []  # seconds at the first of its samples, and their peaks
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
    """Samples a process until it ends: every 50 ms, or less often where a look takes long.

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
            looked = time.perf_counter()
            # It may have ended, or be about to become another program, which a shell does.
            with contextlib.suppress(OSError, KeyError, psutil.Error):
                now = read_memory(self._pid)
                self.major_faults = read_major_faults(self._pid)
                self.peak = self.peak.most(now)
                self.series.add(looked - started, now)
            self._stop.wait(max(self._interval, (time.perf_counter() - looked) / SHARE))

    def row(self) -> dict[str, Any]:
        """The keys of bench.jsonl that say it, in bytes; ``memory_note`` where the system falls short of Linux."""
        found = {
            "peak_bytes": self.peak.total,
            "peak_anonymous_bytes": self.peak.anonymous,
            "peak_file_bytes": self.peak.file if _LINUX else None,
            "major_faults": self.major_faults,
            "memory_series": self.series.rows(),
            "memory_note": None if _LINUX else NOTE,
        }
        return {key: value for key, value in found.items() if value is not None}

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
