"""SubRip (.srt) and WebVTT (.vtt): the text of each cue is a unit, and its line breaks stand between words again.

Numbers, times, settings, styles, regions and notes stay. In a dialogue, each line is a unit.
"""

import html
import re
from collections.abc import Callable, Iterator

from runtime.errors import RequestError
from runtime.text.lines import one_line
from runtime.text.markup import Code, tag_kinds
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit, decode_document, span_code
from runtime.translate.documents.xml import escape

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_TIMES = re.compile(r"[ \t]*(?:\d+:)?\d+:\d+[.,]\d+[ \t]+-->[ \t]+(?:\d+:)?\d+:\d+[.,]\d+")
_TAG = re.compile(r"</?[^<>\s][^<>]*>|\{\\[^{}]*\}")
_DIALOGUE = re.compile(r"(?:<[^<>]*>)*[ \t]*[-‐–—]")


def _pieces(text: str, start: int, end: int, decode: Callable[[str], str]) -> Iterator[str | Code]:
    """The text and tags of a range within a line."""
    tags = list(_TAG.finditer(text, start, end))
    kinds = tag_kinds([re.sub(r"^(</?\w+)[^>]*", r"\1", tag[0]) for tag in tags])
    begin = start
    for tag, kind in zip(tags, kinds):
        if tag.start() > begin:
            yield decode(text[begin : tag.start()])
        yield span_code(text, *tag.span(), kind)
        begin = tag.end()
    if begin < end:
        yield decode(text[begin:end])


def _unit(text: str, lines: list[tuple[int, int]], is_vtt: bool) -> Unit:
    pieces: list[str | Code] = []
    for number, (start, end) in enumerate(lines):
        if number:
            pieces.append(span_code(text, lines[number - 1][1], start, gap=True))
        pieces += _pieces(text, start, end, html.unescape if is_vtt else str)
    kinds = iter(
        tag_kinds([re.sub(r"^(</?\w+)[^>]*", r"\1", p.raw) for p in pieces if isinstance(p, Code) and not p.gap])
    )
    marked = tuple(
        Code(piece.raw, next(kinds), piece.spans) if isinstance(piece, Code) and not piece.gap else piece
        for piece in pieces
    )
    return Unit(marked, lines[0][0], lines[-1][1], escape if is_vtt else one_line)


def _blocks(text: str) -> Iterator[list[tuple[int, int]]]:
    """The ranges of lines that stand together, without their ends."""
    lines: list[tuple[int, int]] = []
    for match in _LINE.finditer(text):
        line = match[0].rstrip("\r\n")
        if line.strip():
            lines.append((match.start(), match.start() + len(line)))
        elif lines:
            yield lines
            lines = []


def _units(text: str, is_vtt: bool) -> Iterator[Unit]:
    for lines in _blocks(text):
        at = next((number for number, (start, end) in enumerate(lines[:2]) if _TIMES.match(text, start, end)), None)
        if at is None or (is_vtt and text.startswith(("NOTE", "STYLE", "REGION"), lines[0][0])):
            continue
        spoken = lines[at + 1 :]
        if len(spoken) > 1 and any(_DIALOGUE.match(text, *line) for line in spoken):
            for line in spoken:
                yield _unit(text, [line], is_vtt)
        elif spoken:
            yield _unit(text, spoken, is_vtt)


def read_srt(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A SubRip file.

    Raises:
        RequestError: it is no text, or has no subtitles.
    """
    text, codec = decode_document(data, name)
    if text.strip() and not re.search(rf"^{_TIMES.pattern}", text, re.MULTILINE):
        raise RequestError(f"{name} holds no subtitles.")
    return TextDocument(name, text, codec, list(_units(text, False)))


def read_vtt(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A WebVTT file.

    Raises:
        RequestError: it is no text, or does not begin as such a file.
    """
    text, codec = decode_document(data, name)
    if not re.match(r"WEBVTT(?:[ \t\r\n]|$)", text):
        raise RequestError(f"{name} is damaged: it does not begin with WEBVTT.")
    return TextDocument(name, text, codec, list(_units(text, True)))
