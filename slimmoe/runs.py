"""Doing the way from model to report in a run's folder: once, whole, and by one process at a time."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.errors import RequestError
from runtime.formats.onnx_folder import FILES as ONNX_FILES
from runtime.text.corpus import read_lines, read_segments
from runtime.text.pairs import Pair
from slimmoe.hashes import Hashes
from slimmoe.pipeline import Pipeline
from slimmoe.stages import Runner, Stage
from slimmoe.variants import DEV, Request, Texts, Variant, claim, home_of

RUNS = Path("runs")
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and what it had to do for it: stages with the reasons, none where all was there."""

    home: Path
    folder: Path
    checkpoint: Path
    artefacts: dict[str, Path]  # by type
    report: Path
    done: tuple[tuple[str, str], ...]


def model_folder(model: str) -> Path:
    """The checkpoint's folder, downloaded if it is an id.

    Raises:
        RequestError, WorkError: see ``prune.hub.resolve_model``.
    """
    from prune.hub import resolve_model

    return resolve_model(model)


def check_types(types: tuple[str, ...]) -> None:
    """Refuse names of types that do not exist, and none at all.

    Raises:
        RequestError: there is one.
    """
    from export.gguf.types import TYPES

    known = [*TYPES, *ONNX_FILES]
    for kind in types:
        if kind not in known:
            raise RequestError(f"There is no type {kind!r}; there are {', '.join(known)}.")
    if not types:
        raise RequestError("Both formats are left out: nothing would be written.")


def check_variant(variant: Variant, types: tuple[str, ...]) -> None:
    """Refuse before any work what would fail in the middle of it, from headers alone.

    Raises:
        RequestError: a ratio that leaves no expert, or an unknown criterion, allocation or recovery; a format that cannot
            hold the model; tokens that cannot be cut.
    """
    from export.capabilities import require_writable
    from prune.checkpoint import Checkpoint
    from prune.plan.budget import check_allocation, kept_count
    from prune.plan.criteria import find_criterion
    from prune.recovery.settings import Settings
    from prune.vocabulary.selection import Amount
    from prune.vocabulary.tokenizer_json import read_vocabulary

    checkpoint = Checkpoint(variant.model)
    kept = kept_count(min(checkpoint.moe_layers.values()), variant.ratio)
    find_criterion(variant.criterion)
    check_allocation(variant.allocation)
    if variant.vocabulary:
        Amount.parse(variant.vocabulary)
        read_vocabulary(checkpoint.folder)
        if any(each.teaches for each in variant.recoveries):
            raise RequestError(
                "A model with fewer tokens cannot learn from one that has all: its tokens are cut after recovery.",
                next_command=f"slimmoe prune RECOVERED --vocabulary {variant.vocabulary} --pair {variant.pair} -o DIR",
            )
    for each in variant.recoveries:
        Settings(steps=each.steps, rate=each.rate, method=each.method, freeze_router=each.freeze_router).check()
    require_writable(checkpoint, types, variant.allocation, kept)


def check_texts(texts: Texts, pair: Pair) -> None:
    """Read every text once.

    Raises:
        RequestError: one is not there, or holds nothing of the pair.
    """
    if texts.source is not None and not any(line.strip() for line in read_lines(texts.source)):
        raise RequestError(f"{texts.source} holds no sentences: one a line is expected.")
    corpora = (
        None if texts.source else texts.corpus,
        texts.dev or (None if texts.source else DEV),
        texts.test,
        texts.vocabulary,
    )
    for text in dict.fromkeys(filter(None, corpora)):
        read_segments(text, pair)


@contextlib.contextmanager
def alone_in(folder: Path, tell: Tell) -> Iterator[None]:
    """Within it, no other process works in the folder; one that does is waited for, with a sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"another process works in {folder}: waiting for it (Ctrl-C ends this one)")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def runner_in(home: Path, check: bool) -> Iterator[Runner]:
    """A runner of stages in a run's folder; the hashes it has read are kept, also where it is stopped."""
    hashes = Hashes(home / ".hashes.json", check)
    try:
        yield Runner(hashes)
    finally:
        if home.is_dir():
            hashes.save()


def export(
    request: Request,
    model: str,
    home: Path | None = None,
    *,
    runs: Path = RUNS,
    check: bool = False,
    dry_run: bool = False,
    again: bool = False,
    tell: Tell = lambda _: None,
) -> Exported:
    """The whole way for one variant: what is not done yet, or was done for another request.

    Args:
        model: as it was given, by which the run's folder is named.
        home: that folder; default: one in ``runs`` by the model's name and the pair.
        check: hold every file against its hash, not only against its size.
        dry_run: do nothing; ``done`` then says what would be done.
        again: measure again, whatever was measured.

    Raises:
        RequestError: the request was wrong, or the folder is another run's.
        WorkError: a stage failed; what was done before it is kept.
    """
    variant = request.variant
    home = home or home_of(runs, model, variant.pair)
    way = Pipeline(home, Path(model).name or home.name, request.texts, tell)
    check_types(request.types)
    artefacts = {kind: way.artefact(variant, kind) for kind in request.types}
    report = way.report(request)
    found = Exported(
        home,
        report.output.parent,
        way.folder(variant),
        {kind: stage.output for kind, stage in artefacts.items()},
        report.output,
        (),
    )

    def pending(runner: Runner) -> list[tuple[Stage, str]]:
        rows = [way.row(variant, kind, request.threads).output for kind in request.types]
        return runner.pending([*artefacts.values(), report], {path: "measured again" for path in rows if again})

    with runner_in(home, check) as runner:
        todo = pending(runner)
    if todo:
        check_variant(variant, request.types)
        check_texts(request.texts, variant.pair)
    if todo and not dry_run:
        claim(home, model, variant.pair)
        with alone_in(home, tell), runner_in(home, check) as runner:
            todo = pending(runner)
            for stage, reason in todo:
                if reason == "measured again" or runner.why(stage):
                    tell(f"{stage.name} ({reason}): {stage.output}")
                    runner.do(stage)
    done = tuple((f"{stage.name}: {stage.output}", reason) for stage, reason in todo)
    return Exported(found.home, found.folder, found.checkpoint, found.artefacts, found.report, done)
