"""Tables and picture of benchmarks.reproduction: ``python -m benchmarks.reproduction_report FOLDER -o docs/reproduction.png``.

Rows get their paired bootstrap against the unpruned model (runtime/compare.py), are written to
docs/numbers/reproduction.jsonl, and drawn. The functions below turn them into docs/reproduction.md's tables.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

from runtime.compare import compare
from runtime.report.rows import made, ratio
from runtime.report.verdict import CLAIMS

Row = dict[str, Any]
Rows = list[Row]
LEVEL = 0.05  # of significance
NUMBERS = Path(__file__).parents[1] / "docs" / "numbers" / "reproduction.jsonl"


def _of(rows: Rows, part: str, **wanted: Any) -> Rows:
    """Rows of a part; ``criterion`` and the like are looked up in how the artefact was made."""
    return [
        row for row in rows if row["part"] == part and all(row.get(k, made(row, k)) == v for k, v in wanted.items())
    ]


def _unpruned(rows: Rows) -> dict[str, Row]:
    """The unpruned row of each direction."""
    return {row["pair"]: row for row in _of(rows, "curve") if not ratio(row)}


def _ratios(rows: Rows) -> list[float]:
    return sorted({ratio(row) for row in _of(rows, "curve") if ratio(row)})


def _best(rows: Rows) -> str:
    """The criterion that is compared with the others: the one that SFT and shared plans start from, measured first."""
    return next(made(row, "criterion") for row in rows if ratio(row))


def _table(header: Iterable[str], lines: Iterable[Iterable[str]], texts: int = 1) -> str:
    header = list(header)
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def _is_loss(row: Row) -> bool:
    against = row["against_unpruned"]
    return against["chrf_delta"] < 0 and against["chrf_p"] < LEVEL


def _cell(found: Rows) -> str:
    """chrF++ and BLEU; of several seeds mean and half range; ° where no loss of chrF++ was found."""
    if not found:
        return "-"
    chrf, bleu = ([row[name] for row in found] for name in ("chrf", "bleu"))
    spread = f" ± {(max(chrf) - min(chrf)) / 2:.1f}" if len(found) > 1 else ""
    mark = "" if any(map(_is_loss, found)) else "°"
    return f"{statistics.mean(chrf):.1f}{spread}{mark} / {statistics.mean(bleu):.1f}"


def curve(rows: Rows) -> str:
    """One line for each direction, criterion and SFT; a column for each ratio."""
    ratios, lines = _ratios(rows), []
    criteria = dict.fromkeys(made(row, "criterion") for row in _of(rows, "curve") if ratio(row))
    for pair, base in _unpruned(rows).items():
        ways = [(f"{_best(rows)} + SFT", _of(rows, "recovered", pair=pair))]
        ways += [(name, _of(rows, "curve", pair=pair, criterion=name)) for name in criteria]
        for number, (name, found) in enumerate(ways):
            first = [f"{pair}", f"{base['chrf']:.1f} / {base['bleu']:.1f}"] if not number else ["", ""]
            lines.append([*first, name, *(_cell([row for row in found if ratio(row) == at]) for at in ratios)])
    one = next(iter(_unpruned(rows).values()))
    facts = (
        f"chrF++ / BLEU; ° no significant loss of chrF++ (paired bootstrap, p >= {LEVEL}). {one['engine']}, F16; "
        f"{one['chrf_signature']}; {one['bleu_signature']}."
    )
    return _table(["direction", "unpruned", "criterion", *(f"{at:.0%}" for at in ratios)], lines, 3) + f"\n\n{facts}"


def claims(rows: Rows) -> str:
    """Each claim of the paper: the share of unpruned chrF++ kept in each direction, and in how many the bar is met."""
    pairs, best, lines = list(_unpruned(rows)), _best(rows), []
    for claim in CLAIMS:
        part = "recovered" if claim.recovered else "curve"
        cells, met, measured = [], 0, 0
        for pair in pairs:
            found = [row for row in _of(rows, part, pair=pair, criterion=best) if ratio(row) == claim.ratio]
            if not found:
                cells.append("-")
                continue
            share = found[0]["against_unpruned"]["share"]
            met, measured = met + (share >= claim.bar), measured + 1
            cells.append(f"{share:.1%}" + "°" * (not _is_loss(found[0])))
        bar = f"{claim.bar:.0%}" + (", after SFT" if claim.recovered else ", no SFT")
        lines.append([f"{claim.ratio:.0%} cut: {claim.words}", bar, *cells, f"{met} of {measured}"])
    return _table(["the paper", "bar", *pairs, "met in"], lines, 2)


def _common(a: list[list[int]], b: list[list[int]]) -> float:
    """Share of a's kept experts that b keeps as well, mean over layers."""
    return statistics.mean(len({*x} & {*y}) / len(x) for x, y in zip(a, b, strict=True))


def overlap(rows: Rows) -> str:
    """Share of experts that the plans of two directions both keep, without SFT, for each ratio; and chance."""
    pairs, best, ratios = list(_unpruned(rows)), _best(rows), _ratios(rows)
    keeps = {(row["pair"], ratio(row)): row["keep"] for row in _of(rows, "curve", criterion=best)}
    lines = [
        [f"{a} and {b}", *(f"{_common(keeps[a, at], keeps[b, at]):.0%}" for at in ratios)]
        for a, b in itertools.combinations(pairs, 2)
    ]
    experts = max(max(layer) for row in rows for layer in row["keep"]) + 1
    by_chance = [f"{len(keeps[pairs[0], at][0]) / experts:.0%}" for at in ratios]
    return _table(["kept by both", *(f"{at:.0%} cut" for at in ratios)], [*lines, ["by chance", *by_chance]])


def shared(rows: Rows) -> str:
    """chrF++ of a direction under its own plan and under one made for several."""
    best, lines = _best(rows), []
    plans = dict.fromkeys((row["calibration"]["corpus"], ratio(row)) for row in _of(rows, "shared"))
    for pair, at in itertools.product(_unpruned(rows), sorted({at for _, at in plans})):
        (own,) = (row for row in _of(rows, "curve", pair=pair, criterion=best) if ratio(row) == at)
        cells = [f"{own['chrf']:.1f}"]
        for corpus in dict.fromkeys(corpus for corpus, _ in plans):
            found = [
                r for r in _of(rows, "shared", pair=pair) if (r["calibration"]["corpus"], ratio(r)) == (corpus, at)
            ]
            cells.append(f"{found[0]['chrf']:.1f}" if found else "-")
        lines.append([pair, f"{at:.0%}", *cells])
    return _table(["direction", "cut", "its own plan", *dict.fromkeys(corpus for corpus, _ in plans)], lines, 2)


def segments(rows: Rows) -> str:
    """chrF++ and the share of the full calibration's keep-list, by the number of calibration segments."""
    found, best = _of(rows, "segments"), _best(rows)
    ratios, lines = sorted({ratio(row) for row in found}), []
    full = {ratio(row): row for row in _of(rows, "curve", pair=found[0]["pair"], criterion=best)}
    sizes = sorted({row["calibration"]["segments"] for row in found})
    for size in (*sizes, full[ratios[0]]["calibration"]["segments"]):
        cells = []
        for at in ratios:
            chosen = [row for row in found if ratio(row) == at and row["calibration"]["segments"] == size]
            row = chosen[0] if chosen else full[at]
            cells += [f"{row['chrf']:.1f}", f"{_common(row['keep'], full[at]['keep']):.0%}"]
        lines.append([f"{size:,}", *cells])
    header = itertools.chain.from_iterable((f"chrF++, {at:.0%} cut", "same experts") for at in ratios)
    return _table([f"calibration segments ({found[0]['pair']})", *header], lines)


def draw(rows: Rows, path: Path) -> None:
    """Share of unpruned chrF++ against the ratio, a panel for each direction."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bases, ratios = _unpruned(rows), _ratios(rows)
    figure, grid = plt.subplots(
        1, len(bases), figsize=(3.2 * len(bases), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    styles = {"random": {"color": "0.3", "linestyle": ":"}, "frequency": {"color": "tab:orange"}}
    for axis, (pair, base) in zip(grid[0], bases.items()):
        axis.axhline(100, color="0.6", linewidth=0.8)
        lines = {name: _of(rows, "curve", pair=pair, criterion=name) for name in (_best(rows), "frequency", "random")}
        lines[f"{_best(rows)} + SFT"] = _of(rows, "recovered", pair=pair)
        for name, found in lines.items():
            at = [100 * share for share in ratios if any(ratio(row) == share for row in found)]
            cells = [[100 * row["chrf"] / base["chrf"] for row in found if 100 * ratio(row) == share] for share in at]
            style = styles.get(name, {"color": "tab:green" if "SFT" in name else "tab:blue"})
            axis.plot([0, *at], [100, *map(statistics.mean, cells)], marker=".", linewidth=1.4, label=name, **style)
            if any(len(cell) > 1 for cell in cells):
                axis.fill_between(at, [*map(min, cells)], [*map(max, cells)], color="0.3", alpha=0.15, linewidth=0)
        for claim in CLAIMS:
            colour = "tab:green" if claim.recovered else "tab:blue"
            axis.plot(100 * claim.ratio, 100 * claim.bar, marker="_", markersize=14, mew=2, color=colour, zorder=0)
        axis.set(title=f"{pair} (unpruned {base['chrf']:.1f})", xlabel="% of experts cut", ylim=(0, 108))
        axis.grid(alpha=0.3)
    grid[0, 0].set_ylabel("% of unpruned chrF++")
    grid[0, 0].legend(fontsize=7, loc="lower left", title="bars: the paper's claims", title_fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture")
    parser.add_argument("--numbers", type=Path, default=NUMBERS)
    chosen = parser.parse_args()
    text = (chosen.folder / "rows.jsonl").read_text(encoding="utf-8")
    compared = compare([json.loads(line) for line in text.splitlines()], chosen.folder)
    chosen.numbers.write_text("".join(json.dumps(row) + "\n" for row in compared), encoding="utf-8")
    draw(compared, chosen.output)
    for part in (claims, curve, overlap, shared, segments):
        print(part(compared), end="\n\n")
