"""Tables and picture of benchmarks.reproduction: ``python -m benchmarks.reproduction_report FOLDER -o docs/reproduction.png``.

Rows get their paired bootstrap against the unpruned model (runtime/measure/compare.py) and are written to ``--numbers``, from
which benchmarks.numbers makes the tables of docs/reproduction.md; each of them is a function below. Rows of the same model
that are there already and not in FOLDER stay, so that one part may be measured again alone. What is not measured yet is a
dash.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

from runtime.errors import SlimmoeError
from runtime.measure.compare import compare
from runtime.measure.rows import Row, finished_rows, provenance, ratio, recoveries, write_rows
from runtime.report.verdict import CLAIMS

Rows = list[Row]
LEVEL = 0.05  # of significance
# arXiv 2605.28042, GPT-OSS-20B, FLORES devtest, English into German, Japanese, Egyptian Arabic and Bengali: mean xCOMET as a
# share of the unpruned model's .942, by ratio; as cut, and after sequence distillation (SFT on its own translations).
PAPER = {
    **{0.5: ("98.7%", "-"), 0.625: ("-", "-"), 0.6875: ("91.2%", "96.0%")},
    **{0.75: ("-", "95.8%"), 0.8125: ("-", "-"), 0.875: ("0%, all fail", "92.5%")},
}
NUMBERS = Path(__file__).parents[1] / "docs" / "numbers" / "reproduction.jsonl"


def _of(rows: Rows, part: str, **wanted: Any) -> Rows:
    """Rows of a part; ``criterion`` and the like are looked up in how the artefact was made."""
    return [
        row
        for row in rows
        if row["part"] == part and all(row.get(k, provenance(row, k)) == v for k, v in wanted.items())
    ]


def _at(rows: Rows, share: float) -> Rows:
    """Rows of one ratio."""
    return [row for row in rows if ratio(row) == share]


def _unpruned(rows: Rows) -> dict[str, Row]:
    """The unpruned row of each direction that has one."""
    return {row["pair"]: row for row in _at(_of(rows, "curve"), 0)}


def _ratios(rows: Rows) -> list[float]:
    return sorted({ratio(row) for row in rows if ratio(row)})


def _criteria(rows: Rows) -> list[str]:
    """Criteria in the order they were measured: the first is the one that SFT and shared plans start from."""
    return list(dict.fromkeys(provenance(row, "criterion") for row in _of(rows, "curve") if ratio(row)))


def _cut(share: float) -> str:
    """A ratio in percent, with the digits that it has: 70%, 68.75%."""
    return f"{100 * share:.4g}%"


def _table(header: Iterable[str], lines: Iterable[Iterable[str]], texts: int = 1) -> str:
    header = list(header)
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def _is_loss(row: Row) -> bool:
    against = row["against_unpruned"]
    return against["chrf_delta"] < 0 and against["chrf_p"] < LEVEL


def _spread(values: list[float]) -> str:
    """The value, or the mean of several and half their range."""
    half = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{half}" if values else "-"


def _cell(found: Rows) -> str:
    """chrF++ and BLEU; ° where no loss of chrF++ was found."""
    if not found:
        return "-"
    mark = "" if any(map(_is_loss, found)) else "°"
    return f"{_spread([row['chrf'] for row in found])}{mark} / {statistics.mean(row['bleu'] for row in found):.1f}"


def _facts(rows: Rows) -> str:
    """What the numbers hold for."""
    names = ("engine", "machine", "chrf_signature", "bleu_signature")
    found = ["; ".join(dict.fromkeys(str(row[name]) for row in rows)) for name in names]
    segments = ", ".join(f"{pair} {row['segments']}" for pair, row in _unpruned(rows).items())
    steps = [recoveries(row)[-1].steps or 0 for row in _of(rows, "recovered")]
    sft = f" SFT: {max(steps)} steps, fewer where the dev loss stopped falling." if steps else ""
    return f"Held-out test segments: {segments}. Greedy, F16.{sft} {'; '.join(found)}."


def curve(rows: Rows) -> str:
    """One line for each direction, criterion and SFT; a column for each ratio."""
    ratios, criteria, lines = _ratios(rows), _criteria(rows), []
    for pair, base in _unpruned(rows).items():
        ways = [(f"{criteria[0]} + SFT", _of(rows, "recovered", pair=pair))] if criteria else []
        ways += [(name, _of(rows, "curve", pair=pair, criterion=name)) for name in criteria]
        for number, (name, found) in enumerate(ways):
            first = [pair, f"{base['chrf']:.1f} / {base['bleu']:.1f}"] if not number else ["", ""]
            lines.append([*first, name, *(_cell(_at(found, share)) for share in ratios)])
    note = f"chrF++ / BLEU; ° no significant loss of chrF++ (paired bootstrap, p >= {LEVEL}). {_facts(rows)}"
    return _table(["direction", "unpruned", "criterion", *map(_cut, ratios)], lines, 3) + f"\n\n{note}"


def claims(rows: Rows) -> str:
    """Each claim of the paper: the share of unpruned chrF++ kept in each direction, and in how many the bar is met.

    After recovery, a line for each way that was tried in several directions. The last line is the control: the unpruned model
    after the same SFT.
    """
    pairs, criteria, lines = list(_unpruned(rows)), _criteria(rows), []

    def kept(found: Rows) -> str:
        return f"{found[0]['against_unpruned']['share']:.1%}{'°' * (not _is_loss(found[0]))}" if found else "-"

    for claim in CLAIMS:
        parts = ("recovered", "methods") if claim.after_sft else ("curve",)
        all_found = _at([row for part in parts for row in _of(rows, part, criterion=criteria[0])], claim.ratio)
        for way in dict.fromkeys(map(_way, all_found)) or ["SFT"]:
            found = [[row for row in all_found if (row["pair"], _way(row)) == (pair, way)] for pair in pairs]
            if "methods" in (row["part"] for each in found for row in each) and sum(map(bool, found)) < 2:
                continue
            shares = [each[0]["against_unpruned"]["share"] for each in found if each]
            met = f"{sum(share >= claim.bar for share in shares)} of {len(shares)}"
            bar = f"{claim.bar:.0%}" + (f", after {way}" if claim.after_sft else ", no SFT")
            lines.append([f"{claim.ratio:.0%} cut: {claim.words}", bar, *map(kept, found), met])
    control = [kept(_at(_of(rows, "recovered", pair=pair), 0)) for pair in pairs]
    lines.append(["nothing cut, after SFT", "", *control, ""])
    return _table(["the paper", "bar", *pairs, "met in"], lines, 2)


def paper(rows: Rows) -> str:
    """The paper's ratios: its shares of the unpruned score beside ours, the mean of the directions and their range."""

    def kept(part: str, share: float) -> str:
        found = [row["against_unpruned"]["share"] for row in _at(_of(rows, part, criterion=_criteria(rows)[0]), share)]
        return f"{statistics.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})" if found else "-"

    lines = [[_cut(share), *theirs, kept("curve", share), kept("recovered", share)] for share, theirs in PAPER.items()]
    return _table(["cut", "paper, as cut", "paper, distilled", "ours, as cut", "ours, after SFT"], lines)


def failures(rows: Rows) -> str:
    """Segments that failed, by ratio, and chrF++ with these counted as empty, without SFT and after it."""
    lines = []
    for part, name in (("curve", "as cut"), ("recovered", "after SFT")):
        found = [row for row in _of(rows, part, criterion=_criteria(rows)[0]) if "failed" in row]
        for share in _ratios(found):
            cells = {row["pair"]: row for row in _at(found, share)}
            told = [cells.get(pair) for pair in _unpruned(rows)]
            texts = [
                f"{row['failed'] / row['segments']:.1%}, {row['chrf']:.1f} → {row['chrf_failures_empty']:.1f}"
                if row
                else "-"
                for row in told
            ]
            lines.append([_cut(share), name, *texts])
    return _table(["cut", "", *_unpruned(rows)], lines, 2)


def _way(row: Row) -> str:
    """How a row was recovered."""
    return " + ".join(row["artefact"].split(" + ")[1:]) or "nothing"


def methods(rows: Rows) -> str:
    """Ways to recover, by direction: chrF++ and BLEU, share of unpruned chrF++, processor time; by ratio."""
    lines: dict[tuple[str, str], dict[float, str]] = {}
    found = _of(rows, "methods")
    pairs, ratios = dict.fromkeys(row["pair"] for row in found), _ratios(found)
    for pair, part in itertools.product(pairs, ("curve", "recovered", "methods")):
        for row in _of(rows, part, pair=pair, criterion=_criteria(rows)[0]):
            if ratio(row) not in ratios:
                continue
            chain = recoveries(row)
            minutes = sum(each.details["seconds"] for each in chain) * row["threads"] / 60
            share = row["against_unpruned"]["share"]
            cell = f"{_cell([row])}, {share:.1%}" + (f", {minutes:.0f} min" if chain else "")
            lines.setdefault((pair, _way(row)), {})[ratio(row)] = cell
    header = ["direction", "recovered by", *(f"{_cut(share)} cut" for share in ratios)]
    return _table(header, [[*names, *(cells.get(share, "-") for share in ratios)] for names, cells in lines.items()], 2)


def _common(a: Row, b: Row) -> float:
    """Share of a's kept experts that b keeps as well, mean over layers."""
    return statistics.mean(len({*x} & {*y}) / len(x) for x, y in zip(a["keep"], b["keep"], strict=True))


def _iou(a: Row, b: Row) -> float:
    """Intersection over union of two keep-lists, mean over layers."""
    return statistics.mean(len({*x} & {*y}) / len({*x} | {*y}) for x, y in zip(a["keep"], b["keep"], strict=True))


def overlap(rows: Rows) -> str:
    """How much the plans of two directions have in common, without SFT, for each ratio; and by chance."""
    ratios, lines = _ratios(_of(rows, "curve")), []
    plans = {(row["pair"], ratio(row)): row for row in _of(rows, "curve", criterion=_criteria(rows)[0])}
    for a, b in itertools.combinations(_unpruned(rows), 2):
        both = [(plans.get((a, share)), plans.get((b, share))) for share in ratios]
        lines.append([f"{a} and {b}", *(f"{_iou(x, y):.2f}" if x and y else "-" for x, y in both)])
    experts = len(next(iter(_unpruned(rows).values()))["keep"][0])
    kept = [next((len(row["keep"][0]) / experts for row in _at(_of(rows, "curve"), share)), 0.0) for share in ratios]
    lines.append(["by chance", *(f"{share / (2 - share):.2f}" for share in kept)])
    return _table(["intersection over union", *(f"{_cut(share)} cut" for share in ratios)], lines)


def shared(rows: Rows) -> str:
    """chrF++ of a direction under its own plan and under one made for several."""
    found, lines = _of(rows, "shared"), []
    plans = list(dict.fromkeys(row["calibration"]["corpus"] for row in found))
    for pair, share in itertools.product(_unpruned(rows), _ratios(found)):
        own = _at(_of(rows, "curve", pair=pair, criterion=_criteria(rows)[0]), share)
        mine = _at(_of(rows, "shared", pair=pair), share)
        by_plan = [[row for row in mine if row["calibration"]["corpus"] == corpus] for corpus in plans]
        lines.append([pair, _cut(share), *(_spread([row["chrf"] for row in each]) for each in (own, *by_plan))])
    return _table(["direction", "cut", "its own plan", *plans], lines, 2)


def transfer(rows: Rows) -> str:
    """One plan of two directions in these, in their reverses and in other languages: share of the unpruned chrF++."""
    found, lines = _of(rows, "transfer"), []
    planned = {pair for row in found for pair in row["calibration"]["corpus"].split(" + ")}
    bases = _unpruned(rows) | {row["pair"]: row for row in _at(found, 0)}
    ratios = [share for share in _ratios(found) if share]
    for pair in dict.fromkeys(row["pair"] for row in found):
        reverse = "-".join(reversed(pair.split("-")))
        known = "planned on" if pair in planned else "its reverse was" if reverse in planned else "never seen"
        cells = [_at([row for row in found if row["pair"] == pair], share) for share in ratios]
        shares = [
            f"{row['against_unpruned']['share']:.1%}" if row else "-"
            for row in (next(iter(cell), None) for cell in cells)
        ]
        lines.append([pair, known, f"{bases[pair]['chrf']:.1f}" if pair in bases else "-", *shares])
    return _table(["direction", "", "unpruned", *(f"{_cut(share)} cut" for share in ratios)], lines, 2)


def own(rows: Rows) -> str:
    """Planned and recovered on the model's own translations, and on references for the same sentences."""
    ways = {"as cut": False, "after SFT": True}
    found = _of(rows, "own")
    lines = []
    for corpus in dict.fromkeys(row["calibration"]["corpus"] for row in found):
        mine = [row for row in found if row["calibration"]["corpus"] == corpus]
        lines.append([corpus, *(_cell([row for row in mine if bool(recoveries(row)) == sft]) for sft in ways.values())])
    cuts = ", ".join(f"{_cut(share)} cut" for share in _ratios(found))
    return _table(
        [f"planned and recovered on ({', '.join(dict.fromkeys(row['pair'] for row in found))}, {cuts})", *ways], lines
    )


def segments(rows: Rows) -> str:
    """chrF++ and the share of the full calibration's keep-list, by the number of calibration segments."""
    found = _of(rows, "segments")
    pairs, ratios, lines = list(dict.fromkeys(row["pair"] for row in found)), _ratios(found), []
    full = [row for row in _of(rows, "curve", criterion=_criteria(rows)[0]) if row["pair"] in pairs]
    sizes = sorted({row["calibration"]["segments"] for row in (*found, *full)})
    for size in sizes:
        cells = []
        for share in ratios:
            reference = _at(full, share)
            same = [row for row in _at([*found, *full], share) if row["calibration"]["segments"] == size]
            overlaps = [100 * _common(row, each) for row in same for each in reference]
            cells += [_spread([row["chrf"] for row in same]), f"{statistics.mean(overlaps):.0f} %" if overlaps else "-"]
        lines.append([f"{size:,}", *cells])
    header = itertools.chain.from_iterable((f"chrF++, {_cut(share)} cut", "same experts") for share in ratios)
    return _table([f"calibration segments ({', '.join(pairs)})", *header], lines)


TABLES = {
    "claims": claims,
    "paper": paper,
    "failures": failures,
    "curve": curve,
    "methods": methods,
    "overlap": overlap,
    "shared": shared,
    "transfer": transfer,
    "own": own,
    "segments": segments,
}


def draw(rows: Rows, path: Path) -> None:
    """Share of unpruned chrF++ against the ratio, a panel for each direction."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bases, criteria = _unpruned(rows), _criteria(rows)
    figure, grid = plt.subplots(
        1, len(bases), figsize=(3.2 * len(bases), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (pair, base) in zip(grid[0], bases.items()):
        axis.axhline(100, color="0.6", linewidth=0.8)
        lines = {name: _of(rows, "curve", pair=pair, criterion=name) for name in criteria}
        lines[f"{criteria[0]} + SFT"] = _of(rows, "recovered", pair=pair)
        for number, (name, found) in enumerate(lines.items()):
            shares = _ratios(found)
            cells = [[100 * row["chrf"] / base["chrf"] for row in _at(found, share)] for share in shares]
            style = {"color": "0.3", "linestyle": ":"} if name == "random" else {"color": f"C{number}"}
            at = [100 * share for share in shares]
            unpruned = next(iter(_at(found, 0)), base)  # after SFT, the control
            values = [100 * unpruned["chrf"] / base["chrf"], *map(statistics.mean, cells)]
            axis.plot([0, *at], values, marker=".", linewidth=1.4, label=name, **style)
            if any(len(cell) > 1 for cell in cells):
                axis.fill_between(at, [*map(min, cells)], [*map(max, cells)], color="0.3", alpha=0.15, linewidth=0)
        for claim in CLAIMS:
            colour = f"C{len(criteria)}" if claim.after_sft else "C0"
            axis.plot(100 * claim.ratio, 100 * claim.bar, marker="_", markersize=14, mew=2, color=colour, zorder=0)
        axis.set(title=f"{pair} (unpruned {base['chrf']:.1f})", xlabel="% of experts cut", ylim=(0, 108))
        axis.grid(alpha=0.3)
    grid[0, 0].set_ylabel("% of unpruned chrF++")
    grid[0, 0].legend(fontsize=7, loc="lower left", title="bars: the paper's claims", title_fontsize=7)
    figure.savefig(path, dpi=110)


def with_known(compared: Rows, known: Rows) -> Rows:
    """Known rows of the same model, each replaced by the new row of its name where there is one, and the other new rows."""
    models = {row["fingerprint"] for row in compared}
    by_name = {row["artefact"]: row for row in known if row["fingerprint"] in models}
    return list((by_name | {row["artefact"]: row for row in compared}).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture")
    parser.add_argument("--numbers", type=Path, default=NUMBERS)
    chosen = parser.parse_args()
    rows = finished_rows(chosen.folder / "rows.jsonl")
    known = finished_rows(chosen.numbers) if chosen.numbers.exists() else []
    compared = with_known(compare(rows, chosen.folder), known)
    if len(_unpruned(compared)) == 0 or not _criteria(compared):
        sys.exit(f"{chosen.folder} has no curve yet. Next: python -m benchmarks.reproduction CORPUS -o {chosen.folder}")
    told = [table(compared) for table in TABLES.values()]
    draw(compared, chosen.output)
    write_rows(chosen.numbers, compared)
    print(*told, sep="\n\n")


if __name__ == "__main__":
    try:
        main()
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
