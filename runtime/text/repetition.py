"""What a text says again and again: the sign of a model that does not come to an end."""

import re
from collections import Counter

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


def is_unspaced(text: str) -> bool:
    """Whether a text begins with a character of a script that puts no spaces between words."""
    return bool(_IS_UNSPACED.match(text))


def units(text: str) -> tuple[list[str], int]:
    """Words, and single characters where scripts have no spaces; and how many of the latter there are."""
    found = _UNITS.findall(text)
    return found, sum(map(is_unspaced, found))


def words(text: str) -> float:
    """Words of a text; two characters count as one where there are no spaces."""
    found, single = units(text)
    return len(found) - single / 2


def repeats(text: str) -> tuple[int, int]:
    """How often the same four words come, or eight characters where there are no spaces; and the same letters in a row."""
    found, single = units(text)
    size = 8 if single > len(found) / 2 else 4
    grams = Counter(tuple(found[i : i + size]) for i in range(len(found) - size + 1))
    runs = (len(match[0]) // len(match[1]) for match in _RUN.finditer(text) if any(map(str.isalpha, match[1])))
    return max(grams.values(), default=0), max(runs, default=0)


def is_looping(text: str, source: str, reference: str = "") -> bool:
    """Whether a text repeats something too often, and half as often again as its source and reference repeat anything."""
    found, others = repeats(text), [repeats(source), repeats(reference)]
    return any(
        count >= least and count > 1.5 * max(other[i] for other in others)
        for i, (count, least) in enumerate(zip(found, (LOOP, RUN)))
    )
