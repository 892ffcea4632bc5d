"""Reasoning is switched off where a template can, and what a model thinks all the same never becomes its answer.

What templates read, and how thoughts are marked, is data: ``data/thinking.toml``.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "thinking.toml"
MOST = 3  # thoughts that are closed in one answer; a model that begins a fourth gives none


@dataclass(frozen=True)
class Thought:
    """How a thought is marked: ``open`` begins it, ``end`` ends it, and after ``close`` the answer follows.

    Without an ``end`` it is no thought but the head of the answer, which is no part of it either.
    """

    open: str
    end: str
    close: str


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


@cache
def thoughts() -> tuple[Thought, ...]:
    """The known ways to mark a thought."""
    return tuple(
        Thought(each["open"], each["end"], each.get("close", f"\n\n{each['end']}\n\n" if each["end"] else ""))
        for each in _data()["thought"]
    )


@cache
def switches(template: str) -> dict[str, Any]:
    """What a chat template is told so that it asks for no reasoning: each of its switches at the least that it knows.

    Of a switch with several values, the first is taken that stands in quotes in the template, else the last.
    """
    found = {}
    for name, value in _data()["switches"].items():
        choices = value if isinstance(value, list) else [value]
        found[name] = next((each for each in choices if re.search(rf"""["']{each}["']""", template)), choices[-1])
    return found


def is_empty_thought(text: str) -> bool:
    """Whether a text is the marks of a thought with nothing between them."""
    text = "".join(text.split())
    return any(text == "".join((each.open + each.end).split()) for each in thoughts())


def close_thought(prompt: str) -> str:
    """What closes the thought that a prompt ends in; empty where it ends in none."""
    return next((each.close for each in thoughts() if each.end and prompt.rstrip().endswith(each.open.rstrip())), "")


def without_thoughts(answer: str, source: str = "") -> str:
    """An answer without what is between the marks of a thought, before a mark that ends one, or after one that begins it.

    Args:
        source: what was translated: marks that it has itself are text.
    """
    for each in thoughts():
        begin, end = re.escape(each.open), re.escape(each.end)
        if each.open in source or (each.end and each.end in source):
            continue
        if not each.end:
            answer = answer.replace(each.open, "")
            continue
        answer = re.sub(f"(?s){begin}.*?{end}", "", answer)
        answer = re.sub(f"(?s)^.*{end}", "", answer)
        answer = re.sub(f"(?s){begin}.*$", "", answer)
    return answer


class ThoughtWatch:
    """Sees in the tokens of an answer, as they are written, where a thought begins.

    An answer costs nothing more once its first tokens show that it is none: they are looked at until no mark begins so,
    and again where one comes that the mark of a thought begins with.

    Args:
        show: the text of token ids, special tokens written out.
        first: ids of tokens that the mark of a thought may begin with.
        source: what is translated: marks that it has itself are text.
    """

    def __init__(self, show: Callable[[Sequence[int]], str], first: Collection[int], source: str = "") -> None:
        self._show, self._first = show, first
        self._marks = [each for each in thoughts() if each.open not in source]
        self._start: int | None = 0
        self.begun = 0  # thoughts, so far

    @property
    def undecided(self) -> bool:
        """Whether the last tokens may yet turn out to be the mark of a thought."""
        return self._start is not None

    def after(self, written: list[int]) -> Thought | None:
        """The thought that the last token of ``written`` opened; its mark is taken out of them."""
        if self._start is None:
            if written[-1] not in self._first:
                return None
            self._start = len(written) - 1
        text = self._show(written[self._start :]).lstrip()
        for each in self._marks:
            if text.startswith(each.open):
                del written[self._start :]
                self.begun += bool(each.end)
                return each
        if not any(each.open.startswith(text) for each in self._marks):
            self._start = None
        return None
