"""Quality against ratio for every criterion and allocation: ``python -m benchmarks.criteria CORPUS -o rows.jsonl``.

CORPUS is what ``python -m models.recipe.corpus`` wrote: calibration takes training text of the pair, the criterion
``contrast`` that of the other pairs, scores are of the held-out test documents. Experts are masked, not cut: both compute
the same (tests/prune/test_families.py), and one loaded model serves all rows. Decoding is greedy, in batches, in float32.

Every criterion is tried with BUDGETS, the best four with the other allocations too. A search for a budget tries
``--evaluations`` of them on calibration text. Plans that keep the same experts share a score.

Rows that are in the output already are not repeated, so a stopped run goes on.
"""

import argparse
import hashlib
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from models.recipe.prepare import DIRECTIONS, corpus_segments
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.stats import Stats
from prune.checkpoint import Checkpoint
from prune.loading import load_model
from prune.plan.budget import ALLOCATIONS, SEARCH
from prune.plan.criteria import CRITERIA
from prune.plan.plan import Plan, make_plan
from prune.rewrite.masked import masked
from prune.trials.search import search_plan
from prune.trials.trial import Trial
from runtime.errors import SlimmoeError
from runtime.formats.files import new_file
from runtime.machine import processor, usable_cores
from runtime.measure.scores import score
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompts import ChatTemplate
from runtime.translate.segments import output_limit

RATIOS = (0.25, 0.5, 0.7, 0.75, 0.9)
SEARCHED = (0.7, 0.75, 0.9, 0.5, 0.25)  # where budgets differ most comes first
SEEDS = (0, 1, 2)  # of the random criterion, and of a search
BUDGETS = ("uniform", "layerwise")
BEST = ("gate", "saliency", "nllb", "reconstruction")
EVALUATIONS = 60  # of a search; six layers have few budgets
ROWS = 72  # segments that are decoded together


def sample(corpus: Path, pair: Pair, segments: int, output: Path, seed: int = 7) -> Path:
    """A random sample of the pair's training text, as a file."""
    rows = corpus_segments(corpus, pair, "train")
    drawn = random.Random(seed).sample(rows, min(segments, len(rows)))
    path = output.with_name(f"{output.stem}.{pair}-{len(drawn)}.tsv")
    with new_file(path) as temporary:
        temporary.write_text("".join(f"{source}\t{target}\n" for source, target in drawn), encoding="utf-8")
    return path


def statistics(model: Path, pair: Pair, text: Path) -> Stats:
    """Of a sample."""
    stats, _ = calibrate(model, pair, text, quiet=True)
    stats.calibration["corpus"] = f"{stats.calibration['segments']} segments of {pair}.train"
    return stats


class Translator:
    """Greedy decoding of many segments at once with a transformers model (what the engines do one by one)."""

    def __init__(self, folder: Path, model: Any) -> None:
        from tokenizers import Tokenizer

        self._tokenizer, self._template = (
            Tokenizer.from_file(str(folder / "tokenizer.json")),
            ChatTemplate.from_folder(folder),
        )
        self._model = model

    @torch.inference_mode()
    def __call__(self, pair: Pair, sources: list[str]) -> list[str]:
        prompts = [self._template.prompt(pair, source) for source in sources]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(prompts, add_special_tokens=False)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        written: dict[int, str] = {}
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            longest = len(ids[rows[-1]])
            padded = torch.tensor([[0] * (longest - len(ids[i])) + ids[i] for i in rows])
            mask = torch.tensor([[0] * (longest - len(ids[i])) + [1] * len(ids[i]) for i in rows])
            made = self._model.generate(
                padded, attention_mask=mask, max_new_tokens=output_limit(longest), do_sample=False
            )[:, longest:].tolist()
            for i, tokens in zip(rows, made):
                text = self._tokenizer.decode(tokens[: output_limit(len(ids[i]))], skip_special_tokens=True)
                written[i] = text.strip()
        return [written[i] for i in range(len(ids))]


def plans(stats: Stats, against: Stats, trial: Trial, evaluations: int, output: Path) -> Iterator[Plan]:
    """Every ratio and criterion with its allocations, chance with every seed; searches, which take longest, come last."""
    for ratio in RATIOS:
        for name in CRITERIA:
            other = against if name == "contrast" else None  # it would change what the allocation jsd compares
            for allocation in ALLOCATIONS if name in BEST else BUDGETS:
                for seed in SEEDS if name == "random" else SEEDS[:1]:
                    yield make_plan(stats, ratio, name, seed, allocation, other)
    for ratio, seed, name in itertools.product(SEARCHED, SEEDS, BEST):
        yield search_plan(
            stats, ratio, name, trial.overlap, evaluations=evaluations, seed=seed, trial=trial.about,
            journal=output.with_name(f"{output.stem}.{name}-{ratio:g}.search"),  # of all seeds
        )  # fmt: skip


def _scores(row: dict[str, Any]) -> tuple[float, str, float, str]:
    return row["chrf"], row["chrf_signature"], row["bleu"], row["bleu_signature"]


def run(
    model_folder: Path,
    corpus: Path,
    pair: Pair,
    output: Path,
    segments: int,
    every: int,
    evaluations: int,
    threads: int,
) -> None:
    """Write one row for each plan, and one for the unpruned model."""
    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] if output.exists() else []
    done, scores = {row["key"] for row in rows}, {row["experts"]: _scores(row) for row in rows if "experts" in row}
    text = sample(corpus, pair, segments, output)
    stats = statistics(model_folder, pair, text)
    others = [other for other in DIRECTIONS if other != pair]
    first, *rest = (statistics(model_folder, other, sample(corpus, other, segments // 4, output)) for other in others)
    against = sum(rest, first)
    test = corpus_segments(corpus, pair, "test")[::every]
    name_of_test = f"{pair}.test" + (f", one segment in {every}" if every > 1 else "")
    sources, references = [source for source, _ in test], [target for _, target in test]
    checkpoint, model = Checkpoint(model_folder), load_model(model_folder, torch.device("cpu"), torch.float32)
    translate, trial = Translator(model_folder, model), Trial(model_folder, pair, text)
    work = itertools.chain([make_plan(stats, 0.0)], plans(stats, against, trial, evaluations, output))
    for plan in tqdm(work, "plans", unit="plan"):
        name = plan.criterion if plan.ratio else "unpruned"
        key = f"{name} {plan.allocation} {plan.ratio:g} {plan.seed} {plan.hash}"
        if key in done:
            continue
        experts = hashlib.sha256(json.dumps([layer.keep for layer in plan.layers]).encode()).hexdigest()[:16]
        if experts not in scores:
            with masked(model, checkpoint, plan):
                hypotheses = translate(pair, sources)
            scores[experts] = score(hypotheses, references, pair.target)
        chrf, chrf_signature, bleu, bleu_signature = scores[experts]
        row = {
            "key": key, "criterion": name, "allocation": plan.allocation, "ratio": plan.ratio, "seed": plan.seed,
            "plan": plan.hash, "experts": experts, "kept": [len(layer.keep) for layer in plan.layers], "pair": str(pair),
            "model": str(model_folder), "fingerprint": plan.fingerprint, "test": name_of_test, "segments": len(test),
            "chrf": round(chrf, 2), "bleu": round(bleu, 2), "chrf_signature": chrf_signature,
            "bleu_signature": bleu_signature, "calibration": plan.calibration,
            "engine": f"transformers {transformers.__version__}, torch {torch.__version__}, float32, masked",
            "machine": processor(), "threads": threads,
        }  # fmt: skip
        if plan.allocation == SEARCH:
            row["evaluations"] = evaluations
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/default"))
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--segments", type=int, default=2000, help="of calibration")
    parser.add_argument("--every", type=int, default=1, help="score one test segment in so many")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="budgets that a search tries")
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    run(
        chosen.model,
        chosen.corpus,
        chosen.pair,
        chosen.output,
        chosen.segments,
        chosen.every,
        chosen.evaluations,
        chosen.threads,
    )


if __name__ == "__main__":
    try:
        main()
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
