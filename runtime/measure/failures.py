"""The ways in which a translation fails, seen without a judge: from its text, its source and its reference."""

import re
import unicodedata

from runtime.text.language import is_other_language
from runtime.text.languages import LANGUAGES
from runtime.text.repetition import is_looping, words
from runtime.translate.segments import Translation

FAILURES = ("empty", "too long", "unfinished", "copied", "wrong language", "preamble", "looping", "length")

# "Here is the translation:", "Sure! The German version is:", "Übersetzung:" and such: an opening that ends in a colon
# and has a word for translation, or a language and nothing else before the colon.
_PREAMBLE = re.compile(
    r"[^:：\n]{0,80}(\btranslat|\bübersetz|\btradu[cçz]|\bvertal|\bvertaal|\btłumacz|\bperevod|перевод|переклад|превод|"
    r"\bpřeklad|\bpreklad|\bpri?jevod|\bfordít|\bkäännö|\böversätt|\boversæt|\boverset|\btõlge|\btulkojum|\bvertim|"
    r"\bçevir|\bterjemah|\bþýðing|μετάφρασ|ترجم|תרגום|अनुवाद|\bbản dịch|แปล|번역|翻译|翻譯|翻訳|译文|譯文|訳文|和訳|"
    rf"\b({'|'.join(map(re.escape, LANGUAGES.values()))}) version\b)[^:：\n]{{0,60}}[:：]"
    rf"|\W*({'|'.join(map(re.escape, LANGUAGES.values()))}|中文|汉语|漢語|日本語|한국어|ภาษาไทย)( text)?\W*[:：]",
    re.IGNORECASE,
)


def _columns(text: str) -> int:
    """Width as a terminal has it: a Chinese character takes two columns, and says as much as several letters."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def find_failures(translation: Translation, reference: str, language: str) -> set[str]:
    """Those of ``FAILURES`` that one translation into ``language`` shows; a text equal to its reference shows none.

    Empty, without room in the context (then nothing else), unfinished (no end-of-sequence), copied from the source, in
    another language, opened with chat, looping, and far too long or short.
    """
    if translation.refused:
        return {"too long"}
    text, source, reference = translation.text, translation.source.strip(), reference.strip()
    found = {
        "empty": not text,
        "unfinished": translation.generation is not None and not translation.generation.finished,
        "copied": text == source != reference and words(source) > 2,
        "wrong language": text != reference and is_other_language(text, language),
        "preamble": bool(_PREAMBLE.match(text)) and not any(map(_PREAMBLE.match, (source, reference))),
        "looping": is_looping(text, source, reference),
        "length": bool(text) and not 1 / 3 <= (_columns(text) + 10) / (_columns(reference) + 10) <= 3,
    }
    return {kind for kind in FAILURES if found.get(kind)}
