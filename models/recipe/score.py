"""Score the model on held-out documents, every direction: ``python -m models.recipe.score ARTEFACT WORK``.

``test`` are documents of the training's own sources that were kept out of training; ``unseen`` are sources of which
nothing was trained on. Writes ``WORK/scores.json`` and prints a Markdown table with the metrics' signatures; its last
columns are what copying the source and a translation memory of the training text get (models/recipe/baselines.py).
"""

import argparse
import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from models.recipe.baselines import TranslationMemory
from models.recipe.prepare import DIRECTIONS, corpus_file, corpus_segments
from runtime.engines import open_engine
from runtime.formats.files import new_file
from runtime.measure.evaluate import Evaluation, evaluate
from runtime.measure.scores import score as score_text


@dataclass(frozen=True)
class Scores:
    """Of one direction on one test set: the model's, and the chrF++ of two answers that know no translation."""

    model: Evaluation
    copying: float
    translation_memory: float


Results = dict[str, dict[str, Scores]]  # by test set and direction


def score(artefact: Path, work: Path, limit: int, sets: list[str]) -> Results:
    """Scores by test set and direction, on at most ``limit`` segments each; written to ``WORK/scores.json`` as they come."""
    results: Results = {}
    corpus = work / "corpus"
    with contextlib.closing(open_engine(artefact)) as engine:
        for pair in DIRECTIONS:
            memory = TranslationMemory(corpus_segments(corpus, pair, "train"))
            for name in sets:
                if corpus_file(corpus, pair, name).exists():
                    segments = corpus_segments(corpus, pair, name)[:limit]
                    sources, references = [source for source, _ in segments], [target for _, target in segments]
                    found = evaluate(engine, pair, segments)
                    copied, *_ = score_text(sources, references)
                    recalled, *_ = score_text([memory(source) for source in sources], references)
                    results.setdefault(name, {})[str(pair)] = Scores(found, copied, recalled)
                    print(
                        f"| {name} | {pair} | {found.segments} | {found.chrf:.1f} / {found.bleu:.1f} "
                        f"| {copied:.1f} | {recalled:.1f} |",
                        flush=True,
                    )
            plain = {name: {pair: asdict(scores) for pair, scores in rows.items()} for name, rows in results.items()}
            with new_file(work / "scores.json") as temporary:
                temporary.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--sets", nargs="+", choices=("test", "unseen"), default=["test", "unseen"])
    chosen = parser.parse_args()
    print(
        "| set | direction | segments | chrF++ / BLEU | copying | translation memory |\n|---|---|---:|---:|---:|---:|"
    )
    all_scores = score(chosen.artefact, chosen.work, chosen.limit, chosen.sets)
    one = next(scores.model for rows in all_scores.values() for scores in rows.values())
    print(one.chrf_signature, one.bleu_signature, sep="\n")
