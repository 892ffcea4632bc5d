"""The four figures of a pair's rows. Each is drawn twice, for a desktop and for a phone, and carries its data."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.report.canvas import INK, MARKERS, MUTED, NARROW, OTHER_MARKER, PAPER, WIDE, colour, draw
from runtime.report.rows import Row, Series, engine, label, made, memory, name, ratio, series, share, unlimited
from runtime.report.verdict import CLAIMS

Paint = Callable[[Any, bool], None]
DOMINATED = 0.3  # opacity
VERDICTS = {"fits": ("o", True), "thrashes": ("v", False), "killed": ("X", True)}  # marker, filled


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


def _drawn(key: str, pair: str, title: str, alt: str, caption: str, paint: Paint, heights: tuple[float, float], table):
    shapes = (("wide", WIDE, heights[0]), ("narrow", NARROW, heights[1]))
    key = f"{key}-{pair}"
    wide, narrow = (draw(paint, f"{key}-{shape}", f"{title}. {alt}", width, height) for shape, width, height in shapes)
    return Drawn(key, title, caption, wide, narrow, *table, paint=paint, size=(WIDE, heights[0]))


def _style(line: Series) -> dict[str, Any]:
    """Colour by engine and type, marker by engine; without SFT hollow and dashed, after SFT filled and solid."""
    shade = colour(line.colour)
    return {
        "color": shade,
        "marker": MARKERS.get(line.engine, OTHER_MARKER),
        "markerfacecolor": shade if line.recovered else PAPER,
        "markeredgecolor": shade,
        "markeredgewidth": 1.6,
        "linestyle": "-" if line.recovered else (0, (4, 2)),
    }


def _ratio_axis(axis: Any, narrow: bool) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    axis.set_xlabel("share of the experts cut")
    axis.set_xlim(-0.03, 1.0)
    axis.xaxis.set_major_locator(MultipleLocator(0.25 if narrow else 0.1))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _legend(figure: Any, narrow: bool, handles: list[Any]) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if narrow else 3)


def _legend_height(entries: int, narrow: bool) -> float:
    """Inches that a legend takes under its figure."""
    return 0.25 * (entries if narrow else -(-entries // 3))


def _against_ratio(axis: Any, lines: list[Series], key: str) -> list[Any]:
    handles = []
    for line in lines:
        points = [(ratio(row), row[key]) for row in line.rows]
        handles += axis.plot(*zip(*points), label=line.name, **_style(line))
        for row in line.rows if key == "chrf" else []:
            if row.get("chrf_interval"):
                axis.vlines(ratio(row), *row["chrf_interval"], color=colour(line.colour), linewidth=1)
    return handles


def quality(pair: str, rows: list[Row]) -> Drawn | Missing:
    """chrF++ against the ratio, with a bar for each of the paper's claims."""
    title = "Quality against the share of experts cut"
    scored = [row for row in unlimited(rows) if row.get("chrf") is not None]
    if not scored:
        return Missing(title, "No row has a score yet.", _bench(rows, "--test data/test"))
    lines = series(scored)
    unpruned = max((row["chrf"] for row in scored if not ratio(row)), default=None)

    def paint(figure: Any, narrow: bool) -> None:
        axis = figure.subplots()
        handles = _against_ratio(axis, lines, "chrf")
        if unpruned is not None:
            handles.append(axis.axhline(unpruned, color=MUTED, linewidth=1, zorder=1, label="unpruned, best type"))
            for claim in CLAIMS:
                height = claim.bar * unpruned
                dash = "-" if claim.recovered else (0, (3, 1.5))
                axis.hlines(
                    height, claim.ratio - 0.022, claim.ratio + 0.022, color=INK, linewidth=3, linestyle=dash, zorder=5
                )
                axis.annotate(
                    f"{claim.bar:.0%}" + (" SFT" if claim.recovered else ""),
                    (claim.ratio, height),
                    (0, 5 if claim.recovered else -5),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if claim.recovered else "top",
                    fontsize=10,
                    zorder=5,
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
                )
            handles += axis.plot([], [], color=INK, linewidth=3, label="bar for a claim of the paper")
        _ratio_axis(axis, narrow)
        axis.set_ylabel("chrF++")
        axis.margins(y=0.1)
        _legend(figure, narrow, handles)

    header = ("series", "ratio", "recovered", "chrf", "chrf_low", "chrf_high", "share_of_unpruned")
    data = [
        (line.name, ratio(row), line.recovered and bool(ratio(row)), row["chrf"], *_interval(row), share(row, scored))
        for line in lines
        for row in line.rows
    ]
    low, high = min(row["chrf"] for row in scored), max(row["chrf"] for row in scored)
    alt = f"{len(lines)} lines; chrF++ from {low:.1f} to {high:.1f}. The table below holds every number."
    caption = (
        "Higher is better; a line that stays level loses nothing. Hollow and dashed: as cut; filled and solid: after "
        "SFT. Upright strokes are 95 % intervals, where rows carry them. The thick ticks are our bars for what arXiv "
        "2605.28042 claims, as shares of the best unpruned chrF++: 50 % cut with negligible loss (99 %), 70 % with "
        "minor loss (97 %), 75 % at the baseline after a short SFT (100 %), near 90 % still reasonable (95 %, after SFT)."
    )
    entries = len(lines) + 2
    heights = 4.6 + _legend_height(entries, False), 4.2 + _legend_height(entries, True)
    return _drawn("quality", pair, title, alt, caption, paint, heights, (header, data))


def _interval(row: Row) -> tuple:
    return tuple(row.get("chrf_interval") or ("", ""))


def front(rows: list[Row]) -> list[Row]:
    """Rows that no other beats in chrF++ at the same peak memory or less, by rising memory."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["peak_bytes"], -row["chrf"])):
        if not best or row["chrf"] > best[-1]["chrf"]:
            best.append(row)
    return best


def pareto(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Quality against peak memory, with the rows that nothing beats in both joined."""
    title = "Quality against peak memory"
    found = [row for row in unlimited(rows) if row.get("chrf") is not None and row.get("peak_bytes")]
    if not found:
        return Missing(title, "No row has both a score and a peak.", _bench(rows, "--test data/test"))
    best = front(found)
    kinds = {id(row): line for line in series(found) for row in line.rows if ratio(row) or not line.recovered}
    kinds |= {id(row): line for line in series(found) for row in line.rows if id(row) not in kinds}

    def paint(figure: Any, narrow: bool) -> None:
        axis = figure.subplots()
        steps = [(row["peak_bytes"] / 1e6, row["chrf"]) for row in best]
        axis.step(*zip(*steps), where="post", color=MUTED, linewidth=1.2, zorder=1)
        for row in found:
            style = _style(kinds[id(row)]) | {"alpha": 1.0 if row in best else DOMINATED}
            if not ratio(row):
                style |= {"marker": "*", "markersize": 12, "markerfacecolor": style["color"]}
            axis.plot(row["peak_bytes"] / 1e6, row["chrf"], **style)
        axis.margins(0.06, 0.12)
        left, right = axis.get_xlim()
        axis.set_xlim(left - (right - left) * (0.25 if narrow else 0.1), right)  # room for the first point's name
        axis.set(xlabel="peak memory of the whole process, MB", ylabel="chrF++")
        _name_points(axis, [(x, y, label(row)) for (x, y), row in zip(steps, best)])
        shown = {line.name: _style(line) for line in series(found)}
        handles = [axis.plot([], [], label=text, **style | {"linestyle": ""})[0] for text, style in shown.items()]
        handles += axis.plot([], [], "*", color=INK, markersize=11, label="unpruned, in its type's colour")
        handles += axis.plot([], [], color=MUTED, linewidth=1.2, label="front: nothing is better and smaller")
        _legend(figure, narrow, handles)

    header = ("model", "engine", "type", "peak_bytes", "chrf", "on_front")
    data = [
        (label(row), engine(row), row.get("type", ""), row["peak_bytes"], row["chrf"], row in best)
        for row in sorted(found, key=lambda row: row["peak_bytes"])
    ]
    names = "; ".join(f"{name(row)}: {row['peak_bytes'] / 1e6:.0f} MB, chrF++ {row['chrf']:.1f}" for row in best)
    caption = (
        "Up and to the left is better. Choose your memory on the lower axis: the best that fits in it is the point of "
        "the grey steps at or left of it. Faint points are beaten by one on the steps in both."
    )
    entries = len(series(found)) + 2
    heights = 4.6 + _legend_height(entries, False), 4.2 + _legend_height(entries, True)
    alt = f"On the Pareto front: {names}."
    return _drawn("pareto", pair, title, alt, caption, paint, heights, (header, data))


def _name_points(axis: Any, points: list[tuple[float, float, str]]) -> None:
    """Names to the upper left of the points, where a front leaves room; one that would cover another is left out."""
    from matplotlib.transforms import Bbox

    axis.figure.draw_without_rendering()  # settles the layout, on which distances in points depend
    taken: list[Bbox] = []
    for x, y, text in reversed(points):
        place = axis.annotate(text, (x, y), (-6, 5), textcoords="offset points", ha="right", va="bottom", fontsize=10)
        box = place.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            place.remove()
        else:
            taken.append(box)


def limits(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Decode speed against the memory limit, one panel for each engine and type."""
    title = "Speed within a memory limit"
    found = [row for row in rows if row.get("memory_limit_bytes") and row.get("verdict")]
    if not found:
        command = _bench(rows, "--memory-limit 1GiB")
        return Missing(title, "No row was measured within a memory limit yet.", command)
    panels = list(dict.fromkeys((engine(row), str(row.get("type", "-"))) for row in sorted(found, key=name)))
    models = list(dict.fromkeys(label(row) for row in sorted(found, key=lambda row: (ratio(row), label(row)))))
    sizes = sorted({row["memory_limit_bytes"] for row in found})
    columns = 2 if len(panels) > 1 else 1

    def paint(figure: Any, narrow: bool) -> None:
        across = 1 if narrow else columns
        grid = figure.subplots(-(-len(panels) // across), across, squeeze=False, sharex=True, sharey=True)
        places = {size: place for place, size in enumerate(sizes)}  # evenly: limits are halved and doubled
        for axis, panel in zip(grid.flat, panels):
            axis.set_title(" ".join(panel), fontsize=11, loc="left")
            for place, model in enumerate(models):
                mine = [
                    row for row in found if (engine(row), str(row.get("type", "-"))) == panel and label(row) == model
                ]
                points = sorted((places[row["memory_limit_bytes"]], _decode(row), row["verdict"]) for row in mine)
                if not points:
                    continue
                axis.plot(*list(zip(*points))[:2], color=colour(place), linewidth=1.5)
                for x, y, fate in points:
                    axis.plot(x, y, clip_on=False, zorder=3, **_fate(fate, colour(place)))
            axis.set_xticks(range(len(sizes)), [memory(size) for size in sizes])
            axis.tick_params(labelbottom=True)
            axis.set_xlim(-0.4, len(sizes) - 0.6)
            axis.set(xlabel="memory limit")
        for axis in grid[:, 0]:
            axis.set_ylabel("decode, tokens/s")
        grid.flat[0].set_ylim(0, 1.08 * max(1.0, *map(_decode, found)))
        for axis in list(grid.flat)[len(panels) :]:
            axis.remove()
        handles = [grid.flat[0].plot([], [], color=colour(i), label=model)[0] for i, model in enumerate(models)]
        handles += [
            grid.flat[0].plot([], [], label=fate, **_fate(fate, INK))[0]
            for fate in VERDICTS
            if any(row["verdict"] == fate for row in found)
        ]
        _legend(figure, narrow, handles)

    header = (
        "model",
        "engine",
        "type",
        "memory_limit_bytes",
        "verdict",
        "decode_tokens_per_second",
        "throughput_share",
    )
    data = [
        (
            label(row),
            engine(row),
            row.get("type", ""),
            row["memory_limit_bytes"],
            row["verdict"],
            _decode(row),
            row.get("throughput_share", ""),
        )
        for row in sorted(
            found, key=lambda row: (engine(row), str(row.get("type")), ratio(row), row["memory_limit_bytes"])
        )
    ]
    fates = {fate: sum(row["verdict"] == fate for row in found) for fate in VERDICTS}
    alt = ", ".join(f"{count} {fate}" for fate, count in fates.items()) + f" of {len(found)} runs within a limit."
    caption = (
        "Read each panel from right to left, as memory gets scarce. A circle fits; a hollow triangle runs but thrashes "
        "(it reads its weights from disk again and again); a cross was killed, which counts as no speed at all."
    )
    entries = len(models) + len(VERDICTS)
    tall = 0.7 + 2.9 * -(-len(panels) // columns), 0.7 + 2.5 * len(panels)
    heights = tall[0] + _legend_height(entries, False), tall[1] + _legend_height(entries, True)
    return _drawn("limits", pair, title, alt, caption, paint, heights, (header, data))


def _decode(row: Row) -> float:
    return row.get("decode_tokens_per_second") or 0.0


def _fate(fate: str, shade: str) -> dict[str, Any]:
    marker, filled = VERDICTS.get(fate, (OTHER_MARKER, True))
    face = shade if filled else PAPER
    return {"marker": marker, "linestyle": "", "markersize": 9, "markeredgecolor": shade, "markerfacecolor": face}


def speed(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Decode speed against the ratio."""
    title = "Decode speed against the share of experts cut"
    timed = [row for row in unlimited(rows) if row.get("decode_tokens_per_second")]
    if not timed:
        return Missing(title, "No row has a speed yet.", _bench(rows, ""))
    lines = series(timed)

    def paint(figure: Any, narrow: bool) -> None:
        axis = figure.subplots()
        handles = _against_ratio(axis, lines, "decode_tokens_per_second")
        _ratio_axis(axis, narrow)
        axis.set_ylabel("decode, tokens/s")
        axis.set_ylim(0, 1.08 * max(row["decode_tokens_per_second"] for row in timed))
        _legend(figure, narrow, handles)

    header = ("series", "ratio", "recovered", "decode_tokens_per_second", "prefill_tokens_per_second")
    data = [
        (
            line.name,
            ratio(row),
            bool(made(row, "recovered")),
            row["decode_tokens_per_second"],
            row.get("prefill_tokens_per_second", ""),
        )
        for line in lines
        for row in line.rows
    ]
    speeds = [row["decode_tokens_per_second"] for row in timed]
    alt = f"{len(lines)} lines; from {min(speeds):.0f} to {max(speeds):.0f} tokens/s."
    caption = (
        "Higher is better. As many experts are active after a cut as before, unless fewer than top-k are left, so speed "
        "changes little by computing less; what changes is how much of the model the caches hold. SFT changes weights, "
        "not speed: a gap between a solid and a dashed line is the machine's scatter."
    )
    heights = 3.8 + _legend_height(len(lines), False), 3.6 + _legend_height(len(lines), True)
    return _drawn("speed", pair, title, alt, caption, paint, heights, (header, data))


def _bench(rows: list[Row], options: str) -> str:
    artefact = rows[0].get("artefact", "ARTEFACT")
    return " ".join(f"slimmoe bench {artefact} --pair {rows[0].get('pair', 'en-de')} {options} -o bench.jsonl".split())
