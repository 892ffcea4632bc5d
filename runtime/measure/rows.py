"""Rows of bench.jsonl: how they are read, what they are called, and which of them one line of a figure joins.

Only ``pair`` and ``artefact`` are in every row; older rows lack what was measured later, and a run that was killed has
no scores, no speed and no engine.
"""

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.files import new_file
from runtime.formats.provenance import FILE as PROVENANCE_FILE

Row = dict[str, Any]
_ENGINES = {"onnxruntime": "ONNX RT"}  # short enough for a table of 80 columns


@dataclass(frozen=True)
class Run:
    """What a run folder holds: rows of bench.jsonl, the plan, and verifications (both may be absent)."""

    rows: list[Row]
    plan: dict[str, Any]
    checks: list[dict[str, Any]]

    def pairs(self) -> list[str]:
        """Language pairs in the order of their first rows."""
        return list(dict.fromkeys(row.get("pair", "-") for row in self.rows))


def _parse(text: str, place: str, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise RequestError(f"{place} is not a JSON object.", next_command=remedy)
    return value


def _json_lines(path: Path) -> list[Row]:
    if not path.exists():
        return []
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
    return [
        _parse(line, f"Line {number} of {path}", f"sed -n {number}p {path}   (mend or delete it)")
        for number, line in lines
        if line.strip()
    ]


def finished_rows(path: Path) -> list[Row]:
    """The rows that a benchmark has written so far; none where there is no file.

    The last line may be half of one, if the process was killed while it wrote: it is left out.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write all rows anew, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def append_row(path: Path, row: Row) -> None:
    """Add a row; when this returns, it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _json(path: Path) -> dict[str, Any]:
    return _parse(path.read_text(encoding="utf-8"), str(path), f"rm {path}") if path.exists() else {}


def read_run(folder: Path) -> Run:
    """Read ``bench.jsonl``, ``plan.json`` and ``verify.json`` of a run folder.

    Raises:
        RequestError: no folder, nothing measured in it, or a line that is not a JSON object.
    """
    rows = _json_lines(folder / "bench.jsonl")
    if not rows:
        raise RequestError(
            f"{folder} holds no bench.jsonl.", next_command=f"slimmoe bench ARTEFACT -o {folder}/bench.jsonl"
        )
    plan = _json(folder / "plan.json") or _json(folder / "checkpoint" / PROVENANCE_FILE)
    return Run(rows, plan, _json(folder / "verify.json").get("checks", []))


def made(row: Row, key: str) -> Any:
    """A fact of how the artefact was made (``ratio``, ``recovered``, ``criterion``, ...), or None."""
    return (row.get("provenance") or {}).get(key)


def ratio(row: Row) -> float:
    """Share of the experts that are cut, 0 to 1."""
    return float(made(row, "ratio") or 0)


def is_dense(row: Row) -> bool:
    """Whether it is a peer without experts (benchmarks/dense.py), which nothing was cut from."""
    return bool(row.get("dense"))


def label(row: Row) -> str:
    """``unpruned``, or the share that was cut; of a dense peer its name."""
    if is_dense(row):
        return Path(row["artefact"]).name
    if not ratio(row):
        return "unpruned"
    return f"{ratio(row):.0%} cut" + (" + SFT" if made(row, "recovered") else "")


def engine(row: Row) -> str:
    """Short name of the engine; by the artefact's kind where a killed run could not tell."""
    told = str(row.get("engine") or "").split()
    if told:
        return _ENGINES.get(told[0], told[0])
    return "llama.cpp" if str(row.get("artefact")).endswith(".gguf") else "ONNX RT"


def name(row: Row) -> str:
    """What a sentence calls a row."""
    return f"{label(row)}, {engine(row)} {row.get('type', '')}".rstrip()


def memory(size: float) -> str:
    """Bytes as one types a limit: whole MiB or GiB where they are whole, MB otherwise."""
    for unit, name_of_unit in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit and size * 4 % unit == 0:
            return f"{size / unit:g} {name_of_unit}"
    return f"{size / 1e6:.0f} MB"


def unlimited(rows: list[Row]) -> list[Row]:
    """Rows that ran without a memory limit; all of them where each had one."""
    return [row for row in rows if not row.get("memory_limit_bytes")] or rows


def of_same_kind(row: Row, rows: list[Row]) -> list[Row]:
    """Rows of the unpruned model, as it came, with the row's engine, type and threads: what it is compared with."""

    def same(other: Row) -> bool:
        threads = {other.get("threads"), row.get("threads")} - {None}  # a killed run could not tell them
        kind = [(each.get("model"), each.get("pair"), engine(each), each.get("type")) for each in (other, row)]
        return kind[0] == kind[1] and len(threads) < 2

    return [other for other in rows if not ratio(other) and not made(other, "recovered") and same(other)]


def share(row: Row, rows: list[Row]) -> float | None:
    """The row's chrF++ as a share of the unpruned model's of the same engine and type; None where one is missing."""
    told = (row.get("against_unpruned") or {}).get("share")
    if told is not None or row.get("chrf") is None or is_dense(row):
        return told
    scores = [base["chrf"] for base in of_same_kind(row, rows) if base.get("chrf")]
    return row["chrf"] / statistics.mean(scores) if scores else None


@dataclass(frozen=True)
class Series:
    """What one line of a figure joins: rows that differ in the ratio alone, the unpruned ones of their kind first."""

    name: str
    engine: str
    recovered: bool
    colour: int  # one for each engine, type and criterion, whether recovered or not
    rows: list[Row]


def series(rows: list[Row]) -> list[Series]:
    """Lines by engine, type and recovery, and by criterion, budgets and threads where these differ between rows."""
    pruned = [row for row in rows if ratio(row)]
    keys = ("criterion", "allocation")
    differ = [key for key in keys if len({made(row, key) for row in pruned}) > 1]
    threads = len({row.get("threads") for row in rows}) > 1

    def family(row: Row) -> tuple[str, ...]:
        parts = [engine(row), str(row.get("type", "-")), *(str(made(row, key)) for key in differ)]
        return (*parts, f"{row.get('threads', '?')} threads") if threads else tuple(parts)

    found: dict[tuple[tuple[str, ...], bool], list[Row]] = {}
    with_cut = {(engine(row), row.get("type")) for row in pruned}
    for row in sorted(rows, key=lambda row: (engine(row), str(row.get("type")), bool(made(row, "recovered")))):
        if ratio(row) or (engine(row), row.get("type")) not in with_cut:
            found.setdefault((family(row), bool(made(row, "recovered"))), []).append(row)
    colours = list(dict.fromkeys(parts for parts, _ in found))
    return [
        Series(
            " ".join(parts) + (" + SFT" if recovered else ""),
            parts[0],
            recovered,
            colours.index(parts),
            sorted(
                (of_same_kind(mine[0], rows) if ratio(mine[0]) else []) + mine,
                key=ratio,
            ),
        )
        for (parts, recovered), mine in found.items()
    ]
