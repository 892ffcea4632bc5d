"""matplotlib's SVG made fit for a page: text stays text, colours follow the page's scheme, ids are the figure's own."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import WorkError

# Okabe and Ito's colours, told apart by the colour-blind; the page has a brighter set for a dark screen.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5d5d5d")
INK, MUTED, GRID, PAPER = "#1a1a1b", "#606268", "#d8d9dd", "#fefefe"
MARKERS = {"llama.cpp": "o", "ONNX RT": "s"}
OTHER_MARKER = "D"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"series-{place}" for place, colour in enumerate(COLOURS)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with $ in it is a name
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 7,
    "figure.constrained_layout.use": True,
}
WIDE, NARROW = 10.0, 5.0  # inches of 72 units: a desktop's and a phone's shape, at one size of text


def colour(place: int) -> str:
    """The colour of the n-th kind of rows; they come round again after seven."""
    return COLOURS[place % len(COLOURS)]


def draw(paint: Callable[[Any, bool], None], key: str, alt: str, width: float, height: float) -> str:
    """An inline ``<svg>`` of ``width`` x ``height`` inches that ``paint(figure, narrow)`` has filled.

    Raises:
        WorkError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise WorkError(
            "The page's figures need matplotlib, which is not installed (report.md does not need it).",
            next_command="pip install 'slimmoe[plots]'",
        ) from None
    from io import StringIO

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure, stream = Figure(figsize=(width, height)), StringIO()
        paint(figure, width == NARROW)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), key, alt)


def save(paint: Callable[[Any, bool], None], path: Path, width: float, height: float) -> None:
    """The same as a PNG file, for documents that cannot hold the page's SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor=PAPER)
        paint(figure, False)
        figure.savefig(path, dpi=120)


def _inline(svg: str, key: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>|\s*<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    viewbox = re.search(r'viewBox="[^"]*"', svg)
    assert viewbox  # matplotlib always writes one
    svg = f'<svg {viewbox[0]} role="img" aria-label="{html.escape(alt)}">' + svg[svg.index(">") + 1 :]
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{key}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # the page's own typeface
    return re.sub(
        r"(?<=[ :])#[0-9a-f]{6}\b",
        lambda found: f"var(--{_VARIABLES[found[0]]}, {found[0]})" if found[0] in _VARIABLES else found[0],
        svg,
    )
