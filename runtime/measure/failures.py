"""The ways in which a translation fails, seen without a judge: from its text, its source and its reference."""

import re
import unicodedata
from collections import Counter

from runtime.text.language import is_other_language
from runtime.text.languages import LANGUAGES
from runtime.translate.segments import Translation

FAILURES = ("empty", "too long", "unfinished", "copied", "wrong language", "preamble", "looping", "length")
LOOP = 4  # the same piece this often makes a loop
RUN = 8  # the same letters this often in a row make one within a word

# Scripts that put no spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana and Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNITS = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")  # a character of these scripts, or a word of others
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_RUN = re.compile(rf"(\S{{1,16}}?)\1{{{RUN - 1},}}")

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


def _units(text: str) -> tuple[list[str], int]:
    """Words, and single characters where scripts have no spaces; and how many of the latter there are."""
    units = _UNITS.findall(text)
    return units, sum(bool(_IS_UNSPACED.match(unit)) for unit in units)


def _words(text: str) -> float:
    """Words of a text; two characters count as one where there are no spaces."""
    units, single = _units(text)
    return len(units) - single / 2


def _repeats(text: str) -> tuple[int, int]:
    """How often the same four words come, or eight characters where there are no spaces; and the same letters in a row."""
    units, single = _units(text)
    size = 8 if single > len(units) / 2 else 4
    grams = Counter(tuple(units[i : i + size]) for i in range(len(units) - size + 1))
    runs = (len(match[0]) // len(match[1]) for match in _RUN.finditer(text) if any(map(str.isalpha, match[1])))
    return max(grams.values(), default=0), max(runs, default=0)


def is_looping(text: str, source: str, reference: str = "") -> bool:
    """Whether a text repeats something too often, and half as often again as its source and reference repeat anything."""
    found, others = _repeats(text), [_repeats(source), _repeats(reference)]
    return any(
        count >= least and count > 1.5 * max(other[i] for other in others)
        for i, (count, least) in enumerate(zip(found, (LOOP, RUN)))
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
        "copied": text == source != reference and _words(source) > 2,
        "wrong language": text != reference and is_other_language(text, language),
        "preamble": bool(_PREAMBLE.match(text)) and not any(map(_PREAMBLE.match, (source, reference))),
        "looping": is_looping(text, source, reference),
        "length": bool(text) and not 1 / 3 <= (_columns(text) + 10) / (_columns(reference) + 10) <= 3,
    }
    return {kind for kind in FAILURES if found.get(kind)}
