"""The report of a run: a table on screen, and what it holds for as ``report.md`` or as one HTML page.

``rows`` reads and names what was measured, ``tables`` and ``verdict`` say it in cells and in words, ``figures`` draws
it; ``markdown`` and ``page`` only lay it out.
"""

from pathlib import Path

from runtime.errors import RequestError
from runtime.formats.files import new_file
from runtime.measure.rows import Run, read_run
from runtime.report.markdown import markdown, table_of
from runtime.report.tables import print_table, signatures_of

__all__ = ["Run", "markdown", "print_table", "read_run", "signatures_of", "table_of", "write", "write_report"]


def write_report(folder: Path, output: Path, title: str) -> Run:
    """Write ``output`` (``.md`` or ``.html``) from a run folder and return what was read.

    Raises:
        RequestError: nothing was measured in the folder, a line of it is broken, or the suffix is another one.
        WorkError: a page was asked for and matplotlib is not installed.
    """
    run = read_run(folder)
    write(run, output, title)
    return run


def write(run: Run, output: Path, title: str) -> None:
    """Write the report of what was read; see ``write_report``."""
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
