"""Table and plot of benchmarks.criteria: ``python -m benchmarks.criteria_report rows.jsonl -o docs/pruning``.

Writes ``docs/pruning.csv`` and ``docs/pruning.png``, and prints the Markdown table that docs/pruning.md holds.
"""

import argparse
import csv
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

PANELS = 3  # in a line
CONTROLS = {"random": ":", "inverse-gate": "--"}  # how they are drawn
BARS = {0.5: 0.99, 0.7: 0.97}  # of the unpruned chrF++, without SFT


def grouped(
    rows: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[tuple[str, str], dict[float, list[dict[str, Any]]]]]:
    """The unpruned row, and rows by (criterion, allocation) and ratio."""
    base = next(row for row in rows if row["criterion"] == "unpruned")
    table: dict[tuple[str, str], dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["criterion"] != "unpruned":
            table[row["criterion"], row["allocation"]][row["ratio"]].append(row)
    return base, table


def markdown(base: dict[str, Any], table: dict[tuple[str, str], dict[float, list[dict[str, Any]]]]) -> str:
    """chrF++ / BLEU by criterion and ratio; of several seeds the mean and the half range of chrF++."""
    ratios = sorted({ratio for cells in table.values() for ratio in cells})
    lines = ["| criterion | allocation | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(ratios))
    for (criterion, allocation), cells in table.items():
        shown = []
        for ratio in ratios:
            if ratio not in cells:
                shown.append("-")
                continue
            chrf, bleu = ([row[name] for row in cells[ratio]] for name in ("chrf", "bleu"))
            spread = f" ± {(max(chrf) - min(chrf)) / 2:.1f}" if len(chrf) > 1 else ""
            best = max(statistics.mean(r["chrf"] for r in other[ratio]) for other in table.values() if ratio in other)
            text = f"{statistics.mean(chrf):.1f}{spread} / {statistics.mean(bleu):.1f}"
            shown.append(f"**{text}**" if statistics.mean(chrf) == best else text)
        lines.append(f"| {criterion} | {allocation} | " + " | ".join(shown) + " |")
    facts = (
        f"Unpruned: chrF++ {base['chrf']:.1f}, BLEU {base['bleu']:.1f}. {base['pair']}, {base['segments']} held-out "
        f"segments ({base['test']}), calibration on {base['calibration']['corpus']}; {base['engine']}; {base['chrf_signature']}; "
        f"{base['bleu_signature']}."
    )
    return "\n".join(lines) + "\n\n" + facts


def draw(base: dict[str, Any], table: dict[tuple[str, str], dict[float, list[dict[str, Any]]]], path: Path) -> None:
    """chrF++ against the ratio, one panel for each allocation."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours: dict[str, str] = {}  # one for a criterion, in whatever panel
    allocations = list(dict.fromkeys(allocation for _, allocation in table))
    lines = -(-len(allocations) // PANELS)
    figure, grid = plt.subplots(
        lines, PANELS, figsize=(11, 4 * lines), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, allocation in zip(grid.flat, allocations):
        axis.axhline(base["chrf"], color="0.4", linewidth=1, label="unpruned")
        for (criterion, mine), cells in table.items():
            if mine == allocation:
                ratios = sorted(cells)
                means = [statistics.mean(row["chrf"] for row in cells[ratio]) for ratio in ratios]
                style: dict[str, Any] = {"color": colours.setdefault(criterion, f"C{len(colours) % 10}")}
                if criterion in CONTROLS:
                    style = {"color": "black", "linestyle": CONTROLS[criterion]}
                axis.plot([0, *ratios], [base["chrf"], *means], marker=".", linewidth=1.3, label=criterion, **style)
        heights = [share * base["chrf"] for share in BARS.values()]
        axis.plot([*BARS], heights, "_", markersize=16, color="crimson", label="99 % at 50 %, 97 % at 70 %")
        axis.set(title=allocation, xlabel="share of experts cut")
        axis.grid(alpha=0.3)
    for row in grid:
        row[0].set_ylabel(f"chrF++, {base['pair']}, no SFT")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="path without suffix")
    chosen = parser.parse_args()
    unpruned, found = grouped([json.loads(line) for line in chosen.rows.read_text(encoding="utf-8").splitlines()])
    draw(unpruned, found, chosen.output.with_suffix(".png"))
    with chosen.output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = ("criterion", "allocation", "ratio", "seed", "plan", "chrf", "bleu")
        writer.writerow(names)
        for cells in [{0.0: [unpruned]}, *found.values()]:
            writer.writerows([row[name] for name in names] for ratio in sorted(cells) for row in cells[ratio])
    print(markdown(unpruned, found))
