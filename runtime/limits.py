"""Does an artefact fit into a memory limit? Its speed within, as a share of its speed without."""

from pathlib import Path
from typing import Any

from runtime.artefact import files_of
from runtime.bench import child, printed
from runtime.memory_limit import RLIMIT_NOTE, THRASHES_BELOW, Outcome, run
from runtime.pairs import Pair

PATIENCE, LEAST_SECONDS = 10, 60  # a limited run may take so many times the unlimited one, and at least this long
_OF_ARTEFACT = (
    "artefact",
    "type",
    "provenance",
    "model",
    "pair",
    "size_bytes",
    "machine",
    "python",
    "engine",
    "threads",
)


def within(row: dict[str, Any], artefact: Path, pair: Pair, limits: list[int]) -> list[dict[str, Any]]:
    """One row for each limit.

    Args:
        row: what ``runtime.bench.bench`` returned for the artefact.
        limits: bytes.

    Returns:
        rows with ``memory_limit_bytes``, ``limit_method``, ``verdict`` and, unless it was killed, the speed:
        "killed" for want of memory; "thrashes", at less than half the decoding speed it has without a limit, or not done
        after ten times the time; "fits" otherwise. ``throughput_share`` is the share of that speed.

    Raises:
        WorkError: it fails without a limit, or within one for another reason than memory.
        RequestError: this system cannot limit memory.
    """
    if not limits:
        return []
    command = child("runtime.speed", artefact, pair, "--threads", row["threads"], "--alone")
    free = run(command)
    without = printed(free, artefact)
    patience = max(LEAST_SECONDS, PATIENCE * free.seconds)
    kept = {key: row[key] for key in _OF_ARTEFACT if key in row}
    found = []
    for limit in sorted(limits, reverse=True):
        outcome = run(command, limit, files_of(artefact), patience)
        found.append(kept | {"memory_limit_bytes": limit} | _judged(outcome, artefact, without, patience))
    return found


def _judged(outcome: Outcome, artefact: Path, without: dict[str, Any], patience: float) -> dict[str, Any]:
    peak, notes = outcome.memory.peak, [RLIMIT_NOTE] if outcome.method == "RLIMIT_DATA" else []
    told: dict[str, Any] = {
        "limit_method": outcome.method,
        "peak_bytes": peak.total,
        "peak_anonymous_bytes": peak.anonymous,
        "peak_file_bytes": peak.file,
        "major_faults": outcome.memory.major_faults,
        "refaults": outcome.refaults,
    }
    if outcome.killed:
        told["verdict"] = "killed"
    elif outcome.stopped:
        told["verdict"] = "thrashes"
        notes.append(f"ended after {patience:.0f} s, at less than a tenth of its speed without a limit")
    else:
        speed = printed(outcome, artefact)
        share = speed["decode_tokens_per_second"] / without["decode_tokens_per_second"]
        told |= speed | {
            "throughput_share": round(share, 3),
            "verdict": "fits" if share >= THRASHES_BELOW else "thrashes",
        }
    return told | ({"limit_note": "; ".join(notes)} if notes else {})
