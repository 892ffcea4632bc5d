"""The paper's experiment on one model, in several directions: ``python -m benchmarks.reproduction CORPUS -o FOLDER``.

CORPUS is what ``python -m models.recipe.corpus`` wrote: calibration and SFT take training text, scores are of the
held-out test documents. Seven parts, of which ``--part`` chooses:

    curve      chrF++ against the ratio, without SFT: the first criterion at the paper's ratios and ours, the others at ours
    recovered  the same after a short SFT, for the first criterion, and the unpruned model after it
    methods    least squares before a longer SFT, about ten minutes on two cores; alone, in the first direction
    own        the first direction from source text alone, beside the same text with references
    shared     one plan for several directions, scored in each of them
    transfer   one plan for two directions, scored in their reverses and in languages that it never saw
    segments   plans of fewer calibration segments, three draws of them

Keep-lists are in every row, so their overlap needs no part of its own.

Every variant is cut from one F16 GGUF file (recovered ones become one) and decoded greedily by llama.cpp. Rows go to
FOLDER/rows.jsonl, hypotheses beside it; rows that are there are not measured again, so a stopped run goes on, and parts
may run side by side.
"""

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from models.recipe.prepare import corpus_segments
from prune.calibrate.stats import Stats
from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan, make_plan
from prune.recovery.settings import LEAST_SQUARES
from prune.rewrite import prune
from runtime.engines import open_engine
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.files import new_file
from runtime.formats.provenance import read_provenance
from runtime.machine import processor, usable_cores
from runtime.measure.compare import keep_hypotheses
from runtime.measure.evaluate import assess
from runtime.measure.failures import find_failures
from runtime.measure.rows import FORMAT, append_row, finished_rows, write_rows
from runtime.measure.scores import score
from runtime.text.corpus import read_tsv
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.segments import translate
from slimmoe.pipeline import Pipeline
from slimmoe.runs import alone_in, runner_in
from slimmoe.stages import Stage
from slimmoe.variants import Recovery, Texts, Variant

PAIRS = ("en-de", "de-en", "en-fr", "en-ru")
CRITERIA = ("gate", "frequency", "random")  # the best one by docs/pruning.md, and two to compare it with
RATIOS = (0.25, 0.5, 0.7, 0.75, 0.9)
PAPERS_RATIOS = (0.5, 0.625, 0.6875, 0.75, 0.8125, 0.875)
RECOVERED_RATIOS = (0.9, 0.75, 0.0, 0.875, 0.6875, 0.7, 0.5, 0.25)  # where it matters most comes first
SEEDS = (0, 1, 2)  # of the random criterion, and of the samples of few calibration segments
SHARED_RATIOS = (0.5, 0.75)  # of plans for several directions, and of fewer calibration segments
TRANSFER = ("en-de", "en-fr"), ("en-de", "en-fr", "de-en", "fr-en", "en-es", "en-ru")  # planned on, and scored in
SIZES = (3, 10, 30, 100, 300, 1000)  # calibration segments
SEGMENTS = 2000  # calibration segments otherwise
SFT_SEGMENTS, DEV_SEGMENTS = 60_000, 100  # that SFT draws from, and that choose its best step
OWN_SEGMENTS, OWN_RATIO = 10_000, 0.75  # sentences that the model translates itself, as many as the paper's
PARTS = ("curve", "recovered", "methods", "own", "shared", "transfer", "segments")


@dataclass(frozen=True)
class Step:
    """One way to recover. SFT is of ``length`` times the steps that were asked for, least squares of REFIT_STEPS."""

    method: str
    length: int = 1

    @property
    def name(self) -> str:
        if self.method == LEAST_SQUARES:
            return "least squares"
        return "SFT" if self.length == 1 else f"{self.length} x SFT"


SFT, LONG_SFT, REFIT = Step("full"), Step("full", 2), Step(LEAST_SQUARES)
REFIT_STEPS = 50  # batches; three times as many gain little
LONG_RATIOS = (0.75, 0.9)  # recovered by REFIT and then LONG_SFT
REFIT_RATIOS = (0.75, 0.9, 0.7, 0.5)  # recovered by REFIT alone


@dataclass(frozen=True)
class Trial:
    """One variant in one direction."""

    part: str
    pair: Pair
    plan: Plan
    sample: int = 0  # which draw of calibration segments
    stages: tuple[Step, ...] = ()  # of recovery, in this order
    pipeline: Pipeline | None = None  # where it is cut and recovered; None: in the usual one of its direction

    @property
    def name(self) -> str:
        """What it is called in rows; of one folder no two trials share it."""
        if not self.plan.ratio:
            return f"{self.pair} unpruned" + self._recoveries
        text = f"{self.pair} {self.plan.criterion} {self.plan.ratio:g}"
        if self.plan.criterion == "random":
            text += f" seed {self.plan.seed}"
        if self.part in ("own", "shared", "transfer", "segments"):
            text += f" by {self.plan.calibration['corpus']}"
        if self.part == "segments":
            text += f", sample {self.sample}"
        return text + self._recoveries

    @property
    def _recoveries(self) -> str:
        return "".join(f" + {stage.name}" for stage in self.stages)


def _records(folder: Path) -> list[dict[str, Any]]:
    """The recoveries of a checkpoint in the order of time, with names for paths: rows are published."""
    provenance = read_provenance(folder)
    records = [each.to_dict() for each in provenance.recoveries] if provenance else []
    return [each | {name: Path(each[name]).name for name in ("corpus", "dev")} for each in records]


class Reproduction:
    """What the trials share: the model, the text, and where results go."""

    def __init__(self, model: Path, corpus: Path, folder: Path, pairs: list[Pair], steps: int, threads: int) -> None:
        self.model, self.corpus, self.folder, self.pairs = model, corpus, folder, pairs
        self.steps, self.threads = steps, threads
        self.rows = folder / "rows.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._check_request()
        with self._lock("rows"):
            if self.rows.exists():
                write_rows(self.rows, finished_rows(self.rows))

    def _lock(self, name: str, timeout: float = -1) -> FileLock:
        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / hashlib.sha256(name.encode()).hexdigest()[:16], timeout=timeout)

    def _check_request(self) -> None:
        """Refuse a folder whose rows are of another model, other text or another SFT.

        Raises:
            RequestError: it is one.
        """
        digest = hashlib.sha256()
        for path in sorted(self.corpus.glob("*.tsv")):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        request = {"weights": Checkpoint(self.model).weights_hash, "corpus": digest.hexdigest(), "steps": self.steps}
        path = self.folder / "request.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else request
        for name, value in request.items():
            if before[name] != value:
                raise RequestError(
                    f"{self.folder} holds results of other {name}, which do not compare.",
                    next_command=f"rm -r {self.folder}   (or another -o)",
                )
        with new_file(path) as temporary:
            temporary.write_text(json.dumps(request, indent=1) + "\n", encoding="utf-8")

    def _samples(self, names: dict[str, tuple[str, int]], pair: Pair, seed: int) -> list[Path]:
        """Random samples of the corpus as files, drawn once: by name, the split and how many segments."""
        paths = [self.folder / "texts" / f"{name}.tsv" for name in names]
        rng = random.Random(seed)
        with self._lock(paths[0].name):
            for path, (split, most) in zip(paths, names.values()) if not all(map(Path.exists, paths)) else ():
                rows = corpus_segments(self.corpus, pair, split)
                with new_file(path) as temporary:
                    lines = (f"{a}\t{b}\n" for a, b in rng.sample(rows, min(most, len(rows))))
                    temporary.write_text("".join(lines), encoding="utf-8")
        return paths

    def _pipeline(self, pair: Pair, segments: int = SEGMENTS, sample: int = 0) -> Pipeline:
        """Of one direction and one draw of calibration segments."""
        name = f"{pair}-{segments}-{sample}"
        (corpus,) = self._samples({name: ("train", segments)}, pair, 7 + sample)
        of_recovery = {f"{pair}.train": ("train", SFT_SEGMENTS), f"{pair}.dev": ("dev", DEV_SEGMENTS)}
        recovery, dev = self._samples(of_recovery, pair, 7)
        texts = Texts(corpus, dev, recovery=recovery)
        return Pipeline(self.folder / "runs" / name, self.model.name, texts)

    def _done(self, pipeline: Pipeline, stage: Stage) -> Path:
        """A stage's output, made where it is not there yet; several processes may ask for it."""
        with alone_in(pipeline.home, lambda _: None), runner_in(pipeline.home, check=False) as runner:
            return runner.run(stage)

    def stats(self, pair: Pair, segments: int = SEGMENTS, sample: int = 0) -> Stats:
        """Statistics of so many training segments."""
        pipeline = self._pipeline(pair, segments, sample)
        stats = Stats.load(self._done(pipeline, pipeline.statistics(Variant(self.model, pair))))
        stats.calibration["corpus"] = f"{stats.calibration['segments']} segments of {pair}.train"
        return stats

    def curve(self) -> Iterator[Trial]:
        """Every ratio and criterion in every direction, the unpruned model first."""
        for pair in self.pairs:
            stats = self.stats(pair)
            yield Trial("curve", pair, make_plan(stats, 0.0))
            for ratio in sorted({*RATIOS, *PAPERS_RATIOS}):
                for criterion in CRITERIA if ratio in RATIOS else CRITERIA[:1]:
                    for seed in SEEDS if criterion == "random" else SEEDS[:1]:
                        yield Trial("curve", pair, make_plan(stats, ratio, criterion, seed))

    def recovered(self) -> Iterator[Trial]:
        """Every ratio in every direction, cut by the first criterion and recovered.

        Among them is ratio 0, the control: what of a gain is the text, and not the recovery.
        """
        for pair in self.pairs:
            yield Trial("curve", pair, make_plan(self.stats(pair), 0.0))
        for ratio in RECOVERED_RATIOS:
            for pair in self.pairs:
                yield Trial("recovered", pair, make_plan(self.stats(pair), ratio, CRITERIA[0]), stages=(SFT,))

    def methods(self) -> Iterator[Trial]:
        """Cut by the first criterion and recovered in the other ways."""
        for pair in self.pairs:
            yield Trial("curve", pair, make_plan(self.stats(pair), 0.0))
        ways = [(ratio, pair, (REFIT, LONG_SFT)) for ratio in LONG_RATIOS for pair in self.pairs]
        ways += [(ratio, self.pairs[0], (REFIT,)) for ratio in REFIT_RATIOS]
        for ratio, pair, stages in ways:
            yield Trial("methods", pair, make_plan(self.stats(pair), ratio, CRITERIA[0]), stages=stages)

    def own(self) -> Iterator[Trial]:
        """The first direction, planned and recovered on sentences that the model translates itself, and on references."""
        pair = self.pairs[0]
        yield Trial("curve", pair, make_plan(self.stats(pair), 0.0))
        (references,) = self._samples({f"{pair}-own": ("train", OWN_SEGMENTS)}, pair, 7)
        source = references.with_suffix(".txt")
        if not source.exists():
            with new_file(source) as temporary:
                temporary.write_text("".join(f"{line}\n" for line, _ in read_tsv(references)), encoding="utf-8")
        dev = self._pipeline(pair).texts.dev
        for name, texts in {"references": Texts(references, dev), "own translations": Texts(source=source)}.items():
            pipeline = Pipeline(self.folder / "runs" / name.replace(" ", "-"), self.model.name, texts)
            stats = Stats.load(self._done(pipeline, pipeline.statistics(Variant(self.model, pair))))
            stats.calibration["corpus"] = name
            for stages in ((), (SFT,)):
                yield Trial("own", pair, make_plan(stats, OWN_RATIO, CRITERIA[0]), stages=stages, pipeline=pipeline)

    def _summed(self, pairs: Sequence[Pair]) -> Stats:
        """Statistics of several directions together."""
        first, *others = (self.stats(pair) for pair in pairs)
        stats = sum(others, first)
        stats.calibration["corpus"] = " + ".join(map(str, pairs))
        return stats

    def shared(self) -> Iterator[Trial]:
        """One plan for the first two directions, and one for all of them."""
        for pairs in dict.fromkeys((tuple(self.pairs[:2]), tuple(self.pairs))):
            stats = self._summed(pairs)
            for ratio in SHARED_RATIOS:
                plan = make_plan(stats, ratio, CRITERIA[0])
                for pair in pairs:
                    yield Trial("shared", pair, plan)

    def transfer(self) -> Iterator[Trial]:
        """One plan for two directions, scored in these, in their reverses and in directions of other languages."""
        planned, scored = ([parse_pair(name) for name in names] for names in TRANSFER)
        stats = self._summed(planned)
        for pair in scored:
            base = "curve" if pair in self.pairs else "transfer"
            yield Trial(base, pair, make_plan(stats, 0.0))
            for ratio in SHARED_RATIOS:
                yield Trial("transfer", pair, make_plan(stats, ratio, CRITERIA[0]))

    def segments(self) -> Iterator[Trial]:
        """Fewer calibration segments, several draws of them, in the first direction."""
        pair = self.pairs[0]
        for size in SIZES:
            for sample in SEEDS:
                for ratio in SHARED_RATIOS:
                    yield Trial("segments", pair, make_plan(self.stats(pair, size, sample), ratio, CRITERIA[0]), sample)

    def unpruned_gguf(self) -> Path:
        """The unpruned model as F16 GGUF."""
        pipeline = self._pipeline(self.pairs[0])
        return self._done(pipeline, pipeline.gguf(Variant(self.model, self.pairs[0]), "F16"))

    def recovered_gguf(self, trial: Trial) -> tuple[Path, list[dict[str, Any]]]:
        """The trial cut, recovered and exported; and what is to be said of its recoveries."""
        pipeline = trial.pipeline or self._pipeline(trial.pair)
        recoveries = tuple(
            Recovery(stage.method, REFIT_STEPS if stage.method == LEAST_SQUARES else self.steps * stage.length)
            for stage in trial.stages
        )
        variant = Variant(self.model, trial.pair, trial.plan.criterion, trial.plan.ratio, recoveries=recoveries)
        path = self._done(pipeline, pipeline.gguf(variant, "F16"))
        return path, _records(pipeline.recovered(variant).output)

    def measure(self, trial: Trial, work: Path) -> dict[str, Any]:
        """One row: as those of bench.jsonl, without speed and memory, and with the score where failures count as empty.

        ``work`` is for what is made on the way.
        """
        artefact, records, plan = self.unpruned_gguf(), [], trial.plan
        if trial.stages:
            artefact, records = self.recovered_gguf(trial)
        elif plan.ratio:
            artefact = prune(artefact, plan, work / "cut.gguf")
        with contextlib.closing(open_engine(artefact, threads=self.threads)) as engine:
            sources, references = zip(*corpus_segments(self.corpus, trial.pair, "test"))
            written = list(translate(engine, trial.pair, sources, exact=True))
            name = engine.name
        result, target = assess(written, list(references), trial.pair, neural=False), trial.pair.target
        failed = [bool(find_failures(one, reference, target)) for one, reference in zip(written, references)]
        without = ["" if fails else hypothesis for fails, hypothesis in zip(failed, result.hypotheses)]
        provenance: dict[str, Any] = {}
        if plan.ratio or trial.stages:
            provenance = {"criterion": plan.criterion, "ratio": plan.ratio, "seed": plan.seed, "plan": plan.hash}
            provenance |= {"recovered": bool(trial.stages), "recoveries": records}
        return {
            "format": FORMAT, "part": trial.part, "artefact": trial.name, "pair": str(trial.pair), "type": "F16",
            "model": str(self.model), "fingerprint": plan.fingerprint, "provenance": provenance,
            "keep": [layer.keep for layer in plan.layers], "calibration": plan.calibration, "sample": trial.sample,
            "test": f"{trial.pair}.test", "segments": result.segments, "chrf": result.chrf, "bleu": result.bleu,
            "chrf_signature": result.chrf_signature, "bleu_signature": result.bleu_signature,
            "failures": result.failures, "failed": result.failed,
            "chrf_failures_empty": round(score(without, result.references, target)[0], 2),
            "engine": name, "machine": processor(), "threads": self.threads,
            "hypotheses": result.hypotheses, "references": result.references,
        }  # fmt: skip

    def _try(self, trial: Trial) -> None:
        """Measure a trial that has no row yet, unless another process is at it."""
        with contextlib.suppress(Timeout), self._lock(trial.name, timeout=0):
            if trial.name in {row["artefact"] for row in finished_rows(self.rows)}:
                return
            work = self.folder / "work" / trial.name.replace(" ", "_")
            work.mkdir(parents=True, exist_ok=True)  # an interrupted SFT goes on in it
            (work / "cut.gguf").unlink(missing_ok=True)
            row = keep_hypotheses(self.measure(trial, work), self.folder)
            with self._lock("rows"):
                append_row(self.rows, row)
            shutil.rmtree(work)

    def run(self, parts: list[str]) -> None:
        """Measure what has no row yet.

        Raises:
            WorkError: some trials failed; the others are done.
        """
        failed = []
        for trial in tqdm([trial for part in parts for trial in getattr(self, part)()], "trials"):
            try:
                self._try(trial)
            except SlimmoeError as error:
                failed.append(f"{trial.name} ({error.sentence})")
        if failed:
            raise WorkError(f"{len(failed)} trials failed: {'; '.join(failed)}")


def main() -> None:
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
    torch.set_num_threads(chosen.threads)
    pairs = chosen.pair or [parse_pair(name) for name in PAIRS]
    trials = Reproduction(chosen.model, chosen.corpus, chosen.output, pairs, chosen.steps, chosen.threads)
    trials.run(chosen.part or list(PARTS))


if __name__ == "__main__":
    try:
        main()
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
