"""The report as Markdown: the page's words and tables, without its figures."""

import itertools

from runtime.measure.rows import Row, Run, engine, label
from runtime.report import tables
from runtime.report.tables import Table
from runtime.report.verdict import claims, verdict


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


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


def markdown(run: Run, title: str) -> str:
    """The report as Markdown."""
    parts = [f"# {title}"]
    for pair in run.pairs():
        rows = [row for row in run.rows if row.get("pair", "-") == pair]
        parts += [f"## {pair}"] if len(run.pairs()) > 1 else []
        parts += [verdict(rows), _table(tables.all_rows(rows))]
        if claimed := claims(rows):
            parts += ["The claims of arXiv 2605.28042:", _table(claimed)]
    parts.append("\n".join(f"- {fact}" for fact in tables.signatures(run)))
    if checked := tables.checks(run.checks):
        parts += ["## Verified", _table(checked)]
    if failed := tables.failures(run.rows):
        parts += ["## Outputs that fail (segments)", _table(failed)]
    for row in run.rows:
        if row.get("samples"):
            name = ", ".join((label(row), engine(row), row.get("type", "-")))
            header = ("source", "reference", "hypothesis")
            parts += [f"## Samples: {name}", _table(Table(header, [list(sample) for sample in row["samples"]]))]
    return "\n\n".join(parts) + "\n"
