"""What rows of bench.jsonl are called, what they are compared with, and which of them one line of a figure joins."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from runtime.measure.rows import Row, engine, had_sft, provenance, ratio, recoveries, tokens


def is_dense(row: Row) -> bool:
    """Whether it is a peer without experts (benchmarks/dense.py), which nothing was cut from."""
    return bool(row.get("dense"))


def recovered_by(row: Row) -> str:
    """``SFT``, ``least squares + SFT``, ...: the recoveries in the order of time; empty where there was none."""
    return " + ".join(each.name for each in recoveries(row))


def label(row: Row) -> str:
    """``unpruned``, or the share that was cut, the tokens that stay, and the recoveries since; of a dense peer its name."""
    if is_dense(row):
        return Path(row["artefact"]).name
    experts, left = f"{ratio(row):.0%} cut" if ratio(row) else "", f"{tokens(row)} tokens" if tokens(row) else ""
    cut = ", ".join(filter(None, (experts, left))) or "unpruned"
    return " + ".join(filter(None, (cut, recovered_by(row))))


def name(row: Row) -> str:
    """What a sentence calls a row."""
    return f"{label(row)}, {engine(row)} {row.get('type') or ''}".rstrip()


def memory(size: float) -> str:
    """Bytes as one types a limit: whole MiB or GiB where they are whole, MB otherwise."""
    for unit, name_of_unit in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit and size * 4 % unit == 0:
            return f"{size / unit:g} {name_of_unit}"
    return f"{size / 1e6:.0f} MB"


def unlimited(rows: list[Row]) -> list[Row]:
    """Rows that ran without a memory limit; all of them where each had one."""
    return [row for row in rows if not row.get("memory_limit_bytes")] or rows


def only_model(rows: list[Row]) -> str | None:
    """The one source model that rows name; None where they name none or several."""
    names = {row["model"] for row in rows if row.get("model")}
    return names.pop() if len(names) == 1 else None


def is_baseline(row: Row) -> bool:
    """Whether nothing was cut from it and nothing recovered."""
    return not ratio(row) and not tokens(row) and not recoveries(row)


def of_same_kind(row: Row, rows: list[Row]) -> list[Row]:
    """Rows of the unpruned model, as it came, with the row's engine, type and threads: what it is compared with."""

    def same(other: Row) -> bool:
        for key in ("threads", "model"):  # a killed run could not tell the one, a single bench the other
            if len({other.get(key), row.get(key)} - {None}) > 1:
                return False
        kinds = [(each.get("pair"), engine(each), each.get("type")) for each in (other, row)]
        return kinds[0] == kinds[1]

    return [other for other in rows if is_baseline(other) and same(other)]


def share(row: Row, rows: list[Row]) -> float | None:
    """The row's chrF++ as a share of the unpruned model's of the same engine and type; None where one is missing."""
    told = row.get("against_unpruned", {}).get("share")
    if told is not None or row.get("chrf") is None or is_dense(row):
        return told
    scores = [base["chrf"] for base in of_same_kind(row, rows) if base.get("chrf")]
    return row["chrf"] / statistics.mean(scores) if scores else None


def mostly_fails(row: Row) -> bool:
    """Whether more than half of its outputs are known to fail, so that its score says little."""
    failed = row.get("failed", max(row.get("failures", {}).values(), default=0))
    return 2 * failed > row.get("segments", 2 * failed)


@dataclass(frozen=True)
class Series:
    """What one line of a figure joins: rows that differ in the ratio alone, the unpruned ones of their kind first."""

    name: str
    engine: str
    recovered: bool
    had_sft: bool
    colour: int  # one for each engine, type and criterion, however it was recovered
    rows: list[Row]


def series(rows: list[Row]) -> list[Series]:
    """Lines by engine, type, tokens and recoveries, and by criterion, budgets and threads where these differ between rows.

    Every row is in some line.
    """
    pruned = [row for row in rows if ratio(row) or tokens(row)]
    keys = ("criterion", "allocation")
    differ = [key for key in keys if len({str(provenance(row, key)) for row in pruned}) > 1]
    threads = len({row.get("threads") for row in rows}) > 1

    def family(row: Row) -> tuple[str, ...]:
        parts = [engine(row), str(row.get("type", "-")), *([f"{tokens(row)} tokens"] if tokens(row) else [])]
        parts += (str(provenance(row, key)) for key in differ)
        return (*parts, f"{row.get('threads', '?')} threads") if threads else tuple(parts)

    bases = {id(base) for row in pruned for base in of_same_kind(row, rows)}
    found: dict[tuple[tuple[str, ...], str], list[Row]] = {}
    for row in sorted(
        rows, key=lambda row: (engine(row), str(row.get("type")), -(tokens(row) or 1 << 60), recovered_by(row))
    ):
        if id(row) not in bases:
            found.setdefault((family(row), recovered_by(row)), []).append(row)
    colours = list(dict.fromkeys(parts for parts, _ in found))
    lines = []
    for (parts, recovered), mine in found.items():
        cut = next((row for row in mine if ratio(row) or tokens(row)), None)
        begins = any(tokens(row) and not ratio(row) for row in mine)  # with all experts, by itself
        joined = (of_same_kind(cut, rows) if cut and not begins else []) + mine
        title = " ".join(parts) + (f" + {recovered}" if recovered else "")
        lines.append(
            Series(title, parts[0], bool(recovered), had_sft(mine[0]), colours.index(parts), sorted(joined, key=ratio))
        )
    return lines
