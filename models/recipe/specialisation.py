"""Do experts specialise by language? ``python -m models.recipe.specialisation MODEL WORK -o docs/specialisation.png``.

Calibrates on the dev documents of every direction and compares which experts the tokens of each translation choose:
as a picture (share of tokens by expert, one row for each target language, one panel for each layer) and as two numbers
for each pair of languages, averaged over layers: the Jensen-Shannon divergence of the shares (bits; 0 same, 1 disjoint)
and how many of the quarter of experts that REAP keeps are the same.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

from models.recipe.prepare import DIRECTIONS, corpus_segments
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.stats import Stats
from prune.plan.plan import make_plan

RESPONSE = 1  # row of the sums, see prune.calibrate.stats.ROLES


def measure(model: Path, work: Path) -> dict[str, Stats]:
    """Statistics by direction, on dev documents."""
    found = {}
    for pair in DIRECTIONS:
        segments = corpus_segments(work / "corpus", pair, "dev")
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as file:
            file.writelines(f"{a}\t{b}\n" for a, b in segments)
            file.flush()
            found[str(pair)], _ = calibrate(model, pair, Path(file.name), quiet=True)
    return found


def shares(stats: Stats) -> np.ndarray:
    """Share of the response's routed tokens by layer and expert, [layers, experts]; rows sum to 1."""
    counts = np.stack([layer.count[RESPONSE] for layer in stats.layers.values()])
    return counts / counts.sum(1, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, mean over layers (Lin 1991)."""
    middle = (p + q) / 2

    def relative_entropy(x: np.ndarray) -> np.ndarray:
        ratio = np.divide(x, middle, out=np.ones_like(x), where=x > 0)
        return (x * np.log2(ratio)).sum(1)

    return float(((relative_entropy(p) + relative_entropy(q)) / 2).mean())


def overlap(a: Stats, b: Stats) -> float:
    """Share of the experts that a 75 % REAP plan keeps for both, mean over layers (by chance 0.25)."""
    plans = make_plan(a, 0.75), make_plan(b, 0.75)
    return float(np.mean([len({*x.keep} & {*y.keep}) / len(x.keep) for x, y in zip(*(plan.layers for plan in plans))]))


def draw(found: dict[str, Stats], path: Path) -> None:
    """One panel for each layer; colour: share over the uniform share."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = {name: shares(stats) for name, stats in found.items()}
    layers, experts = next(iter(rows.values())).shape
    shape = {"figsize": (9, 1.6 * layers + 0.8), "sharex": True, "layout": "constrained"}
    figure, grid = plt.subplots(layers, 1, squeeze=False, **shape)
    axes, image = grid[:, 0], None
    for layer, axis in enumerate(axes):
        panel = np.stack([share[layer] for share in rows.values()]) * experts
        order = np.argsort(-panel.var(0))  # the most specialised experts first
        image = axis.imshow(panel[:, order], aspect="auto", cmap="viridis", vmin=0, vmax=4, interpolation="nearest")
        axis.set_yticks(range(len(rows)), list(rows), fontsize=6)
        axis.set_ylabel(f"layer {layer}", fontsize=8)
    axes[-1].set_xlabel("experts, the most uneven first")
    assert image is not None
    figure.colorbar(image, ax=axes, label="tokens of the translation, times the uniform share", shrink=0.6)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    measured = measure(chosen.model, chosen.work)
    draw(measured, chosen.output)
    numbers = {
        f"{a} / {b}": {
            "divergence_bits": round(divergence(shares(measured[a]), shares(measured[b])), 3),
            "kept_in_both": round(overlap(measured[a], measured[b]), 3),
        }
        for a, b in itertools.combinations(measured, 2)
    }
    chosen.output.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    for name, values in numbers.items():
        print(name, values)
