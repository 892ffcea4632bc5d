"""An artefact within memory limits: does it fit, does it thrash, or is it killed?"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.artefact import files_of
from runtime.measure.bench import child, parse_child_output
from runtime.measure.memory import parse_memory
from runtime.measure.memory_limit import RLIMIT_NOTE, Outcome, run
from runtime.measure.rows import Row
from runtime.measure.speed import PROMPT, WRITE

PATIENCE = 10  # times as long as without a limit; then a run is ended
LEAST_SECONDS = 60  # but not sooner: of a small model's few seconds most are starting and loading
THRASHES_BELOW = 0.5  # of the unlimited throughput: more time goes into waiting for the disk than into work
ENDED_NOTE = (
    f"A run is ended after {PATIENCE} times as long as without a limit, and after {LEAST_SECONDS} s at the soonest."
)
_OF_ARTEFACT = (
    "format", "artefact", "type", "provenance", "pair", "size_bytes", "machine", "python", "engine", "threads",
)  # fmt: skip


def parse_limits(texts: Sequence[str]) -> list[int]:
    """Bytes of each limit.

    Raises:
        RequestError: one is no size of memory, or this system cannot limit memory.
    """
    if texts and sys.platform != "linux":
        raise RequestError("Memory can be limited on Linux only; without --memory-limit it is measured everywhere.")
    return [parse_memory(text, "slimmoe bench ARTEFACT --memory-limit 2GiB -o FILE") for text in texts]


def patience(unlimited: float) -> float:
    """Seconds after which a limited run is ended, from those of the unlimited one."""
    return max(LEAST_SECONDS, PATIENCE * unlimited)


def _seconds(timed: dict[str, Any]) -> float:
    """For the prompt and the tokens after it."""
    return PROMPT / timed["prefill_tokens_per_second"] + WRITE / timed["decode_tokens_per_second"]


def _limited_row(outcome: Outcome, free: dict[str, Any], artefact: Path) -> dict[str, Any]:
    """What a limited run adds to a row.

    Raises:
        WorkError: it failed, and not for want of memory.
    """
    timed = {} if outcome.killed or outcome.stopped else parse_child_output(outcome, artefact)
    notes = [RLIMIT_NOTE] * (outcome.method == "RLIMIT_DATA") + [ENDED_NOTE] * outcome.stopped
    share = round(_seconds(free) / _seconds(timed), 3) if timed else None
    verdict = "killed" if outcome.killed else "thrashes" if share is None or share < THRASHES_BELOW else "fits"
    found = {
        "limit_method": outcome.method,
        "verdict": verdict,
        "throughput_share": share,
        "refaults": outcome.refaults,
        "limit_note": " ".join(notes) or None,
    }
    return outcome.memory.row() | timed | {key: value for key, value in found.items() if value is not None}


def bench_limited(row: Row, limits: Sequence[int]) -> list[Row]:
    """Time an artefact within each limit, loading included in what must fit, from a cold page cache.

    Speed is compared with a run of the same kind without a limit right before: what else the machine does changes with
    the minutes, and the row's own speed is older.

    Args:
        row: of the artefact, as ``bench`` returned it.
        limits: bytes.

    Returns:
        a row for each limit, with what the row says of the artefact and the machine, ``memory_limit_bytes``,
        ``limit_method``, ``verdict``, ``throughput_share`` (tokens/s of prompt and translation together over those
        without a limit), ``refaults``, ``limit_note``, and the speed and memory of this run. No speed where it was
        killed or ended.

    Raises:
        WorkError: a run failed, and not for want of memory.
    """
    artefact = Path(row["artefact"])
    command = [*child("runtime.measure.speed", artefact, row["pair"], threads=row["threads"]), "--alone"]
    files = files_of(artefact)
    rows: list[Row] = []
    for limit in limits:
        unlimited = run(command, files=files)
        free = parse_child_output(unlimited, artefact)
        outcome = run(command, limit, files, patience(unlimited.seconds))
        about: Any = {key: row[key] for key in _OF_ARTEFACT} | {"memory_limit_bytes": limit}
        rows.append(about | _limited_row(outcome, free, artefact))
    return rows
