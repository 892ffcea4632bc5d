"""Score the model on held-out documents, every direction: ``python -m models.recipe.score ARTEFACT WORK``.

``test`` are documents of the training's own sources that were kept out of training; ``unseen`` are sources of which
nothing was trained on. Writes ``WORK/scores.json`` and prints a Markdown table with the metrics' signatures.
"""

import argparse
import contextlib
import json
from pathlib import Path

from models.recipe.prepare import DIRECTIONS, oriented
from runtime.corpus import read_tsv
from runtime.engines import open_engine
from runtime.evaluate import Evaluation, evaluate


def score(artefact: Path, work: Path, limit: int, sets: list[str]) -> dict[str, dict[str, Evaluation]]:
    """Evaluations by test set and direction, on at most ``limit`` segments each."""
    results: dict[str, dict[str, Evaluation]] = {}
    with contextlib.closing(open_engine(artefact)) as engine:
        for name in sets:
            for pair in DIRECTIONS:
                other = pair.target if pair.source == "en" else pair.source
                path = work / "corpus" / f"en-{other}.{name}.tsv"
                if path.exists():
                    segments = oriented(read_tsv(path), pair)[:limit]
                    results.setdefault(name, {})[str(pair)] = result = evaluate(engine, pair, segments)
                    print(
                        f"| {name} | {pair} | {result.segments} | {result.chrf:.1f} | {result.bleu:.1f} |", flush=True
                    )
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--sets", nargs="+", choices=("test", "unseen"), default=["test", "unseen"])
    chosen = parser.parse_args()
    made = score(chosen.artefact, chosen.work, chosen.limit, chosen.sets)
    plain = {name: {pair: vars(result) for pair, result in rows.items()} for name, rows in made.items()}
    (chosen.work / "scores.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    one = next(iter(made[chosen.sets[0]].values()))
    print(one.chrf_signature, one.bleu_signature, sep="\n")
