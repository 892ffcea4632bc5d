"""The report as one HTML page that needs nothing else: no network, no other file."""

import base64
import json
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runtime.report import figures, panels, tables
from runtime.report.bench_run import BenchRun
from runtime.report.canvas import COLOURS
from runtime.report.drawing import Drawn, Missing, slug
from runtime.report.verdict import claims, verdict

FIGURES = (figures.quality, figures.pareto, panels.limits, figures.speed, panels.threads, panels.over_time)


def _link(text: str, kind: str) -> str:
    """A ``data:`` address that holds the text."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def page(run: BenchRun, title: str) -> str:
    """The page of a run.

    Raises:
        WorkError: matplotlib is not installed.
    """
    parts, keys = [], set[str]()
    for name, rows in run.parts():
        key = slug(name) if slug(name) not in keys else f"{slug(name)}-{len(keys)}"
        keys.add(key)
        drawings = [figure(key, rows) for figure in FIGURES]
        parts.append(
            {
                "name": name,
                "verdict": verdict(rows),
                "figures": [each for each in drawings if isinstance(each, Drawn)],
                "missing": [each for each in drawings if isinstance(each, Missing)],
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
        mark=tables.MARK,
        parts=parts,
        machines=list(dict.fromkeys(row["machine"] for row in run.rows if row.get("machine"))),
        count=len(run.rows),
        checks=tables.checks(run.checks),
        facts=tables.signatures(run),
        csv=partial(_link, kind="text/csv"),
        jsonl=_link("".join(json.dumps(row) + "\n" for row in run.rows), "application/jsonl"),
        colours=COLOURS,
    )
