"""Model x pair x criterion x allocation x ratio x recovery x vocabulary x type: every combination exported and measured once.

    FOLDER/bench.jsonl         one row for each, compared with the unpruned ones; ``run`` tells them apart
    FOLDER/MODEL-PAIR/...      a run's folder for each model and pair (slimmoe/pipeline.py), or one in another place

A stopped sweep goes on with the same command, and does again only what another request has changed. Rows that
``slimmoe bench`` joined to the file stay, as long as they are of this sweep's artefacts.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import SlimmoeError, WorkError
from runtime.measure.compare import compare, keep_hypotheses
from runtime.measure.rows import Row, finished_rows, write_rows
from runtime.text.pairs import Pair
from slimmoe.pipeline import Pipeline
from slimmoe.runs import alone_in, check_texts, check_types, check_variant, model_folder, runner_in
from slimmoe.stages import Stage
from slimmoe.variants import Recovery, Texts, Variant, claim, home_of

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Sweep:
    """What is to be tried; paths are as they were given, relative to the folder of the command."""

    folder: Path
    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ratios: tuple[float, ...]
    types: tuple[str, ...]  # GGUF types, and int8, int4, none, fp16 of ONNX
    criteria: tuple[str, ...] = ("gate",)
    allocations: tuple[str, ...] = ("uniform",)
    recoveries: tuple[tuple[Recovery, ...], ...] = ((),)
    texts: Texts = field(default_factory=Texts)
    threads: int | None = None
    vocabularies: tuple[str, ...] = ("",)  # empty: all tokens
    runs: Path | None = None  # where the runs' folders are; None: in the sweep's own

    def home(self, model: str, pair: Pair) -> Path:
        """The run's folder of a model and pair."""
        return home_of(self.runs or self.folder, model, pair)


@dataclass(frozen=True)
class Trial:
    """One row to be: a variant of a model, as one type."""

    model: str
    variant: Variant
    kind: str

    def pipeline(self, sweep: Sweep) -> Pipeline:
        home = sweep.home(self.model, self.variant.pair)
        return Pipeline(home, Path(self.model).name, sweep.texts)

    def name(self, sweep: Sweep) -> str:
        """What tells it from all others of a sweep."""
        return f"{sweep.home(self.model, self.variant.pair).name} {self.variant.name} {self.kind}"

    def stage(self, sweep: Sweep) -> Stage:
        return self.pipeline(sweep).row(self.variant, self.kind, sweep.threads)


Results = Iterator[tuple[Trial, SlimmoeError | None]]


def trials(sweep: Sweep) -> list[Trial]:
    """Every one once, those of the unpruned model first within their model and pair."""
    found: list[Trial] = []
    for model, pair in itertools.product(sweep.models, sweep.pairs):
        folder = model_folder(model)
        ratios, others = sorted(set(sweep.ratios)), (sweep.allocations, sweep.recoveries, sweep.vocabularies)
        chosen = (Variant(folder, pair, *each) for each in itertools.product(sweep.criteria, ratios, *others))
        # Experts are all there where none is cut: such a model is not recovered.
        variants = [
            Variant(folder, pair),
            *(each for each in chosen if each.ratio or (each.vocabulary and not each.recoveries)),
        ]
        found += [Trial(model, variant, kind) for variant in dict.fromkeys(variants) for kind in sweep.types]
    return found


def check(sweep: Sweep, wanted: list[Trial]) -> None:
    """Refuse before any work what would fail in the middle of it.

    Raises:
        RequestError: a ratio, criterion, type or corpus that does not exist; a folder of another run.
    """
    check_types(sweep.types)
    for variant in dict.fromkeys(trial.variant for trial in wanted):
        check_variant(variant, sweep.types)
    for pair in sweep.pairs:
        check_texts(sweep.texts, pair)


def one_by_one(sweep: Sweep, todo: list[Trial]) -> Results:
    """One after the other in this process."""
    for trial in todo:
        yield trial, measure(sweep, trial)


def measure(sweep: Sweep, trial: Trial) -> SlimmoeError | None:
    """Do a trial's stages as far as they are not done; returns why that failed."""
    try:
        with runner_in(sweep.home(trial.model, trial.variant.pair), check=False) as runner:
            runner.run(trial.stage(sweep))
    except SlimmoeError as error:
        return error
    return None


def run(sweep: Sweep, tell: Tell, results: Callable[[Sweep, list[Trial]], Results] = one_by_one) -> list[Row]:
    """Do what is not done yet, and return all rows.

    Args:
        tell: is called with a sentence for each row.
        results: does the work; the other way is slimmoe/sweep_on_ray.py.

    Raises:
        RequestError: see ``check``.
        WorkError: some trials failed. The others are done, and the same command tries the failed ones again.
    """
    wanted = trials(sweep)
    finished_rows(sweep.folder / "bench.jsonl")  # one that cannot be read is told before the work
    check(sweep, wanted)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone_in(sweep.folder, tell))
        for model, pair in itertools.product(sweep.models, sweep.pairs):
            claim(home := sweep.home(model, pair), model, pair)
            stack.enter_context(alone_in(home, tell))
        return _run(sweep, wanted, tell, results)


def _is_done(sweep: Sweep, trial: Trial) -> bool:
    with runner_in(sweep.home(trial.model, trial.variant.pair), check=False) as runner:
        return not runner.pending([trial.stage(sweep)])


def _run(sweep: Sweep, wanted: list[Trial], tell: Tell, results: Callable[[Sweep, list[Trial]], Results]) -> list[Row]:
    todo = [trial for trial in wanted if not _is_done(sweep, trial)]
    if len(todo) < len(wanted):
        tell(f"{len(wanted) - len(todo)} of {len(wanted)} runs are done already")
    failed: dict[str, str] = {}
    for number, (trial, error) in enumerate(results(sweep, todo), len(wanted) - len(todo) + 1):
        name = trial.name(sweep)
        if error:
            failed[name] = error.sentence
            tell(f"[{number}/{len(wanted)}] {name}: failed: {error.sentence}")
            continue
        row = finished_rows(trial.stage(sweep).output)[0]
        tell(
            f"[{number}/{len(wanted)}] {name}: chrF++ {row['chrf']:.1f}, {row['decode_tokens_per_second']:.0f} tokens/s, "
            f"{row['size_bytes'] / 1e6:.1f} MB"
        )
    rows = _collect(sweep, [trial for trial in wanted if trial.name(sweep) not in failed])
    if failed:
        told = "; ".join(f"{name} ({sentence})" for name, sentence in failed.items())
        raise WorkError(f"{len(failed)} of {len(wanted)} runs failed: {told}")
    return rows


def _collect(sweep: Sweep, done: list[Trial]) -> list[Row]:
    """Write all rows of the sweep, with those that were joined to them."""
    path, found = sweep.folder / "bench.jsonl", []
    for trial in done:
        row = keep_hypotheses(finished_rows(trial.stage(sweep).output)[0], sweep.folder)
        found.append({"run": trial.name(sweep), "model": Path(trial.model).name} | row)
    artefacts = {row["artefact"] for row in found}
    joined = [row for row in finished_rows(path) if "run" not in row and row["artefact"] in artefacts]
    write_rows(path, compare([*found, *joined], sweep.folder))
    return finished_rows(path)
