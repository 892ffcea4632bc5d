"""The report as one HTML page that needs nothing else: no network, no other file."""

import base64
import json
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runtime.measure.rows import Run
from runtime.report import figures, panels, tables
from runtime.report.canvas import COLOURS
from runtime.report.verdict import claims, verdict

FIGURES = (figures.quality, figures.pareto, panels.limits, figures.speed, panels.threads, panels.over_time)


def _link(text: str, kind: str) -> str:
    """A ``data:`` address that holds the text."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def page(run: Run, title: str) -> str:
    """The page of a run.

    Raises:
        WorkError: matplotlib is not installed.
    """
    parts = []
    for pair in run.pairs():
        rows = [row for row in run.rows if row.get("pair", "-") == pair]
        parts.append(
            {
                "pair": pair,
                "verdict": verdict(rows),
                "figures": [figure(pair, rows) for figure in FIGURES],
                "claims": claims(rows),
                "rows": tables.all_rows(rows),
                "failures": tables.failures(rows),
                "samples": tables.samples(rows),
            }
        )
    here = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return here.get_template("page.html.j2").render(
        title=title,
        parts=parts,
        machines=list(dict.fromkeys(row["machine"] for row in run.rows if row.get("machine"))),
        count=len(run.rows),
        checks=tables.checks(run.checks),
        facts=tables.signatures(run),
        csv=partial(_link, kind="text/csv"),
        jsonl=_link("".join(json.dumps(row) + "\n" for row in run.rows), "application/jsonl"),
        colours=COLOURS,
    )
