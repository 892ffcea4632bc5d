"""What a figure of the report is: drawn twice, for a desktop and for a phone, with its data; and how all are drawn."""

import csv
import io
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.measure.rows import Row
from runtime.report.canvas import NARROW, WIDE, draw

Paint = Callable[[Any, bool], None]  # onto a figure, for a phone or not


@dataclass(frozen=True)
class Drawn:
    """A figure: how to read it, its two drawings, and its data as a table."""

    key: str
    title: str
    caption: str
    wide: str
    narrow: str
    header: tuple[str, ...]
    data: list[tuple]
    paint: Paint
    size: tuple[float, float]  # of the wide drawing, in inches

    def csv(self) -> str:
        """The data as CSV with a header."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([self.header, *self.data])
        return stream.getvalue()


@dataclass(frozen=True)
class Missing:
    """A figure that the rows have no numbers for, and the command that measures them."""

    title: str
    sentence: str
    command: str


def slug(text: str) -> str:
    """The text as a part of ids and file names."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text)


def drawn(
    key: str, pair: str, title: str, alt: str, caption: str, paint: Paint, heights: tuple[float, float], table: tuple
) -> Drawn:
    """A figure of these heights in inches, wide and narrow; ``table`` is the header and the rows of its data."""
    shapes = (("wide", WIDE, heights[0]), ("narrow", NARROW, heights[1]))
    key = f"{key}-{slug(pair)}"
    wide, narrow = (draw(paint, f"{key}-{shape}", f"{title}. {alt}", width, height) for shape, width, height in shapes)
    return Drawn(key, title, caption, wide, narrow, *table, paint=paint, size=(WIDE, heights[0]))


def legend(figure: Any, narrow: bool, handles: list[Any]) -> None:
    """Below the figure."""
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if narrow else 3)


def legend_height(entries: int, narrow: bool) -> float:
    """Inches that a legend takes under its figure."""
    return 0.25 * (entries if narrow else -(-entries // 3))


def bench_command(rows: list[Row], options: str) -> str:
    """The command that measures what the rows lack."""
    words = ["slimmoe", "bench", rows[0]["artefact"], "--pair", rows[0].get("pair", "en-de"), *options.split()]
    return shlex.join([*words, "-o", "bench.jsonl"])
