"""The paper's experiment on one model, in several directions: ``python -m benchmarks.reproduction CORPUS -o FOLDER``.

CORPUS is what ``python -m models.recipe.corpus`` wrote: calibration and SFT take training text, scores are of the
held-out test documents. Five parts, of which ``--part`` chooses:

    curve      chrF++ against the ratio by criterion, without SFT (the random criterion with three seeds)
    recovered  the same after a short SFT, for the first criterion
    shared     one plan for several directions, scored in each of them
    segments   plans of fewer calibration segments
    (keep-lists are in every row, so their overlap needs no part of its own)

Every variant is cut from one F16 GGUF file (mended ones become one) and decoded greedily by llama.cpp. Rows go to
FOLDER/rows.jsonl, hypotheses beside it; rows that are there are not measured again, so a stopped run goes on, and parts
may run side by side.
"""

import argparse
import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.criteria import corpus_segments, sampled_stats
from export.gguf import export_gguf
from export.gguf.cut import cut_gguf
from prune.cut import prune
from prune.plan import Plan, make_plan
from prune.recovery.recover import recover
from prune.recovery.settings import Settings
from prune.stats import Stats
from runtime.bench import processor
from runtime.compare import keep_hypotheses
from runtime.engines import open_engine, usable_cores
from runtime.evaluate import score
from runtime.pairs import Pair, parse_pair
from runtime.translate import translate

PAIRS = ("en-de", "de-en", "en-fr", "en-ru")
CRITERIA = ("gate", "frequency", "random")  # the best one by docs/pruning.md, and two to compare it with
RATIOS = (0.25, 0.5, 0.7, 0.75, 0.9)
SEEDS = (0, 1, 2)  # of the random criterion
SHARED_RATIOS = (0.5, 0.75)  # of plans for several directions, and of fewer calibration segments
SIZES = (3, 10, 30, 100, 300, 1000)  # calibration segments
SEGMENTS = 2000  # calibration segments otherwise
LEARNT = 60_000  # segments that SFT draws from
PARTS = ("curve", "recovered", "shared", "segments")


@dataclass(frozen=True)
class Trial:
    """One variant in one direction."""

    part: str
    pair: Pair
    plan: Plan
    recovered: bool = False

    @property
    def name(self) -> str:
        """What it is called in rows; of one model no two trials share it."""
        if not self.plan.ratio:
            return f"{self.pair} unpruned"
        told = f"{self.pair} {self.plan.criterion} {self.plan.ratio:g}"
        if self.plan.criterion == "random":
            told += f" seed {self.plan.seed}"
        if self.part in ("shared", "segments"):
            told += f" by {self.plan.calibration['corpus']}"
        return told + " + SFT" * self.recovered


class Reproduction:
    """What the trials share: the model, the text, and where results go."""

    def __init__(self, model: Path, corpus: Path, folder: Path, pairs: list[Pair], steps: int, threads: int) -> None:
        self.model, self.corpus, self.folder, self.pairs = model, corpus, folder, pairs
        self.steps, self.threads = steps, threads
        self.rows = folder / "rows.jsonl"
        folder.mkdir(parents=True, exist_ok=True)

    def stats(self, pair: Pair, segments: int = SEGMENTS) -> Stats:
        """Statistics of so many training segments, made once."""
        path = self.folder / "stats" / f"{pair}-{segments}.safetensors"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            sampled_stats(self.model, self.corpus, pair, segments).save(path)
        return Stats.load(path)

    def curve(self) -> Iterator[Trial]:
        """Every ratio and criterion in every direction, the unpruned model first."""
        for pair in self.pairs:
            stats = self.stats(pair)
            yield Trial("curve", pair, make_plan(stats, 0.0))
            for ratio in RATIOS:
                for criterion in CRITERIA:
                    for seed in SEEDS if criterion == "random" else SEEDS[:1]:
                        yield Trial("curve", pair, make_plan(stats, ratio, criterion, seed))

    def recovered(self) -> Iterator[Trial]:
        """Every ratio in every direction, cut by the first criterion and mended."""
        for ratio in reversed(RATIOS):  # where it matters most comes first
            for pair in self.pairs:
                yield Trial("recovered", pair, make_plan(self.stats(pair), ratio, CRITERIA[0]), recovered=True)

    def shared(self) -> Iterator[Trial]:
        """One plan for the first two directions, and one for all of them."""
        for pairs in (self.pairs[:2], self.pairs):
            stats = self.stats(pairs[0])
            for pair in pairs[1:]:
                stats = stats + self.stats(pair)
            stats.calibration["corpus"] = " + ".join(map(str, pairs))
            for ratio in SHARED_RATIOS:
                plan = make_plan(stats, ratio, CRITERIA[0])
                for pair in pairs:
                    yield Trial("shared", pair, plan)

    def segments(self) -> Iterator[Trial]:
        """Fewer calibration segments, in the first direction."""
        pair = self.pairs[0]
        for size in SIZES:
            stats = self.stats(pair, size)
            for ratio in SHARED_RATIOS:
                yield Trial("segments", pair, make_plan(stats, ratio, CRITERIA[0]))

    def whole(self) -> Path:
        """The unpruned model as F16 GGUF, made once."""
        path = self.folder / "unpruned-F16.gguf"
        return path if path.exists() else export_gguf(self.model, path, "F16", tell=lambda _: None)

    def mended(self, trial: Trial, work: Path) -> tuple[Path, dict[str, Any]]:
        """The trial cut, trained for a few steps and exported below ``work``; and what is told of the training."""
        cut = prune(self.model, trial.plan, work / "cut")
        learnt, dev, mended = work / "learnt.tsv", work / "dev.tsv", work / "mended"
        rows = corpus_segments(self.corpus, trial.pair, "train")
        sample = random.Random(7).sample(rows, min(LEARNT, len(rows)))
        for path, segments in ((learnt, sample), (dev, corpus_segments(self.corpus, trial.pair, "dev")[:100])):
            path.write_text("".join(f"{source}\t{target}\n" for source, target in segments), encoding="utf-8")
        recovery = recover(cut, trial.pair, learnt, dev, mended, Settings(steps=self.steps), quiet=True)
        return export_gguf(mended, work / "mended.gguf", "F16", tell=lambda _: None), recovery

    def measure(self, trial: Trial) -> dict[str, Any]:
        """One row: as those of bench.jsonl, without speed and memory."""
        test = corpus_segments(self.corpus, trial.pair, "test")
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            work = Path(temporary)
            artefact, recovery = self.whole(), None
            if trial.recovered:
                artefact, recovery = self.mended(trial, work)
            elif trial.plan.ratio:
                artefact = cut_gguf(artefact, trial.plan, work / "cut.gguf")
            with contextlib.closing(open_engine(artefact, threads=self.threads)) as engine:
                written, engine_name = translate(engine, trial.pair, [source for source, _ in test]), engine.name
                hypotheses = [" ".join(translation.text.splitlines()) for translation in written]
        references = [target for _, target in test]
        chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references)
        plan = trial.plan
        made = {"criterion": plan.criterion, "ratio": plan.ratio, "seed": plan.seed, "plan": plan.hash}
        made |= {"recovered": trial.recovered, "recovery": recovery}
        return {
            "part": trial.part, "artefact": trial.name, "pair": str(trial.pair), "type": "F16",
            "model": str(self.model), "fingerprint": plan.fingerprint,
            "provenance": made if plan.ratio else {},
            "keep": [layer.keep for layer in plan.layers], "calibration": plan.calibration,
            "test": f"{trial.pair}.test", "segments": len(test), "chrf": round(chrf, 2), "bleu": round(bleu, 2),
            "chrf_signature": chrf_signature, "bleu_signature": bleu_signature,
            "engine": engine_name, "machine": processor(), "threads": self.threads,
            "hypotheses": hypotheses, "references": references,
        }  # fmt: skip

    def done(self) -> set[str]:
        """Names of the trials that have a row.

        Raises:
            SystemExit: a row is of another model.
        """
        lines = self.rows.read_text(encoding="utf-8").splitlines() if self.rows.exists() else []
        rows = [json.loads(line) for line in lines]
        mine = self.stats(self.pairs[0]).fingerprint
        if any(row["fingerprint"] != mine for row in rows):
            raise SystemExit(f"{self.rows} has rows of another model. Next: another folder for -o.")
        return {row["artefact"] for row in rows}

    def run(self, parts: list[str]) -> None:
        """Measure what has no row yet."""
        trials = [trial for part in parts for trial in getattr(self, part)()]
        for trial in tqdm(trials, "trials"):
            if trial.name in self.done():  # asked anew each time: another process may have measured it
                continue
            row = keep_hypotheses(self.measure(trial), self.folder)
            with self.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/default"))
    parser.add_argument(
        "--pair", type=parse_pair, action="append", help=f"may be repeated (default: {' '.join(PAIRS)})"
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--steps", type=int, default=200, help="of SFT")
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    wanted = chosen.pair or [parse_pair(name) for name in PAIRS]
    Reproduction(chosen.model, chosen.corpus, chosen.output, wanted, chosen.steps, chosen.threads).run(
        chosen.part or list(PARTS)
    )
