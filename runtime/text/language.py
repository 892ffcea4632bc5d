"""Is a text in the language that was asked for? Offline, by py3langid, whose model comes with its package.

A naive Bayes classifier over byte n-grams (Lui and Baldwin 2012, "langid.py"). The rule is on the careful side: what it
flags is wrong, and it may miss some. How often it errs is measured in docs/quality.md.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from runtime.errors import WorkError
from runtime.text.languages import base_language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SHORTEST = 20  # UTF-8 bytes, about four words of English or seven Chinese characters; less tells too little
POSSIBLE = 0.05  # the asked-for language is out of the question below this probability
SURE = 0.5  # and another one must have at least this
# What an output may be found to be in instead, whatever was asked for: with more of them, close ones (Croatian and
# Serbian, Hindi and Marathi) would be taken for each other.
RIVALS = (
    "ar", "bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "he", "hi", "hr", "hu", "id", "is", "it", "ja", "ko",
    "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
_OTHER_CODES = {"fil": "tl", "nb": "no"}  # py3langid's


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    except OSError as error:  # it is packed, and takes a file to unpack
        raise WorkError(
            f"Languages cannot be told apart without a folder for temporary files ({error.strerror or error}).",
            next_command="TMPDIR=FOLDER and the same command again",
        ) from None


def is_identifiable(text: str) -> bool:
    """Whether ``text`` is long enough to tell its language."""
    return len(text.encode()) >= SHORTEST


def other_language(text: str, language: str) -> str | None:
    """The language (ISO 639-1) that ``text`` is in where it is surely not in ``language``; None where it may be.

    A variant counts as its language, and of one that py3langid does not know nothing is said.
    """
    if not is_identifiable(text):
        return None
    asked = _OTHER_CODES.get(base_language(language), base_language(language))
    ranked = dict(_identifier().rank(text))
    if asked not in ranked:
        return None
    probabilities = {code: float(ranked[code]) for code in (*RIVALS, asked)}
    total, likeliest = sum(probabilities.values()), max(probabilities, key=probabilities.__getitem__)
    if not total:
        return None
    return likeliest if probabilities[asked] < POSSIBLE * total and probabilities[likeliest] >= SURE * total else None


def is_other_language(text: str, language: str) -> bool:
    """Whether ``text`` is surely not in ``language`` by its code; False where it is too short to tell."""
    return other_language(text, language) is not None


def detected_language(text: str) -> str | None:
    """The likeliest language of a text (ISO 639-1) among ``RIVALS``; None where it is too short to tell."""
    if not is_identifiable(text):
        return None
    ranked = dict(_identifier().rank(text[:20_000]))
    return max((code for code in RIVALS if code in ranked), key=lambda code: float(ranked[code]))


def ranked_languages(text: str, among: Sequence[str]) -> list[tuple[str, float]]:
    """Languages by how likely a text of any length is in them, with their shares of one.

    Args:
        among: base codes, at least one; those that py3langid does not know come last.
    """
    ranked = dict(_identifier().rank(text))
    known = {code: float(ranked.get(_OTHER_CODES.get(code, code), 0.0)) for code in among}
    total = sum(known.values())
    shares = [(code, share / total if total else 1 / len(known)) for code, share in known.items()]
    return sorted(shares, key=lambda each: -each[1])
