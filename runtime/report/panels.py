"""Figures with a panel for each engine and type and a line for each model: within limits, over time, by threads."""

from collections.abc import Callable
from typing import Any

from runtime.measure.labels import label, memory, name, unlimited
from runtime.measure.rows import Row, engine, ratio
from runtime.report.canvas import INK, OTHER_MARKER, PAPER, colour
from runtime.report.drawing import Drawn, Missing, bench_command, drawn, legend, legend_height

VERDICTS = {"fits": ("o", True), "thrashes": ("v", False), "killed": ("X", True)}  # marker, filled
_COLUMNS = 2  # panels side by side on a desktop
_DASHED: dict[str, Any] = {"linewidth": 1, "linestyle": (0, (3, 2))}  # the lesser of a model's two lines


class Panels:
    """Rows by panel (engine and type) and by line (model)."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.kinds = list(dict.fromkeys(map(_kind, sorted(rows, key=name))))
        self.models = list(dict.fromkeys(label(row) for row in sorted(rows, key=lambda row: (ratio(row), label(row)))))

    def heights(self, entries: int = 0) -> tuple[float, float]:
        """Inches of the wide and the narrow drawing, whose legend has ``entries`` besides the models."""
        entries, down = entries + len(self.models), -(-len(self.kinds) // min(_COLUMNS, len(self.kinds)))
        wide, narrow = 0.7 + 2.9 * down, 0.7 + 2.5 * len(self.kinds)
        return wide + legend_height(entries, False), narrow + legend_height(entries, True)

    def paint(
        self, figure: Any, narrow: bool, x: str, y: str, line: Callable[[Any, list[Row], str], None]
    ) -> tuple[list[Any], list[Any]]:
        """Draw all panels; ``line(axis, rows, colour)`` draws one model's line.

        Returns:
            The axes, and a handle of each model for the legend.
        """
        across = 1 if narrow else min(_COLUMNS, len(self.kinds))
        grid = figure.subplots(-(-len(self.kinds) // across), across, squeeze=False, sharex=True, sharey=True)
        axes, spare = list(grid.flat)[: len(self.kinds)], list(grid.flat)[len(self.kinds) :]
        for axis, kind in zip(axes, self.kinds):
            axis.set_title(" ".join(kind), fontsize=11, loc="left")
            for place, model in enumerate(self.models):
                if mine := [row for row in self.rows if _kind(row) == kind and label(row) == model]:
                    line(axis, mine, colour(place))
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(x)
        for axis in grid[:, 0]:
            axis.set_ylabel(y)
        for axis in spare:
            axis.remove()
        return axes, [axes[0].plot([], [], color=colour(i), label=model)[0] for i, model in enumerate(self.models)]

    def sorted(self) -> list[Row]:
        """The rows in the order of their data's table."""
        return sorted(self.rows, key=lambda row: (*_kind(row), ratio(row), row.get("memory_limit_bytes") or 0))


def _kind(row: Row) -> tuple[str, str]:
    return engine(row), str(row.get("type", "-"))


def limits(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Decode speed against the memory limit."""
    title = "Speed within a memory limit"
    found = [row for row in rows if row.get("memory_limit_bytes") and row.get("verdict")]
    if not found:
        command = bench_command(rows, "--memory-limit 1GiB")
        return Missing(title, "No row was measured within a memory limit yet.", command)
    panels = Panels(found)
    sizes = sorted({row["memory_limit_bytes"] for row in found})
    places = {size: place for place, size in enumerate(sizes)}  # evenly: limits are halved and doubled

    def line(axis: Any, mine: list[Row], shade: str) -> None:
        points = sorted((places[row["memory_limit_bytes"]], _decode(row), row["verdict"]) for row in mine)
        axis.plot(*list(zip(*points))[:2], color=shade, linewidth=1.5)
        for x, y, fate in points:
            axis.plot(x, y, clip_on=False, zorder=3, **_fate(fate, shade))

    def paint(figure: Any, narrow: bool) -> None:
        axes, handles = panels.paint(figure, narrow, "memory limit", "decode, tokens/s", line)
        for axis in axes:
            axis.set_xticks(range(len(sizes)), [memory(size) for size in sizes])
            axis.set_xlim(-0.4, len(sizes) - 0.6)
        axes[0].set_ylim(0, 1.08 * max(1.0, *map(_decode, found)))
        fates = [fate for fate in VERDICTS if any(row["verdict"] == fate for row in found)]
        handles += [axes[0].plot([], [], label=fate, **_fate(fate, INK))[0] for fate in fates]
        legend(figure, narrow, handles)

    keys = ("memory_limit_bytes", "verdict", "decode_tokens_per_second", "throughput_share")
    data = [
        (
            label(row),
            *_kind(row),
            row["memory_limit_bytes"],
            row["verdict"],
            _decode(row),
            row.get("throughput_share", ""),
        )
        for row in panels.sorted()
    ]
    fates = {fate: sum(row["verdict"] == fate for row in found) for fate in VERDICTS}
    alt = ", ".join(f"{count} {fate}" for fate, count in fates.items()) + f" of {len(found)} runs within a limit."
    caption = (
        "Read each panel from right to left, as memory gets scarce. A circle fits; a hollow triangle runs but thrashes "
        "(it reads its weights from disk again and again); a cross was killed, which counts as no speed at all."
    )
    table = ("model", "engine", "type", *keys), data
    return drawn("limits", pair, title, alt, caption, paint, panels.heights(len(VERDICTS)), table)


def _decode(row: Row) -> float:
    return row.get("decode_tokens_per_second") or 0.0


def _fate(fate: str, shade: str) -> dict[str, Any]:
    marker, filled = VERDICTS.get(fate, (OTHER_MARKER, True))
    face = shade if filled else PAPER
    return {"marker": marker, "linestyle": "", "markersize": 9, "markeredgecolor": shade, "markerfacecolor": face}


def over_time(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Memory from start to end of a process that loads and translates."""
    title = "Memory over time"
    found = [row for row in unlimited(rows) if row.get("memory_series")]
    if not found:
        return Missing(title, "No row has its memory over time.", bench_command(rows, "--test data/test"))
    panels = Panels(found)

    def line(axis: Any, mine: list[Row], shade: str) -> None:
        for row in mine:
            seconds, anonymous, file = zip(*row["memory_series"])
            axis.plot(seconds, [(a + b) / 1e6 for a, b in zip(anonymous, file)], color=shade, linewidth=1.5)
            axis.plot(seconds, [a / 1e6 for a in anonymous], color=shade, **_DASHED)

    def paint(figure: Any, narrow: bool) -> None:
        axes, handles = panels.paint(figure, narrow, "seconds", "memory, MB", line)
        axes[0].set_ylim(bottom=0)
        axes[0].set_xlim(left=0)
        handles += axes[0].plot([], [], color=INK, **_DASHED, label="anonymous alone")
        legend(figure, narrow, handles)

    data = [(label(row), *_kind(row), *point) for row in panels.sorted() for point in row["memory_series"]]
    peaks = [max(a + b for _, a, b in row["memory_series"]) / 1e6 for row in found]
    alt = f"{len(found)} processes; peaks from {min(peaks):.0f} to {max(peaks):.0f} MB."
    caption = (
        "A process loads, generates once and translates the test set. Solid: all its memory; dashed: what nothing on disk "
        "backs, which cannot be dropped when memory gets scarce."
    )
    table = ("model", "engine", "type", "seconds", "anonymous_bytes", "file_bytes"), data
    return drawn("memory", pair, title, alt, caption, paint, panels.heights(1), table)


def threads(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Decode and prefill speed against the number of threads."""
    title = "Speed by threads"
    found = [row for row in unlimited(rows) if len(row.get("speed") or []) > 1]
    if not found:
        return Missing(title, "No row was timed with several numbers of threads.", bench_command(rows, ""))
    panels = Panels(found)
    counts = sorted({at["threads"] for row in found for at in row["speed"]})

    def line(axis: Any, mine: list[Row], shade: str) -> None:
        for row in mine:
            at = [each["threads"] for each in row["speed"]]
            axis.plot(at, [each["decode_tokens_per_second"] for each in row["speed"]], color=shade, marker="o")
            axis.plot(at, [each["prefill_tokens_per_second"] for each in row["speed"]], color=shade, **_DASHED)

    def paint(figure: Any, narrow: bool) -> None:
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        axes, handles = panels.paint(figure, narrow, "threads", "tokens/s", line)
        axes[0].set_xscale("log", base=2)
        axes[0].set_yscale("log")
        for axis in axes:
            axis.set_xticks(counts, map(str, counts))
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.minorticks_off()
        handles += axes[0].plot([], [], color=INK, marker="o", label="decode")
        handles += axes[0].plot([], [], color=INK, **_DASHED, label="prefill")
        legend(figure, narrow, handles)

    data = [
        (label(row), *_kind(row), at["threads"], at["prefill_tokens_per_second"], at["decode_tokens_per_second"])
        for row in panels.sorted()
        for at in row["speed"]
    ]
    alt = f"{len(found)} models with {' and '.join(map(str, counts))} threads."
    caption = (
        "Both axes are logarithmic: twice the speed is the same height everywhere. A line that rises less than the threads "
        "do waits for memory, or for other programs that use the same cores."
    )
    table = ("model", "engine", "type", "threads", "prefill_tokens_per_second", "decode_tokens_per_second"), data
    return drawn("threads", pair, title, alt, caption, paint, panels.heights(2), table)
