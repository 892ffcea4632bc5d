"""Is a text in the language that was asked for? Offline, by py3langid, whose model comes with its package.

A naive Bayes classifier over byte n-grams (Lui and Baldwin 2012, "langid.py"). The rule is on the careful side: what it
flags is wrong, and it may miss some. How often it errs is measured in docs/quality.md.
"""

from functools import cache
from typing import TYPE_CHECKING

from runtime.text.pairs import LANGUAGES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SHORTEST = 20  # UTF-8 bytes, about four words of English or seven Chinese characters; less tells too little
POSSIBLE = 0.05  # the asked-for language is out of the question below this probability
SURE = 0.5  # and another one must have at least this


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier


def is_identifiable(text: str) -> bool:
    """Whether ``text`` is long enough to tell its language."""
    return len(text.encode()) >= SHORTEST


def other_language(text: str, language: str) -> str | None:
    """The language (ISO 639-1) that ``text`` is in where it is surely not in ``language``; None where it may be."""
    if not is_identifiable(text):
        return None
    probabilities = dict(_identifier().rank(text))
    likeliest = max(probabilities, key=probabilities.__getitem__)
    return likeliest if probabilities[language] < POSSIBLE and probabilities[likeliest] >= SURE else None


def is_other_language(text: str, language: str) -> bool:
    """Whether ``text`` is surely not in ``language`` (ISO 639-1); False where it is too short to tell."""
    return other_language(text, language) is not None
