"""Counters of a server, in the text format of Prometheus (its documentation: exposition formats)."""

import threading
import time
from collections import Counter, deque

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds
RECENT = 10.0  # seconds with requests under way that the speed is told of


class Metrics:
    """What was asked and written so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._slower: Counter[float] = Counter()
        self._count, self._seconds = 0, 0.0
        self.read = self.written = 0
        self._recent: deque[tuple[float, int]] = deque()  # busy seconds and tokens
        self._under_way, self._busy, self._since = 0, 0.0, 0.0

    def request(self, route: str, status: int, seconds: float) -> None:
        """One was answered."""
        with self._lock:
            self._requests[route, status] += 1
            self._count += 1
            self._seconds += seconds
            self._slower.update(bucket for bucket in BUCKETS if seconds <= bucket)

    def begin(self) -> None:
        """A request is under way."""
        with self._lock:
            if not self._under_way:
                self._since = time.monotonic()
            self._under_way += 1

    def end(self) -> None:
        """It no longer is."""
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self._busy += time.monotonic() - self._since

    def _clock(self) -> float:
        """Seconds in which requests were under way."""
        return self._busy + (time.monotonic() - self._since if self._under_way else 0.0)

    def tokens(self, read: int, written: int) -> None:
        """So many were read and written for a sentence."""
        with self._lock:
            self.read += read
            self.written += written
            self._recent.append((self._clock(), written))
            while self._recent[0][0] < self._clock() - RECENT:
                self._recent.popleft()

    def speed(self) -> float:
        """Tokens written a second, of late, while requests were under way; 0 before the first."""
        with self._lock:
            now = self._clock()
            written = sum(count for at, count in self._recent if at > now - RECENT)
        return written / min(now, RECENT) if now else 0.0

    def text(self, gauges: dict[str, float]) -> str:
        """All of them; ``gauges`` are values of this moment, by their names without ``slimmoe_``."""
        with self._lock:
            lines = ["# TYPE slimmoe_requests_total counter"]
            lines += [
                f'slimmoe_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self._requests.items())
            ]
            lines.append("# TYPE slimmoe_request_seconds histogram")
            lines += [f'slimmoe_request_seconds_bucket{{le="{each}"}} {self._slower[each]}' for each in BUCKETS]
            lines.append(f'slimmoe_request_seconds_bucket{{le="+Inf"}} {self._count}')
            lines += [
                f"slimmoe_request_seconds_sum {self._seconds:.6f}",
                f"slimmoe_request_seconds_count {self._count}",
            ]
            for name, value in (("read", self.read), ("written", self.written)):
                lines += [f"# TYPE slimmoe_tokens_{name}_total counter", f"slimmoe_tokens_{name}_total {value}"]
        for name, value in gauges.items():
            lines += [f"# TYPE slimmoe_{name} gauge", f"slimmoe_{name} {value:g}"]
        return "\n".join(lines) + "\n"
