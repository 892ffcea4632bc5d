"""What is wrong with a translation: values, placeholders and terms that it lacks, loops, copies, no text or no end."""

from dataclasses import dataclass, replace

from runtime.text.language import is_other_language
from runtime.text.pairs import Pair
from runtime.text.placeholders import blanked, wrong_placeholders
from runtime.text.repetition import is_looping, units
from runtime.text.values import Value, lost_values, put_right
from runtime.translate.glossary import Term
from runtime.translate.segments import SAID, Translation

_ORDER = ["", *SAID]
_COPIED = 2 / 3  # of a translation's longer words are its source's, where it may be a copy


@dataclass(frozen=True)
class CheckedTranslation(Translation):
    """A translation and what was found wrong with it.

    Attributes:
        marks: kinds of ``SAID``, the worst first; none where all is well.
        lost: numbers, URLs, e-mail addresses, codes or placeholders of the source that it has not, or terms that it has
            otherwise.
        remedy: what gave the text: ``names``, ``no repeats``, ``halves``, ``put right``, ``taken out`` or ``term``; empty:
            the first try.
    """

    marks: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def trouble(self) -> str:
        """The worst of ``marks``."""
        return self.marks[0] if self.marks else ""

    @property
    def fails(self) -> bool:
        """Whether something is worse with it than a lost value."""
        return _ORDER.index(self.trouble) > _ORDER.index("values")

    @property
    def harmless(self) -> "CheckedTranslation":
        """Itself, or none where placeholders are wrong: a program that reads it may fail, and its source does no harm."""
        return replace(self, text="", marks=("empty",), lost=()) if self.trouble == "placeholders" else self

    @property
    def said(self) -> str:
        """What is wrong, for a sentence about the translation."""
        return SAID[self.trouble].format(lost=", ".join(self.lost)) if self.marks else ""


@dataclass(frozen=True)
class Asked:
    """A segment, and what its translation has to have."""

    segment: str
    pair: Pair
    values: list[Value]
    terms: list[Term]

    @property
    def source(self) -> str:
        return self.segment.strip()

    def missing(self, text: str) -> list[Term]:
        return [term for term in dict.fromkeys(self.terms) if not term.is_in(text)]

    def checked(self, result: Translation, remedy: str = "") -> CheckedTranslation:
        """What the model wrote, with what is wrong with it; values are put right where they can be."""
        text = result.text
        placeholders = wrong_placeholders(self.source, text) if text else []
        lost, left = lost_values(self.values, blanked(text)) if text else ([], "")
        if lost:
            right = put_right(lost, text, left, self.pair.source, self.pair.target)
            if right is not None and not lost_values(self.values, blanked(right))[0]:
                text, lost, remedy = right, [], remedy or "put right"
        missing = self.missing(text) if text else []
        found = {
            "refused": bool(result.refused),
            "placeholders": bool(placeholders),
            "empty": not text and not result.refused,
            "looping": is_looping(text, self.source),
            "unfinished": result.generation is not None and not result.generation.finished,
            "copied": _is_copy(text, self.source, self.pair.target),
            "values": bool(lost),
            "terms": bool(missing),
        }
        marks = tuple(kind for kind in reversed(_ORDER) if found.get(kind))
        wanting = placeholders or [each.text for each in lost] or [each.source for each in missing]
        return CheckedTranslation(self.segment, text, result.generation, result.refused, marks, tuple(wanting), remedy)

    def better(self, best: CheckedTranslation, other: Translation | None, remedy: str) -> CheckedTranslation:
        """The better of the best so far and another try."""
        if other is None or other.refused:
            return best
        checked = self.checked(other, remedy)
        return min(best, checked, key=lambda each: (_ORDER.index(each.trouble), len(each.lost)))


def _is_copy(text: str, source: str, language: str) -> bool:
    """Whether most longer words of a translation are its source's, and it is in another language than asked for."""
    if text == source and not _has_words(source):
        return False
    words, others = ([unit for unit in units(each.lower())[0] if len(unit) > 3] for each in (text, source))
    same = sum(word in others for word in words)
    return (text == source or same > _COPIED * len(words)) and is_other_language(text, language)


def _has_words(text: str) -> bool:
    """Whether there is more than names: words in lower case, or of a script without case."""
    return sum(unit[0].isalpha() and not unit[0].isupper() for unit in units(text)[0]) > 1
