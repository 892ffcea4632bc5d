"""What may be asked of the way from model to report, as values, and where each variant lies."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file
from runtime.formats.json_object import read_object
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate

FORMAT = "slimmoe-run/1"
CALIBRATION, DEV, TEST = Path("data/calibration"), Path("data/dev"), Path("data/test")
GGUF_TYPE, ONNX_TYPE = "Q4_K_M", "int4"
ELSEWHERE = "the same with another folder: OUT=... (make) or -o ... (slimmoe export)"


@dataclass(frozen=True)
class Recovery:
    """One recovery of a cut; None: chosen by the corpus or the model (prune/recovery/settings.py)."""

    method: str = "full"
    steps: int | None = None
    rate: float | None = None
    freeze_router: bool = False
    teach: bool = False  # distil from the unpruned model as well

    @property
    def teaches(self) -> bool:
        """Whether the unpruned model is needed for it."""
        return self.teach or self.method == "least-squares"


def recoveries(methods: Iterable[str], steps: int | None = None, teach: bool = False) -> tuple[Recovery, ...]:
    """Recoveries one after the other. ``steps`` are of training; least squares sees each batch once."""
    return tuple(
        Recovery(method) if method == "least-squares" else Recovery(method, steps, teach=teach) for method in methods
    )


@dataclass(frozen=True)
class Variant:
    """A model as it is exported: unpruned where ``ratio`` is 0, all tokens stay and nothing was recovered.

    ``vocabulary`` says how many tokens stay (``prune.vocabulary.selection.Amount``); empty: all.
    """

    model: Path
    pair: Pair
    criterion: str = "gate"
    ratio: float = 0.0
    allocation: str = "uniform"
    recoveries: tuple[Recovery, ...] = ()
    vocabulary: str = ""

    @property
    def is_unpruned(self) -> bool:
        return not self.ratio and not self.recoveries and not self.vocabulary

    @property
    def name(self) -> str:
        """Its folder's in the run: ``gate-0.75-recovered``; what does not differ from the usual is left out."""
        if self.is_unpruned:
            return "unpruned"
        parts = [self.criterion, f"{self.ratio:g}", *[self.allocation] * (self.allocation != "uniform")]
        if self.vocabulary:
            parts.append(f"vocabulary-{self.vocabulary.replace('=', '-')}")
        if self.recoveries:
            methods = [recovery.method for recovery in self.recoveries]
            parts += ["recovered", *(methods if methods != ["full"] else [])]
        return "-".join(parts)

    @property
    def cut(self) -> "Variant":
        """The same before it is recovered."""
        return replace(self, recoveries=())


@dataclass(frozen=True)
class Texts:
    """The text of a run: for statistics and recovery, to choose the best step, and to translate and score.

    Attributes:
        dev: None: DEV, or with ``source`` a part of it that is held out.
        recovery: for recovery, where that is not ``corpus``.
        source: sentences without translations, which the model translates itself; they then stand for ``corpus``.
        vocabulary: whose tokens are counted where tokens are cut; None: ``corpus``.
        prompt: how the model is asked for it; None: as is known of such a model.
    """

    corpus: Path = CALIBRATION
    dev: Path | None = None
    test: Path = TEST
    recovery: Path | None = None
    source: Path | None = None
    vocabulary: Path | None = None
    prompt: PromptTemplate | None = None


@dataclass(frozen=True)
class Request:
    """One export: a variant, its text, the types to be written, and how it is checked and measured."""

    variant: Variant
    texts: Texts = field(default_factory=Texts)
    gguf_type: str = GGUF_TYPE
    onnx_type: str = ONNX_TYPE
    verify: bool = True
    threads: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The types to be written, of GGUF and then of ONNX; ``no`` leaves a format out."""
        return tuple(each for each in (self.gguf_type, self.onnx_type) if each != "no")


def _model_identity(model: str) -> str:
    path = Path(model)
    return str(path.resolve()) if path.exists() else model


def home_of(runs: Path, model: str, pair: Pair) -> Path:
    """The folder of a model and pair: ``runs/default-en-de``; another model of the same name has a folder of its own."""
    name, own = Path(model).name or Path(model).resolve().name, _model_identity(model)
    usual = runs / f"{name}-{pair}"
    if _claimed(usual) in (None, own):
        return usual
    return runs / f"{name}-{hashlib.sha256(own.encode()).hexdigest()[:6]}-{pair}"


def _claimed(home: Path) -> str | None:
    """Whose run a folder holds; None where it is nobody's yet."""
    try:
        model = read_object(home / "run.json").get("model")
    except WorkError:
        return None
    return None if model is None else str(model)


def claim(home: Path, model: str, pair: Pair) -> None:
    """Say in a run's folder whose it is.

    Raises:
        RequestError: it is another model's or pair's.
    """
    about = {"format": FORMAT, "model": _model_identity(model), "pair": str(pair)}
    path = home / "run.json"
    if path.exists():
        try:
            known = read_object(path)
        except WorkError:
            known = {}
        if known == about:
            return
        if known.get("format") == FORMAT:
            raise RequestError(
                f"{home} holds the run of {known.get('model')}, {known.get('pair')}.",
                next_command=ELSEWHERE,
            )
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
