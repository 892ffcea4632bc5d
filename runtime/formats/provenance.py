"""Where a pruned model comes from: the file ``slimmoe.json`` of a folder, and the keys ``slimmoe.*`` of a GGUF file.

Both are read and written here alone. ``slimmoe.json`` holds all fields of the plan (prune/plan/plan.py reads it as one),
what the cut added to them, and the recoveries since.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.json_object import parse_object, read_object
from runtime.formats.model_folder import own_file

FILE = "slimmoe.json"
FULL, LORA, LEAST_SQUARES = "full", "lora", "least-squares"
_NAMES = {FULL: "SFT", LORA: "LoRA", LEAST_SQUARES: "least squares"}
_TRAINED = (FULL, LORA)
OWN_TRANSLATIONS = "own translations"  # as ``text`` of a recovery: those of the unpruned model, instead of references
_ON_OWN = f" on {OWN_TRANSLATIONS}"
_GGUF_FIELDS = ("format", "hash", "fingerprint", "pair", "criterion", "allocation", "ratio")
_ROW_FIELDS = ("hash", "pair", "criterion", "allocation", "ratio")


@dataclass(frozen=True)
class Recovery:
    """One recovery of a pruned model.

    Attributes:
        method: ``full``, ``lora`` or ``least-squares``.
        steps: that were taken; None where it was not recorded.
        best_step: whose weights were kept; 0 where none lowered the dev loss, so that the weights stayed as they were.
        teacher: the unpruned model that it learnt from, if any.
        details: all else that was recorded: corpus, whose text it is, settings, dev losses (nats per response token),
            seconds.
    """

    method: str
    steps: int | None = None
    best_step: int | None = None
    teacher: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people: ``SFT``, ``LoRA`` or ``least squares``; trained on own translations ``sequence distillation``."""
        if self.trained and self.on_own_translations:
            return "sequence distillation" + (f" ({_NAMES[LORA]})" if self.method == LORA else "")
        return _NAMES.get(self.method, self.method)

    @property
    def on_own_translations(self) -> bool:
        """Whether its text was written by the unpruned model (arXiv 2605.28042), not by people."""
        return self.details.get("text") == OWN_TRANSLATIONS

    @property
    def trained(self) -> bool:
        """Whether it was a fine-tuning, and not a solution in closed form."""
        return self.method in _TRAINED

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recovery":
        """From a record in ``slimmoe.json``; the oldest ones name no method, for there was one.

        Raises:
            ValueError: a field is of another type; the text is a sentence's end.
        """
        data = _of_type(data, Mapping, "recovery is no JSON object")
        known = {name: data.get(name) for name in ("steps", "best_step", "teacher")}
        method = _of_type(data.get("method", FULL), str, "recovery names no method")
        for name in ("steps", "best_step"):
            if known[name] is not None:
                _of_type(known[name], int, f"recovery has no number in its {name}")
        if known["teacher"] is not None:
            _of_type(known["teacher"], str, "recovery has no name as its teacher")
        rest = {key: value for key, value in data.items() if key not in (*known, "method", "after")}
        return cls(method, **known, details=rest)

    def summary(self) -> dict[str, Any]:
        """What of it was recorded among method, steps and best step."""
        known = {"method": self.method, "steps": self.steps, "best_step": self.best_step}
        known |= {"text": OWN_TRANSLATIONS} if self.on_own_translations else {}
        return {name: value for name, value in known.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """As ``slimmoe.json`` has it."""
        known = {"method": self.method, "steps": self.steps, "best_step": self.best_step, "teacher": self.teacher}
        return known | dict(self.details)


def recovery_text(recoveries: tuple[Recovery, ...]) -> str:
    """The chain in the order of time, as GGUF files have it: ``least-squares + full on own translations:400``."""
    methods = (each.method + _ON_OWN * each.on_own_translations for each in recoveries)
    steps = ("" if each.steps is None else f":{each.steps}" for each in recoveries)
    return " + ".join(f"{method}{taken}" for method, taken in zip(methods, steps))


def parse_recoveries(text: str) -> tuple[Recovery, ...]:
    """The inverse of ``recovery_text``; steps that are no number are taken as not recorded."""
    parts = (part.partition(":") for part in text.split(" + ") if part)
    return tuple(
        Recovery(
            method.removesuffix(_ON_OWN),
            int(steps) if steps.isdecimal() else None,
            details={"text": OWN_TRANSLATIONS} if method.endswith(_ON_OWN) else {},
        )
        for method, _, steps in parts
    )


def chain(newest: Mapping[str, Any] | None) -> tuple[Recovery, ...]:
    """The recoveries of older records, in which each holds the one before it as ``after``.

    Raises:
        ValueError: see ``Recovery.from_dict``.
    """
    found: list[Recovery] = []
    while newest:
        found.append(Recovery.from_dict(newest))
        newest = newest.get("after")
    return tuple(reversed(found))


@dataclass(frozen=True)
class Provenance:
    """Where a pruned model comes from; a field is empty or 0 where its file does not tell it.

    Attributes:
        format: of the plan.
        hash: of the plan: model and keep-lists.
        model: the source model's folder or name, as calibration was given it.
        fingerprint: of the source model's routers.
        pair: ``en-de``, or ``en-de + de-en`` of a plan for several.
        ratio: share of the experts that were cut, 0 to 1.
        top_k: experts per token after the cut.
        ragged: whether each layer has its own number of experts.
        left_out: tensors of the source that were not written.
        recoveries: in the order of time.
        prompt: how the model is asked, the dictionary of a ``runtime.text.prompt_templates.PromptTemplate``: of a plan what
            calibration asked; alone in the file of a model that was not cut.
        vocabulary: which tokens stay, the dictionary of a ``prune.vocabulary.choose.Selection``; empty: all.
        rest: the plan's other fields: layers, calibration, seed.
    """

    format: str = ""
    hash: str = ""
    model: str = ""
    fingerprint: str = ""
    pair: str = ""
    criterion: str = ""
    allocation: str = ""
    ratio: float = 0.0
    top_k: int = 0
    ragged: bool = False
    left_out: tuple[str, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    prompt: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_cut(self) -> bool:
        """Whether a plan, a recovery or fewer tokens are told, and not only how an unpruned model is asked."""
        return bool(self.hash or self.pair or self.ratio or self.recoveries or self.vocabulary)

    @property
    def tokens(self) -> tuple[int, int] | None:
        """How many tokens stay, and how many there were; None: all stay, or the record of them is damaged."""
        after, before = (self.vocabulary.get(name) for name in ("after", "before"))
        return (after, before) if isinstance(after, int) and isinstance(before, int) and 0 < after <= before else None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Provenance":
        """From a plan's fields (``Plan.to_dict``) or the content of ``slimmoe.json``, of which any may be absent.

        Raises:
            ValueError: a field is of another type; the text is a sentence's end.
        """
        data = _of_type(data, Mapping, "content is no JSON object")
        known: dict[str, Any] = {}
        for name, (kind, what) in _FIELDS.items():
            if data.get(name) is not None:
                known[name] = _of_type(data[name], kind, f"{name} is not {what}")
        if not all(value.isprintable() for value in known.values() if isinstance(value, str)):
            raise ValueError("names hold control characters")
        if not 0 <= known.get("ratio", 0) <= 1:
            raise ValueError("ratio is no share from 0 to 1")
        if known.get("top_k", 0) < 0:
            raise ValueError("top_k is below 0")
        calibrated = data.get("calibration")
        if not known.get("prompt") and isinstance(calibrated, Mapping):
            known["prompt"] = _of_type(calibrated.get("prompt", {}), Mapping, "prompt is no JSON object")
        known["left_out"] = tuple(map(str, known.get("left_out", ())))
        records = _of_type(data.get("recoveries", []), list, "recoveries are no list")
        known["recoveries"] = (*map(Recovery.from_dict, records), *chain(data.get("recovery")))
        ours = (*_FIELDS, "recoveries", "recovery")
        return cls(**known, rest={key: value for key, value in data.items() if key not in ours})

    def to_dict(self) -> dict[str, Any]:
        """As ``slimmoe.json`` has it."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS} | dict(self.rest)
        found |= {"prompt": dict(self.prompt), "vocabulary": dict(self.vocabulary)}
        return found | {"left_out": list(self.left_out), "recoveries": [each.to_dict() for each in self.recoveries]}

    def after(self, recovery: Recovery) -> "Provenance":
        """The same model after one more recovery."""
        return replace(self, recoveries=(*self.recoveries, recovery))

    def gguf_keys(self) -> dict[str, str | float | bool]:
        """What a GGUF file says of it, by key. ``slimmoe.recovered`` is for readers that know no chain."""
        keys = {f"slimmoe.{name}": value for name in _GGUF_FIELDS if (value := getattr(self, name)) != ""}
        if self.recoveries:
            keys |= {"slimmoe.recovered": True, "slimmoe.recoveries": recovery_text(self.recoveries)}
        if self.prompt:
            keys["slimmoe.prompt"] = json.dumps(dict(self.prompt), ensure_ascii=False)
        if self.vocabulary:
            keys["slimmoe.vocabulary"] = json.dumps(dict(self.vocabulary), ensure_ascii=False)
        return keys

    def row(self) -> dict[str, Any]:
        """What a row of bench.jsonl says of it."""
        found: dict[str, Any] = {name: value for name in _ROW_FIELDS if (value := getattr(self, name)) != ""}
        found |= {"tokens": self.tokens[0]} if self.tokens else {}
        if self.recoveries:
            found |= {"recovered": True, "recoveries": [each.summary() for each in self.recoveries]}
        return found


_TEXT, _NUMBER, _WHOLE = (str, "text"), (int | float, "a number"), (int, "a whole number")
_FIELDS: dict[str, tuple[Any, str]] = {
    "format": _TEXT, "hash": _TEXT, "model": _TEXT, "fingerprint": _TEXT, "pair": _TEXT, "criterion": _TEXT,
    "allocation": _TEXT, "ratio": _NUMBER, "top_k": _WHOLE, "ragged": (bool, "true or false"), "left_out": (list, "a list"),
    "prompt": (Mapping, "a JSON object"), "vocabulary": (Mapping, "a JSON object"),
}  # fmt: skip


def _of_type(value: Any, kind: Any, otherwise: str) -> Any:
    truth_for_number = isinstance(value, bool) and kind is not bool
    if not isinstance(value, kind) or truth_for_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(otherwise)
    return value


def _object(text: str) -> dict[str, Any]:
    try:
        return parse_object(text.encode())
    except ValueError:
        raise ValueError("vocabulary is no JSON object") from None


def read_provenance(folder: Path) -> Provenance | None:
    """What the ``slimmoe.json`` of a folder says; None where there is none, for slimmoe did not cut that model.

    Raises:
        WorkError: the file is damaged.
    """
    anew = "slimmoe prune MODEL --plan plan.json -o DIR"
    try:
        if (path := own_file(folder, FILE)) is None:
            return None
        return Provenance.from_dict(read_object(path))
    except WorkError as error:
        raise WorkError(error.sentence, next_command=anew) from None
    except ValueError as error:
        raise WorkError(f"{folder / FILE} is damaged: its {error}.", next_command=anew) from None


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write ``slimmoe.json`` into a folder that is still being made."""
    text = json.dumps(provenance.to_dict(), indent=1, allow_nan=False) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def gguf_provenance(path: Path, get: Callable[[str], Any]) -> Provenance | None:
    """What the keys ``slimmoe.*`` of a GGUF file say; None where there are none.

    Args:
        path: of the file, for the sentence.
        get: the value of a key, or None.

    Raises:
        WorkError: a key is of another type.
    """
    found = {name: value for name in _GGUF_FIELDS if (value := get(f"slimmoe.{name}")) is not None}
    recoveries, recovered, tokens = (get(f"slimmoe.{name}") for name in ("recoveries", "recovered", "vocabulary"))
    if not found and not recoveries and not recovered and not tokens:
        return None
    try:
        if tokens is not None:
            found["vocabulary"] = _object(_of_type(tokens, str, "vocabulary is not text"))
        if recoveries is not None:
            known = parse_recoveries(_of_type(recoveries, str, "slimmoe.recoveries is not text"))
        else:
            known = (Recovery(FULL),) if recovered else ()
        return replace(Provenance.from_dict(found), recoveries=known)
    except ValueError as error:
        raise WorkError(f"{path} is damaged: its {error}.") from None
