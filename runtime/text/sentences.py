"""A paragraph as its sentences, with every byte of its white space.

Where a sentence ends is said by sentencex (MIT), which knows the abbreviations of many languages. What it splits although
it is one thing (``vol. 2``, a URL, an e-mail address, code) is joined again.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from runtime.text.languages import base_language
from runtime.text.markup import protected_spans
from runtime.text.repetition import is_unspaced

# Before a number these are no ends; sentencex knows them before names only.
_BEFORE_NUMBER = re.compile(
    r"(?:^|[\s(\[])(?:abb|abs|al|app|art|bd|cap|ch|chap|ed|eq|fig|figs|folio|hl|kap|lib|n|nos?|nr|núm|op|p|pp|par|pág|pkt|pos|r"
    r"|rys|s|sec|sect|ss|st|str|t|tab|tel|tom|ust|v|ver|vgl|vol|vols|ziff|гл|изд|п|рис|с|см|ст|стр|т|табл)\.\s*$",
    re.IGNORECASE,
)
_FEWEST = 4  # words of a text that is cut in halves
_CUTS = re.compile(r"(?<=[,;:–—])\s+|(?<=[、，；：。])|\s+")
AT_A_TIME = 20_000  # characters
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s+")


def _no_end(before: str, after: str) -> bool:
    """Whether a sentence surely goes on between two pieces."""
    following = after.lstrip()
    if not following or "\n\n" in before[len(before.rstrip()) :]:
        return False
    goes_on = following[0].islower() and before.rstrip().endswith(".")
    return goes_on or (following[0].isdigit() and _BEFORE_NUMBER.search(before[-12:]) is not None)


def split_sentences(text: str, language: str, limit: int = 0) -> list[str]:
    """The sentences of a paragraph, each with the white space behind it; joined, they are the paragraph.

    Args:
        language: a code of runtime/text/languages.py; an unknown one is split by the rules that most languages share.
        limit: characters that a piece may have at most, white space around it aside; 0: any number.
    """
    bounds = _ends(text, base_language(language))
    spans = protected_spans(text) if len(bounds) > 1 else []
    starts = [start for start, _ in spans]
    sentences, begin = [], 0
    for end, following in zip(bounds, [*bounds[1:], None]):
        if following is not None:
            at = bisect_left(starts, end) - 1
            inside = at >= 0 and spans[at][0] < end < spans[at][1]
            blank = not text[begin:end].strip() or not text[end:following].strip()
            if inside or blank or _no_end(text[max(begin, end - 40) : end], text[end : end + 40]):
                continue
        sentences.append(text[begin:end])
        begin = end
    return [piece for sentence in sentences for piece in cut_at_spaces(sentence, limit)] if limit else sentences


def _ends(text: str, language: str) -> list[int]:
    """Where sentencex ends the sentences of a text; it is given some at a time, since its time may grow with the square."""
    from sentencex import segment  # type: ignore[reportAttributeAccessIssue]  # of a library in Rust

    ends, begin = [], 0
    for some in cut_at_spaces(_SURROGATE.sub("\ufffd", text), AT_A_TIME):
        found = list(accumulate(map(len, segment(language, some)))) if some.strip() else []
        if found and found[-1] == len(some):  # what does not come back whole stays whole
            ends += [begin + end for end in found[:-1]]
        begin += len(some)
    return [*ends, len(text)] if text else []


def cut_at_spaces(text: str, limit: int) -> list[str]:
    """Pieces of at most ``limit`` characters, cut behind white space where there is some in their second half.

    White space around the text does not count.
    """
    pieces, begin, end = [], 0, len(text.rstrip())
    begin_text = len(text) - len(text.lstrip())
    while end - max(begin, begin_text) > limit:
        first = max(begin, begin_text)
        last = first + limit
        spaces = [match.end() for match in _SPACE.finditer(text, first + limit // 2, min(last + 1, end))]
        if spaces and spaces[-1] <= last + 1:
            cut = spaces[-1]
        else:  # not between a character and what modifies it
            cut = last
            while cut > first + 1 and _joins(text[cut - 1], text[cut]):
                cut -= 1
        pieces.append(text[begin:cut])
        begin = cut
    return [*pieces, text[begin:]]


def _joins(before: str, after: str) -> bool:
    """Whether two characters are shown as one: combining marks, joiners, selectors, surrogates."""
    import unicodedata

    return (
        unicodedata.combining(after) > 0
        or "\u200d" in (before, after)
        or after in "\ufe0e\ufe0f"
        or ("\ud800" <= before <= "\udbff")
    )


def halves_of(text: str) -> tuple[str, str] | None:
    """A text in two, behind punctuation near its middle where there is some, else at white space; None if it is short.

    Joined, the halves are the text. No value, tag or placeholder is cut.
    """
    if len(text.split()) < _FEWEST and not re.search(r"[、，；：。].", text):
        return None
    spans = protected_spans(text)
    cuts = [
        match.end()
        for match in _CUTS.finditer(text)
        if match.start() > 0 and match.end() < len(text) and not any(start < match.end() < end for start, end in spans)
        if not (text[match.start() - 1].isdecimal() and text[match.end()].isdecimal())
    ]
    quarter = len(text) / 4
    behind_mark = [cut for cut in cuts if not text[:cut].rstrip()[-1].isalnum() and quarter < cut < 3 * quarter]
    cut = min(behind_mark or cuts, key=lambda each: abs(each - len(text) / 2), default=0)
    return (text[:cut], text[cut:]) if cut else None


def in_one(sentences: Sequence[str]) -> str:
    """Sentences as one text: with spaces between them, where their script has some."""
    text = sentences[0]
    for sentence in sentences[1:]:
        text += ("" if is_unspaced(text[-2:-1]) or is_unspaced(sentence[:1]) else " ") + sentence
    return text
