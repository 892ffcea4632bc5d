"""The report of a run: a table on screen, and what it holds for as ``report.md`` or as one HTML page.

``bench_run`` reads what was measured, ``tables`` and ``verdict`` say it in cells and in words, ``figures`` and ``panels``
draw it; ``markdown`` and ``page`` only lay it out.
"""

from pathlib import Path

from runtime.errors import RequestError
from runtime.formats.files import new_file, require_replaceable
from runtime.report.bench_run import BenchRun, read_run
from runtime.report.markdown import markdown, table_of
from runtime.report.tables import MARK, print_table, signatures_of

__all__ = ["BenchRun", "markdown", "print_table", "read_run", "signatures_of", "table_of", "write", "write_report"]


def write_report(folder: Path, output: Path, title: str) -> BenchRun:
    """Write ``output`` (``.md`` or ``.html``) from a run folder and return what was read.

    Raises:
        RequestError: nothing was measured in the folder, a line of it is broken, the suffix is another one, or ``output``
            exists and is no report.
        WorkError: a page was asked for and matplotlib is not installed.
    """
    run = read_run(folder)
    write(run, output, title)
    return run


def write(run: BenchRun, output: Path, title: str) -> None:
    """Write the report of what was read; see ``write_report``."""
    require_replaceable(output, "a report of slimmoe", _is_report)
    if output.suffix == ".html":
        from runtime.report.page import page as lay_out  # jinja2 and matplotlib: only where a page is asked for
    elif output.suffix == ".md":
        lay_out = markdown
    else:
        raise RequestError(
            f"A report is a page or Markdown, and {output.name} ends in neither .html nor .md.",
            next_command=f"slimmoe report RUN-FOLDER -o {output.with_suffix('.html')}",
        )
    text = lay_out(run, title)
    with new_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_report(path: Path) -> bool:
    """By how a report begins: its mark, or the title of an older one."""
    with path.open("rb") as file:
        begins = file.read(4096)
    return MARK.encode() in begins or begins.startswith(b"# slimmoe") or b"<title>slimmoe" in begins
