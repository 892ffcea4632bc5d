"""Figures that join rows of one kind over the ratio or the memory: quality, the front of quality and memory, and speed."""

from typing import Any, Literal

from runtime.measure.labels import Series, is_dense, label, name, series, share, unlimited
from runtime.measure.rows import Row, engine, ratio, recoveries
from runtime.report.canvas import INK, MARKERS, MUTED, OTHER_MARKER, PAPER, colour
from runtime.report.drawing import Drawn, Missing, bench_command, drawn, legend, legend_height
from runtime.report.verdict import CLAIMS

DOMINATED = 0.3  # opacity


def _style(line: Series) -> dict[str, Any]:
    """Colour by engine and type, marker by engine; as cut hollow and dashed, recovered filled, after SFT also solid."""
    shade = colour(line.colour)
    return {
        "color": shade,
        "marker": MARKERS.get(line.engine, OTHER_MARKER),
        "markerfacecolor": shade if line.recovered else PAPER,
        "markeredgecolor": shade,
        "markeredgewidth": 1.6,
        "linestyle": "-" if line.had_sft else "-." if line.recovered else (0, (4, 2)),
    }


def _ratio_axis(axis: Any, narrow: bool) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    axis.set_xlabel("share of the experts cut")
    axis.set_xlim(-0.03, 1.0)
    axis.xaxis.set_major_locator(MultipleLocator(0.25 if narrow else 0.1))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _against_ratio(axis: Any, lines: list[Series], key: Literal["chrf", "decode_tokens_per_second"]) -> list[Any]:
    handles = []
    for line in lines:
        points = [(ratio(row), row[key]) for row in line.rows]
        handles += axis.plot(*zip(*points), label=line.name, **_style(line))
        for row in line.rows if key == "chrf" else []:
            if interval := row.get("chrf_interval"):
                axis.vlines(ratio(row), *interval, color=colour(line.colour), linewidth=1)
    return handles


def quality(pair: str, rows: list[Row]) -> Drawn | Missing:
    """chrF++ against the ratio, with a bar for each of the paper's claims."""
    title = "Quality against the share of experts cut"
    scored = [row for row in unlimited(rows) if row.get("chrf") is not None]
    if not scored:
        return Missing(title, "No row has a score yet.", bench_command(rows, "--test data/test"))
    lines = series(scored)
    unpruned = max((row["chrf"] for row in scored if not ratio(row) and not is_dense(row)), default=None)

    def paint(figure: Any, narrow: bool) -> None:
        axis = figure.subplots()
        handles = _against_ratio(axis, lines, "chrf")
        if unpruned is not None:
            handles.append(axis.axhline(unpruned, color=MUTED, linewidth=1, zorder=1, label="unpruned, best type"))
            for claim in CLAIMS:
                height = claim.bar * unpruned
                dash = "-" if claim.after_sft else (0, (3, 1.5))
                axis.hlines(
                    height, claim.ratio - 0.022, claim.ratio + 0.022, color=INK, linewidth=3, linestyle=dash, zorder=5
                )
                axis.annotate(
                    f"{claim.bar:.0%}" + (" SFT" if claim.after_sft else ""),
                    (claim.ratio, height),
                    (0, 5 if claim.after_sft else -5),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if claim.after_sft else "top",
                    fontsize=10,
                    zorder=5,
                    bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
                )
            handles += axis.plot([], [], color=INK, linewidth=3, label="bar for a claim of the paper")
        _ratio_axis(axis, narrow)
        axis.set_ylabel("chrF++")
        axis.margins(y=0.1)
        legend(figure, narrow, handles)

    header = ("series", "ratio", "recovered", "chrf", "chrf_low", "chrf_high", "share_of_unpruned")
    data = [
        (line.name, ratio(row), line.recovered and bool(ratio(row)), row["chrf"], *_interval(row), share(row, scored))
        for line in lines
        for row in line.rows
    ]
    low, high = min(row["chrf"] for row in scored), max(row["chrf"] for row in scored)
    alt = f"{len(lines)} lines; chrF++ from {low:.1f} to {high:.1f}. The table below holds every number."
    caption = (
        "Higher is better; a line that stays level loses nothing. Hollow and dashed: as cut; filled: recovered, solid "
        "where that included SFT. Upright strokes are 95 % intervals, where rows carry them. The thick ticks are our "
        "bars for what arXiv 2605.28042 claims, as shares of the best unpruned chrF++: 50 % cut with negligible loss "
        "(99 %), 70 % with minor loss (97 %), 75 % at the baseline after a short SFT (100 %), near 90 % still "
        "reasonable (95 %, after SFT)."
    )
    entries = len(lines) + 2
    heights = 4.6 + legend_height(entries, False), 4.2 + legend_height(entries, True)
    return drawn("quality", pair, title, alt, caption, paint, heights, (header, data))


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
        return Missing(title, "No row has both a score and a peak.", bench_command(rows, "--test data/test"))
    best = front(found)
    lines = sorted(series(found), key=lambda line: line.recovered, reverse=True)
    kinds = {id(row): line for line in lines for row in line.rows}  # an unpruned row is drawn as one of its line as cut

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
        legend(figure, narrow, handles)

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
    heights = 4.6 + legend_height(entries, False), 4.2 + legend_height(entries, True)
    alt = f"On the Pareto front: {names}."
    return drawn("pareto", pair, title, alt, caption, paint, heights, (header, data))


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


def speed(pair: str, rows: list[Row]) -> Drawn | Missing:
    """Decode speed against the ratio."""
    title = "Decode speed against the share of experts cut"
    timed = [row for row in unlimited(rows) if row.get("decode_tokens_per_second")]
    if not timed:
        return Missing(title, "No row has a speed yet.", bench_command(rows, ""))
    lines = series(timed)

    def paint(figure: Any, narrow: bool) -> None:
        axis = figure.subplots()
        handles = _against_ratio(axis, lines, "decode_tokens_per_second")
        _ratio_axis(axis, narrow)
        axis.set_ylabel("decode, tokens/s")
        axis.set_ylim(0, 1.08 * max(row["decode_tokens_per_second"] for row in timed))
        legend(figure, narrow, handles)

    header = ("series", "ratio", "recovered", "decode_tokens_per_second", "prefill_tokens_per_second")
    data = [
        (
            line.name,
            ratio(row),
            bool(recoveries(row)),
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
        "changes little by computing less; what changes is how much of the model the caches hold. Recovery changes "
        "weights, not speed: a gap between a solid and a dashed line is the machine's scatter."
    )
    heights = 3.8 + legend_height(len(lines), False), 3.6 + legend_height(len(lines), True)
    return drawn("speed", pair, title, alt, caption, paint, heights, (header, data))
