"""What a translation must not change: numbers, dates, times, URLs, e-mail addresses and codes of its source.

Each value is a pattern of the ways in which it may be written in the target: as it was, or localised (1,234.50 as
1.234,50; 12/31/2025 as 31.12.2025; 5 pm as 17). What is left is lost. What a translation invents is not looked for,
since words of the source may become numbers.
"""

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Literal

from runtime.text.languages import base_language
from runtime.text.markup import protected_spans

_DATA = Path(__file__).parent / "data" / "numbers.toml"
_GROUP = r"[.,'’ \u00a0\u202f\u2009]?"  # between thousands
_SPACES = " \u00a0\u202f\u2009"
_AMPM = r"(?:[ \u00a0]?(?:[AaPp]\.[Mm]\.|[AaPp][Mm]\b))"
_PART = r"[\w./-]{0,60}?"
_VALUES = re.compile(
    rf"""
    (?P<code> (?<![\w.@/-]) (?!(?:[A-Z]{{3}}|[A-Z]{{1,2}}\$)\d+(?:[.,\s]|$))
        (?={_PART}[A-Z]{_PART}\d) (?={_PART}\d{_PART}\d) [A-Z0-9]+(?:[-_/.][A-Z0-9]+)*(?![\w-])
        | (?<![\w.-]) v\d+(?:\.\d+)+
        | (?<![\w-]) (?=[0-9a-f-]{{0,60}}\d) (?=[0-9a-f-]{{0,60}}[a-f]) (?:[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}
        | [0-9a-f]{{7,64}}) (?![\w-]) )
  | (?P<date> (?<![\w.,/-]) (?:\d{{4}}(?P<iso>[-/.])\d{{1,2}}(?P=iso)\d{{1,2}}
        | \d{{1,2}}(?P<mark>[-/.])\d{{1,2}}(?P=mark)(?:\d{{4}}|\d{{2}})) (?![\w/-]|[.,]\d) )
  | (?P<time> (?<![\w.,:]) (?:[01]?\d|2[0-4]) (?: :[0-5]\d{_AMPM}? | (?:\.[0-5]\d)?{_AMPM} ) (?![\w:]) )
  | (?P<number> (?<!\w) (?: \d{{1,3}}(?:[{_SPACES}]\d{{3}}(?!\d))+(?:[.,]\d+)? | \d+(?:[.,'’:]\d+)* ) )
    """.replace(_SPACES, _SPACES.replace(" ", r"\ ")),
    re.VERBOSE,
)  # fmt: skip
_DATE_LIKE = re.compile(
    r"(?<![\d.,/-])(?:\d{1,2}\.\d{1,2}\.(?:\d{2,4})?|\d{1,2}([/-])\d{1,2}\1\d{2,4}|\d{4}-\d\d-\d\d)(?!\d)"
)
# What may stand where a value was lost.
_NUMBER_LIKE = re.compile(r"(?=\D{0,60}\d)\w(?:[\w.,:/'’-]*\w)?")
SIMILAR = 0.6  # a value and what may have become of it: share of characters that both have in order

Kind = Literal["kept", "date", "time", "number"]


@dataclass(frozen=True)
class Value:
    """A value of a text: where it stands, and how it may be written in the target's language."""

    text: str
    start: int
    kind: Kind
    pattern: re.Pattern[str]

    @property
    def end(self) -> int:
        """The first character behind it."""
        return self.start + len(self.text)


@cache
def _numbers() -> dict[str, dict[str, list[str]]]:
    with _DATA.open("rb") as file:
        return tomllib.load(file)


def _ascii(text: str) -> str:
    """The same with every decimal digit as one of 0 to 9."""
    return "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)


def _alone(pattern: str) -> str:
    return rf"(?<!\d)(?<!\d[.,])(?:{pattern})(?![.,]?\d)"


def _date(text: str) -> str:
    """Day and year with the month as a number, or with a word between or before them."""
    parts = [int(part) for part in re.split("[-/.]", text)]
    year = parts.pop(0) if re.match(r"\d{4}", text) else parts.pop()
    years = rf"(?:{year:02d}|20{year:02d}|19{year:02d})" if year < 100 else rf"(?:{year}|{year % 100:02d})"
    one, other = (rf"0?{part}" for part in parts)
    found = [r"\D{1,4}?".join(order) for order in permutations((one, other, years))]
    for day in {one for one, part in zip((one, other), parts) if part <= 31}:
        word = r"\D{0,5}?[^\W\d_]{1,20}\D{0,4}"
        found += [rf"{day}{word}{years}", rf"{years}{word}{day}", rf"(?<=[^\W\d_]\ ){day}\D{{1,4}}{years}"]
    return rf"(?<!\d)(?:{'|'.join(found)})(?!\d)"


def _time(text: str) -> str:
    """On a clock of twelve or of twenty-four hours."""
    hour, minute = ([int(each) for each in re.findall(r"\d+", text)] + [-1])[:2]
    hours = "|".join(sorted({f"0?{each}" for each in (hour, (hour + 12) % 24, hour - 12) if each >= 0}, reverse=True))
    if minute <= 0:
        return rf"(?<!\d)(?:{hours})(?:\D{{1,3}}00)?(?![.,:]?\d)"
    return rf"(?<!\d)(?:{hours})(?:[.:h時点时]| h |\D{{1,6}}){minute:02d}(?!\d)"


def _number(text: str, language: str) -> str | None:
    """As it is, with other separators, or up to twelve as a word; None where that word is not known."""
    parts = re.split(r"[.,'’: \u00a0\u202f\u2009]", text)
    separators = re.findall(r"[.,'’: \u00a0\u202f\u2009]", text)
    if not separators:
        grouped = _GROUP.join(_thousands(text)) if len(text) > 3 and text[0] != "0" else text
        if len(text) > 2 or int(text) > 12 or (text[0] == "0" and len(text) > 1):
            return _alone(rf"0?{grouped}" if len(text) == 1 else grouped)
        words = _numbers()["words"].get(language)
        return rf"{_alone(f'0?{text}')}|\b(?i:{words[int(text)]})" if words else None
    if ":" in separators or len({*separators[:-1]}) > 1:
        return _alone(re.escape(text))
    heads, last = parts[:-1], parts[-1]
    as_groups = all(len(part) == 3 for part in parts[1:]) and len({*separators}) == 1 and len(heads[0]) <= 3
    decimal = len(separators) == 1 or separators[-1] not in separators[:-1]
    if decimal and all(len(part) == 3 for part in heads[1:]):
        whole = "".join(heads)
        fraction = rf"{_GROUP.join(_thousands(whole))}[.,]{last}"
        return _alone(rf"{fraction}|{_GROUP.join(parts)}" if as_groups else fraction)
    return _alone(_GROUP.join(parts) if as_groups else re.escape(text))


def _thousands(digits: str) -> list[str]:
    first = len(digits) % 3
    return [*([digits[:first]] if first else []), *(digits[at : at + 3] for at in range(first, len(digits), 3))]


def values(text: str, language: str) -> list[Value]:
    """The values of a text in order; up to twelve, a number is one only where its word in ``language`` is known.

    Args:
        language: of the translation.
    """
    if not any(map(str.isdecimal, text)) and "@" not in text and ":" not in text and "www." not in text:
        return []
    base = base_language(language)
    found, begin = list[Value](), 0
    for start, end in [*_addresses(text), (len(text), len(text))]:
        for match in _VALUES.finditer(_ascii(text[:start]), begin):
            kind, pattern = match.lastgroup or "", None
            raw = match[0]
            if kind == "number" and not _large(text[match.end() :], base):
                pattern = _number(raw, base)
            elif kind in ("date", "time"):
                pattern = _date(raw) if kind == "date" else _time(raw)
            elif kind == "code":
                pattern = rf"(?<![\w-]){re.escape(raw)}(?![\w])"
            if pattern is not None:
                of_kind: Kind = "kept" if kind == "code" else kind  # type: ignore[assignment]
                found.append(Value(text[match.start() : match.end()], match.start(), of_kind, re.compile(pattern)))
        if start < end:
            found.append(Value(text[start:end], start, "kept", re.compile(rf"{re.escape(text[start:end])}(?![\w/@])")))
        begin = end
    return found


def _addresses(text: str) -> list[tuple[int, int]]:
    """Where URLs and e-mail addresses stand."""
    return [
        (start, end)
        for start, end in protected_spans(text)
        if re.match(r"[a-z]+:\S|www\.|[\w.+-]+@", text[start:end]) and not text[start:end].endswith(")")
    ]


def _large(following: str, language: str) -> bool:
    """Whether a number goes on in words that count otherwise in ``language``: 1.5 million is 150 in ten thousands."""
    words = r"\W{0,2}(?i:thousand|mill|mrd|bill|trill|mio|tausend|mil\b|тыс|млн|млрд|миллион)"
    return language in _numbers()["myriads"]["languages"] and re.match(words, following) is not None


def lost_values(source: list[Value], translation: str) -> tuple[list[Value], str]:
    """The values that a translation has not, each as often as its source; and the translation with the others blanked."""
    left, lost = _ascii(translation), list[Value]()
    # A date is found as it stands before another way to write one takes a part of it.
    unchanged = {value: re.compile(rf"(?<!\d){re.escape(_ascii(value.text))}(?!\d)") for value in source}
    for value in sorted(
        source,
        key=lambda each: (
            each.kind != "kept",
            each.kind == "number",
            unchanged[each].search(left) is None,
            -len(each.text),
        ),
    ):
        match = (value.kind in ("date", "time") and unchanged[value].search(left)) or value.pattern.search(left)
        if match is None and value.kind == "number":  # "December 31" may be 31.12.
            opened = _DATE_LIKE.sub(lambda each: re.sub(r"\D", " ", each[0]), left)
            match = value.pattern.search(opened)
        if match is None:
            lost.append(value)
        else:
            left = left[: match.start()] + "\0" * len(match[0]) + left[match.end() :]
    return sorted(lost, key=lambda each: each.start), left


def localised(value: Value, source: str, target: str) -> str:
    """A value as the target's language writes it, as far as separators go; codes and times as they are."""
    commas = [base_language(each) in _numbers()["commas"]["languages"] for each in (source, target)]
    if value.kind != "number" or commas[0] == commas[1] or ":" in value.text:
        return value.text
    turned = value.text.translate(str.maketrans(",.", ".,"))
    return turned if value.pattern.fullmatch(turned) else value.text


def put_right(lost: list[Value], translation: str, left: str, source: str, target: str) -> str | None:
    """A translation with each lost value where something like it stands that is no other value; None where there is none.

    Args:
        left: of ``lost_values``.
        source, target: languages.
    """
    numbers = [match.span() for match in _NUMBER_LIKE.finditer(left) if any(map(str.isdecimal, match[0]))]
    changes: list[tuple[int, int, str]] = []
    for value in lost:
        written = localised(value, source, target)
        ratios = [SequenceMatcher(None, written, left[slice(*place)], False).ratio() for place in numbers]
        if value.kind not in ("number", "kept") or max(ratios, default=0) < SIMILAR:
            return None
        place = numbers.pop(ratios.index(max(ratios)))
        changes.append((*place, written))
    for start, end, written in sorted(changes, reverse=True):
        translation = translation[:start] + written + translation[end:]
    return translation
