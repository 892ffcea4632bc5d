"""How many tokens of a model stay, which ones, and what a model says of it in its record."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from runtime.errors import RequestError, WorkError
from runtime.formats.artefact import provenance_of
from runtime.formats.typed_json import Positive, Share, mismatch

_EXAMPLE = "--vocabulary coverage=0.9999   (or a number of tokens, 8192, or a share of them, 0.25)"


@dataclass(frozen=True)
class Amount:
    """How many tokens stay: a number of them, a share of them, or those that cover a share of the text.

    Attributes:
        coverage: 1 keeps every token that the text has.
    """

    text: str
    tokens: int | None = None
    share: float | None = None
    coverage: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Amount":
        """Read ``--vocabulary``.

        Raises:
            RequestError: it is none of the three.
        """
        name, _, value = text.rpartition("=")
        try:
            if not name and value.isdecimal() and int(value) > 1:
                return cls(text, tokens=int(value))
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number <= 1 or name not in ("", "coverage"):
            raise RequestError(f"{text!r} is no size of a vocabulary.", next_command=f"the same with {_EXAMPLE}")
        return cls(text, coverage=number) if name else cls(text, share=number)

    def share_of(self, count: int) -> float:
        """The share that stays of so many tokens.

        Raises:
            RequestError: that takes a text, which is not read here.
        """
        if self.coverage is not None:
            raise RequestError(
                f"How many tokens {self.text} leaves depends on a text: give their number or share.",
                next_command="the same with --vocabulary 0.25",
            )
        return min(1.0, self.tokens / count if self.tokens else self.share or 1.0)


class _Fields(TypedDict):
    """What a record must have."""

    keep: str
    before: Positive
    after: Positive
    used: Positive
    covered: Share
    expected: Share
    amount: str
    pair: str
    corpus: str
    sha256: str


@dataclass(frozen=True)
class Selection:
    """The tokens of a model that stay.

    Attributes:
        keep: their ids in the source, sorted; a token's place in it is its new id.
        before: how many the tokenizer had.
        used: how many different ones the text has.
        covered: share of the text's tokens that stay, 0 to 1.
        expected: the same of other text like it, without the tokens that are in this one once and need not stay otherwise:
            as many will be new there (the estimate of Good and Turing).
        sha256: of the text, its first 16 digits.
    """

    keep: list[int]
    before: int
    used: int
    covered: float
    expected: float
    amount: str
    pair: str
    corpus: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As ``slimmoe.json`` has it: ``keep`` as ranges, ``0-259 262 270-301``."""
        return asdict(self) | {"keep": as_ranges(self.keep), "after": len(self.keep)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Selection":
        """The inverse of ``to_dict``.

        Raises:
            ValueError: a field is missing or wrong, as a sentence's end.
        """
        if why := mismatch(record, _Fields, "it"):
            raise ValueError(f"vocabulary is none that can be followed: {why}")
        ids = from_ranges(record["keep"])
        if ids != sorted({*ids}) or not 0 < len(ids) == record["after"] <= record["before"]:
            raise ValueError("vocabulary has its tokens unsorted, or not as many as it says")
        names = cls.__dataclass_fields__.keys() - {"keep"}
        return cls(keep=ids, **{name: record[name] for name in names})


def as_ranges(ids: Iterable[int]) -> str:
    """Sorted numbers as text, neighbours by the first and the last of them."""
    runs: list[list[int]] = []
    for number in ids:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def from_ranges(text: str) -> list[int]:
    """The inverse of ``as_ranges``."""
    ends = (part.partition("-") for part in text.split())
    return [number for a, _, b in ends for number in range(int(a), int(b or a) + 1)]


def kept_ids(record: Mapping[str, Any], source: Path) -> list[int]:
    """The ids in the first model of the tokens of ``source``, by its record of them.

    Raises:
        WorkError: the record is damaged.
    """
    try:
        return Selection.from_dict(record).keep
    except ValueError:
        raise WorkError(f"{source} is damaged: its record of the vocabulary is not that of the model.") from None


def kept_of(artefact: Path, source: Path) -> list[int] | None:
    """The ids in ``source`` of the tokens of what was made from it; None where it has them all, or none is known to be lost.

    Raises:
        RequestError: ``source`` lacks some of them.
        WorkError: a record is damaged.
    """
    mine, others = provenance_of(artefact).vocabulary, provenance_of(source).vocabulary
    if not mine or mine.get("keep") == others.get("keep"):
        return None
    ids = kept_ids(mine, artefact)
    places = {first: number for number, first in enumerate(kept_ids(others, source))} if others else None
    if places is None:
        return ids
    if lost := {*ids} - places.keys():
        raise RequestError(f"{artefact} has {len(lost)} tokens that {source} lacks, so it was not made from that.")
    return [places[first] for first in ids]
