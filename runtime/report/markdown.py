"""The report as Markdown: the page's words and tables, without its figures."""

import itertools
import re

from runtime.measure.labels import label
from runtime.measure.rows import Row, engine
from runtime.report import tables
from runtime.report.bench_run import BenchRun
from runtime.report.tables import MARK, Table
from runtime.report.verdict import claims, verdict


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no tags, links or emphasis of its own, on one line."""
    return re.sub(r"([\\`*\[\]<|])", r"\\\1", " ".join(text.splitlines()))


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _table(table: Table) -> str:
    rule = ["---"] * table.texts + ["---:"] * (len(table.header) - table.texts)
    return "\n".join(_row(line) for line in (table.header, rule, *table.rows))


def table_of(rows: list[Row], on_screen: bool = True) -> str:
    """Rows as they stand on screen, or with the columns that only the page has room for; none that is empty."""
    table = tables.all_rows(rows, on_screen)
    filled = [any(cells[i] != "-" for cells in table.rows) for i in range(len(table.header))]
    return _table(
        Table(
            tuple(itertools.compress(table.header, filled)),
            [list(itertools.compress(cells, filled)) for cells in table.rows],
            sum(filled[: table.texts]),
        )
    )


def markdown(run: BenchRun, title: str) -> str:
    """The report as Markdown."""
    parts, groups = [f"# {_plain(title)}\n\n{MARK}"], run.parts()
    for name, rows in groups:
        parts += [f"## {_plain(name)}"] if len(groups) > 1 else []
        parts += [_plain(verdict(rows)), _table(tables.all_rows(rows))]
        if claimed := claims(rows):
            parts += ["The claims of arXiv 2605.28042:", _table(claimed)]
    parts.append("\n".join(f"- {_plain(fact)}" for fact in tables.signatures(run)))
    if checked := tables.checks(run.checks):
        parts += ["## Verified", _table(checked)]
    if failed := tables.failures(run.rows):
        parts += ["## Outputs that fail (segments)", _table(failed)]
    for row in run.rows:
        if row.get("samples"):
            name = ", ".join((label(row), engine(row), row.get("type") or "-"))
            header = ("source", "reference", "hypothesis")
            parts += [f"## Samples: {_plain(name)}", _table(Table(header, [list(sample) for sample in row["samples"]]))]
    return "\n\n".join(parts) + "\n"
