"""Memory of a running process: anonymous and file-backed pages apart, because only the first cannot be dropped."""

import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes. On Linux these are proportional set sizes; elsewhere the resident set counts as anonymous."""

    total: int
    anonymous: int
    file: int


def read_memory(pid: int) -> Memory:
    """Memory of a process now (Linux: /proc/PID/smaps_rollup, proportional set size)."""
    if sys.platform != "linux":
        resident = psutil.Process(pid).memory_info().rss
        return Memory(resident, resident, 0)
    kilobytes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        kilobytes[name] = int(value.split()[0])
    anonymous, total = kilobytes.get("Pss_Anon", kilobytes["Anonymous"]), kilobytes["Pss"]
    return Memory(total * 1024, anonymous * 1024, (total - anonymous) * 1024)


class PeakMemory:
    """Samples a process until it ends; ``peak`` holds the greatest values seen, each on its own."""

    def __init__(self, pid: int, interval: float = 0.05) -> None:
        self._pid, self._interval = pid, interval
        self._stop = threading.Event()
        self.peak = Memory(0, 0, 0)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                now = read_memory(self._pid)
            except (OSError, KeyError, psutil.Error):
                return  # the process has ended
            then = self.peak
            self.peak = Memory(max(now.total, then.total), max(now.anonymous, then.anonymous), max(now.file, then.file))
            self._stop.wait(self._interval)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
