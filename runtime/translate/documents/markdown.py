"""Markdown: blocks are found by markdown-it-py, their text by its lines, and the marks within by a scanner with positions.

Code, HTML blocks, front matter, link targets and reference definitions stay as they are. A paragraph over several lines is
one unit; the prefix of its lines (``> ``, indentation) belongs to the line break.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.text.lines import one_line
from runtime.text.markup import Code, Marked, protected_spans, tag_kinds
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit, decode_document, span_code

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\r?\n.*?(?:^|\n)\1[ \t]*(?:\r?\n|$)", re.DOTALL)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_MARK = re.compile(
    r"""(?P<code>(?<!`)(?P<ticks>`+)(?!`)(?:.+?)(?<!`)(?P=ticks)(?!`))
      | (?P<escape>\\[!-/:-@\[-`{-~])
      | (?P<note>\[\^[^\]\s]+\]:?)
      | (?P<auto><[A-Za-z][\w+.-]*:[^\s<>]*> | <[\w.+-]+@[\w.-]+>)
      | (?P<comment><!--.{0,9999}?-->)
      | (?P<tag></?[A-Za-z][\w-]*(?:\s(?:"[^"]{0,999}"|'[^']{0,999}'|[^<>"']){0,999})?/?>)
      | (?P<math>\$\$.{1,9999}?\$\$)
      | (?P<task>^\[[ xX]\]\s)
      | (?P<image>!\[) | (?P<link>\[)
      | (?P<end>\](?:\((?:<[^<>\n]*>|(?:[^()\s\\]|\\.|\((?:[^()\s\\]|\\.){0,999}\)){0,999})
            (?:\s+(?:"(?:[^"\\]|\\.){0,999}"|'(?:[^'\\]|\\.){0,999}'|\((?:[^()\\]|\\.){0,999}\)))?\s*\)|\[[^\[\]]{0,999}\])?)
      | (?P<run>\*+|_+|~~)
    """,
    re.VERBOSE | re.DOTALL,
)
_STARTS_BLOCK = re.compile(r"(?:#{1,6}(?=\s)|[-+*](?=\s)|>|\d{1,9}(?=[.)]\s)|```|~~~|={3,}|-{3,})")
_ESCAPED = "\\`*_[]<|~"


def _is_word(character: str) -> bool:
    return character.isalnum()


def _delimiters(text: str, runs: list[re.Match[str]]) -> dict[int, str]:
    """Where runs of ``*``, ``_`` and ``~~`` open and close emphasis, by CommonMark's rule of flanks and a stack."""
    kinds: dict[int, str] = {}
    waiting: list[tuple[str, int]] = []
    for run in runs:
        before, after = text[run.start() - 1 : run.start()] or " ", text[run.end() : run.end() + 1] or " "
        right = not before.isspace() and (_is_word(before) or after.isspace() or not _is_word(after))
        left = not after.isspace() and (_is_word(after) or before.isspace() or not _is_word(before))
        if run[0][0] == "_":
            left, right = left and not (right and _is_word(before)), right and not (left and _is_word(after))
        at = next((at for at in reversed(range(len(waiting))) if waiting[at][0] == run[0]), None)
        if right and at is not None:
            kinds[waiting[at][1]], kinds[run.start()] = "open", "close"
            del waiting[at:]
        elif left:
            waiting.append((run[0], run.start()))
    return kinds


def _brackets(text: str, marks: list[re.Match[str]]) -> dict[int, str]:
    """Where brackets open and close a link or an image with a target."""
    kinds: dict[int, str] = {}
    waiting: list[int] = []
    for mark in marks:
        if mark["image"] or mark["link"]:
            waiting.append(mark.start())
        elif mark["end"] and waiting:
            opened = waiting.pop()
            if len(mark["end"]) > 1:
                kinds[opened], kinds[mark.start()] = "open", "close"
    return kinds


def _inline(text: str, parts: list[tuple[int, int]], breaks: list[Code]) -> Marked:
    """The marked text of a unit.

    Args:
        parts: the ranges of its lines.
        breaks: what stands between them.
    """
    flat = "\n".join(text[start:end] for start, end in parts)
    origin = [at for start, end in parts for at in range(start, end + 1)]  # of each character of ``flat``
    marks = []
    urls, at = protected_spans(flat), 0
    while match := _MARK.search(flat, at):
        inside = next((span for span in urls if span[0] < match.start() < span[1] and match["run"]), None)
        at = inside[1] if inside else match.end()  # no emphasis within a URL or a placeholder
        if not inside:
            marks.append(match)
    tags = [mark for mark in marks if mark["tag"]]
    kinds = _brackets(flat, marks) | _delimiters(flat, [mark for mark in marks if mark["run"]])
    kinds |= {mark.start(): kind for mark, kind in zip(tags, tag_kinds([mark[0] for mark in tags]))}
    pieces: list[str | Code] = []
    begin = 0

    def add_text(stop: int) -> None:
        for number, line in enumerate(flat[begin:stop].split("\n")):
            if number:
                pieces.append(breaks[flat.count("\n", 0, begin) + number - 1])
            if line:
                pieces.append(line)

    for mark in marks:
        stays = mark["run"] or mark["link"] or mark["image"] or mark["end"]
        if stays and mark.start() not in kinds:
            continue
        add_text(mark.start())
        start, end = origin[mark.start()], origin[mark.end() - 1] + 1
        pieces.append(span_code(text, start, end, kinds.get(mark.start(), "alone")))
        begin = mark.end()
    add_text(len(flat))
    return tuple(pieces)


class _Escapes:
    """What a translation may not begin or hold in Markdown, since its source did not: it is escaped."""

    def __init__(self, source: str, in_table: bool) -> None:
        self._new = {c: "\\" + c for c in _ESCAPED if c not in source and (c != "|" or in_table)}
        self._is_block = bool(_STARTS_BLOCK.match(source))

    def encode(self, text: str) -> str:
        return one_line(text).translate(str.maketrans(self._new))

    def finish(self, text: str) -> str:
        if self._is_block or not (match := _STARTS_BLOCK.match(text)):
            return text
        return f"{match[0]}\\{text[match.end() :]}" if match[0].isdigit() else "\\" + text


def _cells(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The ranges of a table row's cells, by the bars that no backslash escapes."""
    bars = [start - 1, *(start + match.start() for match in re.finditer(r"(?<!\\)\|", text[start:end])), end]
    cells = [(left + 1, right) for left, right in zip(bars, bars[1:])]
    trimmed = [
        (left + len(text[left:right]) - len(text[left:right].lstrip()), left + len(text[left:right].rstrip()))
        for left, right in cells
    ]
    if text[start:end].lstrip().startswith("|"):
        trimmed = trimmed[1:]
    return trimmed


class _Reader:
    def __init__(self, text: str, begin: int) -> None:
        self._text = text
        self._lines = [match.span() for match in _LINE.finditer(text, begin) if match[0]]

    def _line(self, number: int) -> tuple[int, int]:
        start, end = self._lines[number]
        return start, start + len(self._text[start:end].rstrip("\r\n"))

    def _paragraph(self, token: "Token", heading: bool) -> Iterator[Unit]:
        """Units of a paragraph or heading; a hard line break ends one."""
        assert token.map
        lines = token.content.split("\n")
        parts: list[tuple[int, int]] = []
        for number, content in enumerate(lines, token.map[0]):
            start, end = self._line(number)
            content = content.strip()
            raw = self._text[start:end]
            at = raw.find(content, len(raw) - len(raw.lstrip(" \t>#"))) if heading else raw.rfind(content)
            if at < 0 or not content:
                return  # written in a way that hides where it is: it stays as it is
            parts.append((start + at, start + at + len(content)))
        hard = [number for number, (_, end) in enumerate(parts[:-1]) if self._is_hard(end, parts[number + 1][0])]
        begin = 0
        for last in [*hard, len(parts) - 1]:
            some = parts[begin : last + 1]
            if last in hard and self._text[some[-1][1] - 1] == "\\":
                some[-1] = (some[-1][0], some[-1][1] - 1)
            breaks = [span_code(self._text, a[1], b[0], gap=True) for a, b in zip(some, some[1:])]
            yield self._unit(some, breaks)
            begin = last + 1

    def _is_hard(self, end: int, following: int) -> bool:
        between = self._text[end:following]
        return self._text[end - 1] == "\\" or len(between) - len(between.lstrip(" ")) >= 2

    def _unit(self, parts: list[tuple[int, int]], breaks: list[Code], in_table: bool = False) -> Unit:
        start, end = parts[0][0], parts[-1][1]
        after = _Escapes(self._text[start:end], in_table)
        return Unit(_inline(self._text, parts, breaks), start, end, after.encode, after.finish)

    def units(self, tokens: list["Token"]) -> Iterator[Unit]:
        cells: list[tuple[int, int]] = []
        for number, token in enumerate(tokens):
            if token.type == "tr_open" and token.map:
                cells = _cells(self._text, *self._line(token.map[0]))
            if token.type != "inline" or not token.map:
                continue
            kind = tokens[number - 1].type
            if kind in ("th_open", "td_open"):
                if cells and (cell := cells.pop(0))[0] < cell[1]:
                    yield self._unit([cell], [], True)
            elif not token.content.startswith(("$$", ":::", "{%", "\\[")):
                yield from self._paragraph(token, kind == "heading_open" and "\n" not in token.content)


def read_markdown(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A Markdown file: CommonMark, with tables, strikethrough, footnotes and front matter.

    Raises:
        RequestError: it is no text.
    """
    from markdown_it import MarkdownIt

    text, codec = decode_document(data, name)
    front = _FRONT.match(text)
    begin = front.end() if front else 0
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(["inline", "entity"], True)
    return TextDocument(name, text, codec, list(_Reader(text, begin).units(parser.parse(text[begin:]))))
