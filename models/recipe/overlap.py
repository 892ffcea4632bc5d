"""Keep training text clear of test sets: a side that shares eight words in a row with one, or equals one, is left out.

Eight words is what the GPT-2 report (Radford et al. 2019, section 4) counts as overlap between training and test text.
"""

from collections.abc import Iterable
from pathlib import Path

from models.recipe.clean import LANGUAGES, MARKER, normalise
from runtime.text.corpus import SHIPPED, split_lines

GRAM = 8  # words


def _grams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}


class TestText:
    """The segments of test sets, by language."""

    __test__ = False  # not a pytest class

    def __init__(self) -> None:
        self._whole: dict[str, set[str]] = {}
        self._grams: dict[str, set[str]] = {}

    def add(self, language: str, texts: Iterable[str]) -> None:
        whole, grams = self._whole.setdefault(language, set()), self._grams.setdefault(language, set())
        for text in map(normalise, texts):
            whole.add(text)
            grams |= _grams(text)

    def overlaps(self, language: str, text: str) -> bool:
        """Whether ``text`` in ``language`` repeats a test segment, or eight words of one."""
        text = normalise(MARKER.sub(" ", text))
        return text in self._whole.get(language, ()) or not self._grams.get(language, set()).isdisjoint(_grams(text))


def test_text(folder: Path | None = None) -> TestText:
    """The sets that come with the project, and every ``NAME.XX`` of ``folder`` (FLORES' dev and devtest, say)."""
    held_out = TestText()
    for place in (SHIPPED, *([folder] if folder else [])):
        for language in ("en", *LANGUAGES):
            for path in sorted(place.glob(f"*.{language}")):
                held_out.add(language, split_lines(path.read_text(encoding="utf-8")))
    return held_out


test_text.__test__ = False  # type: ignore[attr-defined]
