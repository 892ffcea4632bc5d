"""Model x pair x criterion x ratio x recovery x type: every combination exported and measured once, into one bench.jsonl.

    FOLDER/bench.jsonl                                        one row per run
    FOLDER/MODEL-PAIR/stats.safetensors                       computed once
    FOLDER/MODEL-PAIR/CRITERION-RATIO/plan.json, checkpoint   and the artefacts of its types
    FOLDER/MODEL-PAIR/CRITERION-RATIO-recovered/...
    FOLDER/MODEL-PAIR/unpruned/...                            the baselines, once for all criteria and ratios

What is there is not made again, so a stopped sweep goes on with the same command: every file and folder appears whole or
not at all (runtime/formats/files.py), and a row is written as soon as it is measured.
"""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.gguf import export_gguf
from export.gguf.types import TYPES
from export.onnx import FILES, export_onnx
from prune.calibrate.stats import Stats
from prune.checkpoint import Checkpoint
from prune.plan.budget import check_ratio, kept_count
from prune.plan.plan import Plan, make_plan
from prune.recovery.settings import Settings
from prune.rewrite.checkpoint import prune
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.files import new_file
from runtime.measure.bench import bench
from runtime.measure.compare import compare, keep_hypotheses
from runtime.measure.rows import append_row, finished_rows, write_rows
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair

Tell = Callable[[str], object]
Row = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What is to be tried; paths are as they were given, relative to the folder of the command."""

    folder: Path
    models: tuple[Path, ...]
    pairs: tuple[Pair, ...]
    criteria: tuple[str, ...]
    ratios: tuple[float, ...]
    recovered: tuple[bool, ...]  # (False,), (True,) or both
    types: tuple[str, ...]  # GGUF types, and int8, int4, none, fp16 of ONNX
    corpus: Path
    dev: Path
    test: Path
    threads: int | None = None
    steps: int | None = None  # of recovery
    teacher: bool = False  # the unpruned model teaches the recovered one


@dataclass(frozen=True)
class Variant:
    """A model as it is exported: unpruned where ``ratio`` is 0."""

    model: Path
    pair: Pair
    criterion: str = ""
    ratio: float = 0.0
    recovered: bool = False

    @property
    def name(self) -> str:
        """Its folder's, below that of model and pair."""
        return f"{self.criterion}-{self.ratio:g}" + "-recovered" * self.recovered if self.ratio else "unpruned"

    @property
    def home(self) -> str:
        return f"{self.model.name}-{self.pair}"

    @property
    def cut(self) -> "Variant":
        """The same before it is recovered."""
        return replace(self, recovered=False)


Todo = list[tuple[Variant, str]]  # what is not done yet, with the type of each
Results = Iterator[tuple[str, Row | SlimmoeError]]  # keys, and rows or why there is none


def variants(sweep: Sweep) -> list[Variant]:
    """Every variant once, unpruned ones first within their model and pair."""
    found = []
    for model, pair in itertools.product(sweep.models, sweep.pairs):
        cut = itertools.product(sweep.criteria, sorted(set(sweep.ratios)), sweep.recovered)
        found += [Variant(model, pair), *(Variant(model, pair, *each) for each in cut if each[1])]
    return found


def check(sweep: Sweep) -> None:
    """Refuse before any work what would fail in the middle of it.

    Raises:
        RequestError: a ratio, type or corpus that does not exist; models of one name; a folder of another sweep.
    """
    if len({model.name for model in sweep.models}) < len(sweep.models):
        raise RequestError("Two models of a sweep have the same folder name, by which their results are kept apart.")
    known = [*TYPES, *FILES]
    for kind in sweep.types:
        if kind not in known:
            raise RequestError(f"There is no type {kind}; there are {', '.join(known)}.")
    checkpoints = {model.name: Checkpoint(model) for model in sweep.models}
    for checkpoint in checkpoints.values():
        experts = min(checkpoint.moe_layers.values())
        for ratio in sweep.ratios:
            check_ratio(ratio)
            kept_count(experts, ratio)
    for pair, text in itertools.product(sweep.pairs, (sweep.corpus, sweep.dev, sweep.test)):
        read_segments(text, pair)
    request = {name: str(getattr(sweep, name)) for name in ("corpus", "dev", "test", "steps", "teacher")}
    request |= {f"model {name}": checkpoint.fingerprint for name, checkpoint in checkpoints.items()}
    path = sweep.folder / "sweep.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, value in request.items():
        if before.get(name, value) != value:
            raise RequestError(
                f"{sweep.folder} holds a sweep with another {name}, whose results do not compare.",
                next_command=f"rm -r {sweep.folder}   (or another -o)",
            )
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(before | request, indent=1) + "\n", encoding="utf-8")


def statistics_of(sweep: Sweep, variant: Variant) -> Path:
    """The statistics of its model and pair, made where they are not there yet."""
    from prune.calibrate.from_checkpoint import calibrate

    path = sweep.folder / variant.home / "stats.safetensors"
    if not path.exists():
        calibrate(variant.model, variant.pair, sweep.corpus, output=path, quiet=True)
    return path


def checkpoint_of(sweep: Sweep, variant: Variant) -> Path:
    """The variant's checkpoint, made where it is not there yet."""
    if not variant.ratio:
        return variant.model
    home = sweep.folder / variant.home / variant.name
    folder = home / "checkpoint"
    if folder.exists():
        return folder
    if variant.recovered:
        from prune.recovery.recover import recover

        cut = checkpoint_of(sweep, variant.cut)
        Plan.load(cut.with_name("plan.json")).save(home / "plan.json")
        teacher, settings = variant.model if sweep.teacher else None, Settings(steps=sweep.steps)
        recover(cut, variant.pair, sweep.corpus, sweep.dev, folder, settings, teacher)
        return folder
    plan = make_plan(Stats.load(statistics_of(sweep, variant)), variant.ratio, variant.criterion)
    plan.save(home / "plan.json")
    return prune(variant.model, plan, folder)


def artefact_of(sweep: Sweep, variant: Variant, kind: str) -> Path:
    """The variant as one type, made where it is not there yet."""
    home = sweep.folder / variant.home / variant.name
    share = f"-p{100 * variant.ratio:.0f}" if variant.ratio else ""
    if kind in FILES:
        graph = home / "onnx" / "onnx" / FILES[kind]
        if not graph.exists():
            export_onnx(checkpoint_of(sweep, variant), home / "onnx", kind)
        return graph
    path = home / f"{variant.home}{share}-{kind}.gguf"
    if not path.exists():
        export_gguf(
            checkpoint_of(sweep, variant), path, kind, pair=variant.pair, corpus=sweep.corpus, tell=lambda _: None
        )
    return path


def measure(sweep: Sweep, variant: Variant, kind: str) -> Row:
    """Export and measure: one row of bench.jsonl, with ``hypotheses`` and ``references`` as lists."""
    row = bench(artefact_of(sweep, variant, kind), variant.pair, sweep.test, sweep.threads)
    row["artefact"] = str(Path(row["artefact"]).relative_to(sweep.folder))
    return {"run": key_of(variant, kind), "model": variant.model.name} | row


def key_of(variant: Variant, kind: str) -> str:
    """What tells a run from all others of a sweep."""
    return f"{variant.home} {variant.name} {kind}"


def one_by_one(sweep: Sweep, todo: Todo) -> Results:
    """Keys and rows, one after the other in this process."""
    for variant, kind in todo:
        try:
            yield key_of(variant, kind), measure(sweep, variant, kind)
        except SlimmoeError as error:
            yield key_of(variant, kind), error


def run(sweep: Sweep, tell: Tell, results: Callable[[Sweep, Todo], Results] = one_by_one) -> list[Row]:
    """Do what is not done yet, and return all rows.

    Args:
        tell: is called with a sentence for each row.
        results: does the work; the other way is slimmoe/sweep_on_ray.py.

    Raises:
        RequestError: see ``check``; another process runs a sweep in this folder.
        WorkError: some runs failed. The others are done, and the same command tries the failed ones again.
    """
    from filelock import FileLock, Timeout

    check(sweep)
    try:
        with FileLock(sweep.folder / ".lock", timeout=0):
            return _run(sweep, tell, results)
    except Timeout:
        raise RequestError(
            f"Another process runs a sweep in {sweep.folder}.", next_command="ps aux | grep sweep"
        ) from None


def _run(sweep: Sweep, tell: Tell, results: Callable[[Sweep, Todo], Results]) -> list[Row]:
    for leftover in sweep.folder.rglob(".*.part"):  # of a process that was killed while it wrote
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    path = sweep.folder / "bench.jsonl"
    rows = finished_rows(path)
    if path.exists():
        write_rows(path, rows)
    done = {row["run"] for row in rows}
    wanted = list(itertools.product(variants(sweep), sweep.types))
    todo = [each for each in wanted if key_of(*each) not in done]
    if len(todo) < len(wanted):
        tell(f"{len(wanted) - len(todo)} of {len(wanted)} runs are done already")
    failed = []
    for number, (key, row) in enumerate(results(sweep, todo), len(wanted) - len(todo) + 1):
        if isinstance(row, SlimmoeError):
            failed.append(f"{key} ({row.sentence})")
            tell(f"[{number}/{len(wanted)}] {key}: failed: {row.sentence}")
            continue
        append_row(path, keep_hypotheses(row, sweep.folder))
        tell(
            f"[{number}/{len(wanted)}] {key}: chrF++ {row['chrf']:.1f}, {row['decode_tokens_per_second']:.0f} tokens/s, "
            f"{row['size_bytes'] / 1e6:.1f} MB"
        )
    order = {key_of(*each): number for number, each in enumerate(wanted)}
    rows = sorted(finished_rows(path), key=lambda row: order.get(row["run"], len(order)))
    write_rows(path, compare(rows, sweep.folder))
    if failed:
        raise WorkError(f"{len(failed)} of {len(wanted)} runs failed: {'; '.join(failed)}")
    return finished_rows(path)
