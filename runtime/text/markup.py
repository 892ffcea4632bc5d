"""Segments with codes in them: tags, formatting, placeholders, URLs, which a translation has to have once each.

A segment is ``Marked``: text and codes in the order in which they stand. What the codes are is said by their kind alone, so
that whoever translates needs to know no format.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["open", "close", "alone", "break"]


@dataclass(frozen=True)
class Code:
    """What stands in a segment and is no text.

    Attributes:
        raw: as it is in the document; of a placeholder (``spans`` is empty), as it is in the text.
        kind: one of a pair that has to nest, or alone, or the end of a line that no sentence runs across.
        spans: where ``raw`` is from, ranges of the document's text; empty for a placeholder.
        gap: it stands for white space, as a line break does.
        word: it stands where a word would: a placeholder, URL, address, path or piece of code.
    """

    raw: str
    kind: Kind = "alone"
    spans: tuple[tuple[int, int], ...] = ()
    gap: bool = False
    word: bool = False


Marked = tuple[str | Code, ...]

# Bounds and possessive quantifiers keep it linear on whatever text.
_PROTECTED = re.compile(
    r"""
    (?P<url> (?:https?|ftp|file|mailto|tel):[^\s<>"']*[^\s<>"'.,;:!?()\[\]{}*|`] | www\.[^\s<>"']*[^\s<>"'.,;:!?()\[\]{}*|`] )
  | (?P<mail> (?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+ )
  | (?P<tag> </?[A-Za-z][\w:.-]*(?:\s(?:"[^"]{0,999}"|'[^']{0,999}'|[^<>"']){0,999})?/?> )
  | (?P<code> `[^`\n]+` )
  | (?P<braces> \{\{[^{}\n]*\}\} | \{%[^{}\n]*%\} | \$\{[^{}\n]*\} | \$\([\w.]+\)
        | \{\s*[\w.-]+\s*,(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\} | [#@]?\{[$\w.:\#@!\[\]-]*\} )
  | (?P<printf> %\([\w.-]+\)[-+#0-9.]*[a-zA-Z]
        | %(?:\d+\$)?[-+\#0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|[qjzt])?[sdiuxXofFeEgGcpn@](?![\w%])
        | %L?\d{1,2}(?!\w) | %%(?=\w) | %[A-Za-z_]\w*% )
  | (?P<variable> \$[A-Za-z_]\w* | \$\d\b )
  | (?P<entity> &(?:\#\d+|\#[xX][0-9a-fA-F]+|[A-Za-z]\w*); )
  | (?P<accelerator> (?<![\w&~/])[&~](?=[^\W\d_]) | (?<=[^\W\d_])~(?=[^\W\d_]) )
  | (?P<option> (?<![\w-])--[a-z][\w-]*(?:=[^\s,;]+)? )
  | (?P<path> (?<![\w/<.])(?:~|[A-Za-z]:)?(?:[\\/][\w.+~$-]*\w)(?:[\\/][\w.+~$-]*\w)+[\\/]? )
  | (?P<call> (?<![\w.])[A-Za-z_][\w.]*+\(\) )
    """,
    re.VERBOSE,
)  # fmt: skip
_MAY_BE = re.compile(r"[:@<`{$%&~\\/(]|--|www\.")  # no text without one of these has anything to protect
_WORDS = {"url", "mail", "code", "braces", "printf", "variable", "option", "path", "call"}  # kinds that stand for words
_VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_LINE_ENDS = ("<br>", "<br/", "<br ")
_ACCELERATORS = ("&", "~")
_PUNCTUATION = ".,;:!?…)]}»”。、，；：！？）】"
_LINE_BREAK = re.compile(r"(?<![ \t])[ \t]*[\r\n]+[ \t]*")


def protected_spans(text: str) -> list[tuple[int, int]]:
    """Where placeholders, tags, URLs, e-mail addresses and code stand in a text, in order."""
    return [match.span() for match in _protected(text)]


def placeholder_spans(text: str) -> list[tuple[int, int]]:
    """Where placeholders, URLs, e-mail addresses and code stand in a text, in order; no tags."""
    return [match.span() for match in _protected(text) if match.lastgroup in _WORDS]


def _protected(text: str) -> Iterable[re.Match[str]]:
    return _PROTECTED.finditer(text) if _MAY_BE.search(text) else ()


def tag_kinds(tags: list[str]) -> list[Kind]:
    """What each tag of a text is: one of a pair, where the pair is there and nests, else alone."""
    kinds: list[Kind] = ["alone"] * len(tags)
    open_ones: list[tuple[str, int]] = []
    for number, tag in enumerate(tags):
        name = (re.match(r"</?([\w:.-]+)", tag) or ["", ""])[1].lower()
        if tag.startswith("</"):
            if open_ones and open_ones[-1][0] == name:
                kinds[open_ones.pop()[1]], kinds[number] = "open", "close"
        elif not tag.endswith("/>") and name not in _VOID:
            open_ones.append((name, number))
    return kinds


def protect(marked: Marked) -> Marked:
    """The same with placeholders as codes of their own."""
    found: list[str | Code] = []
    tags: list[int] = []
    for piece in marked:
        if isinstance(piece, Code):
            found.append(piece)
            continue
        begin = 0
        for match in _protected(piece):
            if match.start() > begin:
                found.append(piece[begin : match.start()])
            if match.lastgroup == "tag":
                tags.append(len(found))
            gap, word = match[0].startswith(_LINE_ENDS), match.lastgroup in _WORDS
            found.append(Code(match[0], gap=gap, word=word))
            begin = match.end()
        if begin < len(piece):
            found.append(piece[begin:])
    for number, kind in zip(tags, tag_kinds([_raw(found[number]) for number in tags])):
        found[number] = Code(raw := _raw(found[number]), kind, gap=raw.startswith(_LINE_ENDS))
    return tuple(found)


def readable(marked: Marked) -> Marked:
    """The same with codes that stand for words as text, which a model reads and places itself."""
    return joined_text(piece.raw if isinstance(piece, Code) and piece.word else piece for piece in marked)


def _raw(piece: str | Code) -> str:
    return piece if isinstance(piece, str) else piece.raw


def joined(pieces: Iterable[str | Code]) -> Marked:
    """The pieces with placeholders as text again, and text that stands together as one."""
    found: list[str | Code] = []
    for piece in pieces:
        text = piece if isinstance(piece, str) else None if piece.spans else piece.raw
        if text is None:
            found.append(piece)
        elif text and found and isinstance(found[-1], str):
            found[-1] += text
        elif text:
            found.append(text)
    return tuple(found)


def plain(marked: Marked) -> str:
    """The text alone, a space for a code that stands for one."""
    return "".join(piece if isinstance(piece, str) else " " * piece.gap for piece in marked)


def is_text(text: str) -> bool:
    """Whether there is something to translate: a letter."""
    return any(map(str.isalpha, text))


def cut(marked: Marked, lengths: Iterable[int]) -> Iterator[Marked]:
    """Pieces with so many characters of ``plain(marked)`` each; a code at a cut goes to the left where it closes."""
    pieces, at = list(marked), 0
    lengths = list(lengths)
    for number, length in enumerate(lengths):
        taken: list[str | Code] = []
        while at < len(pieces):
            piece = pieces[at]
            if isinstance(piece, Code):
                if length == 0 and taken and piece.kind != "close" and number + 1 < len(lengths):
                    break
                length -= piece.gap
                taken.append(piece)
            elif len(piece) > length:
                if length:
                    taken.append(piece[:length])
                    pieces[at] = piece[length:]
                break
            else:
                taken.append(piece)
                length -= len(piece)
            at += 1
        yield tuple(taken)


def _partners(marked: Marked) -> dict[int, int]:
    """The index of the other one of a pair, for each code that has one."""
    partners: dict[int, int] = {}
    open_ones: list[int] = []
    for number, piece in enumerate(marked):
        if isinstance(piece, Code) and piece.kind == "open":
            open_ones.append(number)
        elif isinstance(piece, Code) and piece.kind == "close" and open_ones:
            partners[number] = open_ones.pop()
            partners[partners[number]] = number
    return partners


def trimmed(marked: Marked) -> tuple[Marked, Marked, Marked]:
    """What stands before, in and after the text to translate: white space and codes stay outside, pairs as pairs only."""
    pieces = [piece for piece in marked if piece != ""]
    texts = [number for number, piece in enumerate(pieces) if isinstance(piece, str) and piece.strip()]
    if not texts:
        return tuple(pieces), (), ()
    first, last = texts[0], texts[-1] + 1
    partners = _partners(tuple(pieces))
    crossing = [
        number
        for number, other in partners.items()
        if (number < first) + (number >= last) == 1 and first <= other < last
    ]
    first, last = (
        min([first, *(n for n in crossing if n < first)]),
        max([last, *(n + 1 for n in crossing if n >= last)]),
    )
    head, core, tail = pieces[:first], pieces[first:last], pieces[last:]
    if isinstance(core[0], str) and (space := len(core[0]) - len(core[0].lstrip())):
        head, core[0] = [*head, core[0][:space]], core[0][space:]
    if isinstance(core[-1], str) and (space := len(core[-1]) - len(core[-1].rstrip())):
        tail, core[-1] = [core[-1][-space:], *tail], core[-1][:-space]
    return tuple(head), tuple(core), tuple(tail)


def without_codes(marked: Marked) -> tuple[str, list[int]]:
    """The text on one line as it reads without its codes, and where in it each code stood."""
    text, places = "", []
    for piece in marked:
        if isinstance(piece, Code):
            places.append(len(text))
            text += " " if piece.gap and text and not text[-1].isspace() else ""
            continue
        piece = _LINE_BREAK.sub(" ", piece)
        if places and text[-1:].isspace() and piece[:1] in _PUNCTUATION and text.rstrip()[-1:] not in _PUNCTUATION:
            text = text.rstrip()  # "Hello %s," reads "Hello,"
            places = [min(place, len(text)) for place in places]
        text += piece.lstrip() if places and (not text or text[-1].isspace()) else piece
    return text, places


def _neighbours(marked: Marked) -> Iterator[tuple[Code, str, str]]:
    """Each code with the character before it and the one behind it, a space where the segment ends."""
    before = " "
    for number, piece in enumerate(marked):
        if isinstance(piece, str):
            before = piece[-1:] or before
        else:
            yield piece, before, next((each[0] for each in marked[number + 1 :] if isinstance(each, str) and each), " ")


def with_codes(marked: Marked, text: str) -> Marked:
    """A translation of ``without_codes(marked)`` with the codes where they belong by their relative place.

    Each comes once, in the order of the source, so that pairs nest: at a word's beginning where one opens, at a word's end
    where one closes, with a word in between where there was text.
    """
    source, places = without_codes(marked)
    if not places or text == source:
        return marked if text == source else (text,)
    words = [match.span() for match in re.finditer(r"\S+", text)] or [(0, len(text))]
    if len(words) * 20 < len(text):  # a script without spaces
        words = [(at, at + 1) for at in range(len(text)) if not text[at].isspace()]
    starts, ends = [start for start, _ in words], [end for _, end in words]
    bare_ends = [start + len(text[start:end].rstrip(_PUNCTUATION)) for start, end in words]
    found: list[str | Code] = []
    begin, least, opened = 0, 0, list[tuple[int, int]]()
    for place, (code, before, after) in zip(places, _neighbours(marked)):
        stuck = code.kind == "alone" and before.isspace() and not after.isspace() and after not in _PUNCTUATION
        before_word = code.kind == "open" or code.raw in _ACCELERATORS or stuck
        free = code.kind == "alone" and not code.gap and before.isspace() and after.isspace()
        unpunctuated = after in _PUNCTUATION or (code.kind == "close" and before not in _PUNCTUATION)
        choices = starts if before_word or free else bare_ends if unpunctuated else ends
        if free:
            choices = [*starts, len(text)]
        if code.gap and code.spans:  # white space of the document, which stands between words or not at all
            choices = [each for each in ends[:-1] if each >= least]
            if not choices:
                continue
        open_at, open_place = opened.pop() if code.kind == "close" and opened else (-1, place)
        least = max(least, open_at + 1) if open_place < place else least
        wanted = place * len(text) / max(len(source), 1)
        at = min((each for each in choices if each >= least), key=lambda each: abs(each - wanted), default=len(text))
        if code.kind == "open":
            opened.append((at, place))
        found += [text[begin:at]]
        begin = least = at
        if code.gap:
            begin = least = at + len(text[at:]) - len(text[at:].lstrip())
            found += [code]
        elif free and at < len(text):
            found += [code, " "]
        elif code.kind == "alone" and before.isspace() and at and not before_word and not text[at - 1].isspace():
            found += [" ", code]
        else:
            found += [code]
    return joined_text([*found, text[begin:]])


def joined_text(pieces: Iterable[str | Code]) -> Marked:
    """The pieces with text that stands together as one; codes stay codes."""
    found: list[str | Code] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return tuple(found)
