"""Parts of .docx and .pptx: a paragraph is a unit whatever runs it is cut into, and formatting is codes in it.

Field codes, results that Word computes, deleted and moved text stay; text boxes within a paragraph are units of their own.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.text.markup import Code, joined_text
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, Unit, span_code, to_change
from runtime.translate.documents.xml import Token, attribute, attributes, escape, escape_value, matching_ends

_BREAKS = {"br", "cr", "tab", "ptab"}
_SILENT = {"proofErr", "lastRenderedPageBreak", "t"}  # between runs; they divide no text
_HIDDEN = {"del", "moveFrom", "instrText", "delText", "rt", "fld"}  # a:fld: a slide's number or date
_TEXT_FIELDS = {"HYPERLINK", "TOC", "INDEX", "QUOTE"}  # whose results somebody wrote
_NO_FORMAT = re.compile(r"<w:(?:lang|noProof)\b[^>]*/>|\s(?:lang|dirty|err|noProof)=\"[^\"]*\"|\s+|</?\w:rPr/?>")
_UNKEPT = re.compile(r"<w:t((?:\s(?!xml:space)[^>]*)?)>(?=\s|[^<]*\s<)")


def _keep_space(text: str) -> str:
    """The same where Word keeps white space at the ends of what it shows."""
    return _UNKEPT.sub(r'<w:t xml:space="preserve"\1>', text)


@dataclass
class _Piece:
    """A ``t`` element with its text, and the state that it is shown in: format and what it is within."""

    start: int
    text_start: int
    text_end: int
    end: int
    state: tuple[object, ...]
    divided: bool  # from the piece before it, by more than the end of a run


@dataclass
class _Paragraph:
    within: list[int] = field(default_factory=list)  # indices of elements that are open around the run
    in_run: bool = False
    format: str = ""
    divided: bool = False
    pieces: list[_Piece] = field(default_factory=list)


def _unit(text: str, pieces: list[_Piece]) -> Unit:
    """The unit of the pieces between two breaks."""
    marked: list[str | Code] = [span_code(text, pieces[0].start, pieces[0].text_start)]
    states = [pieces[0].state]
    glue: list[tuple[int, int]] = []
    for number, piece in enumerate(pieces):
        if number:
            glue.append((pieces[number - 1].text_end, piece.text_start))
            if piece.state != states[-1] or piece.divided:
                kind = "alone"
                if len(states) > 1 and piece.state == states[-2]:
                    kind = "close"
                    states.pop()
                elif piece.state != states[-1]:
                    kind = "open"
                    states.append(piece.state)
                raw = "".join(text[start:end] for start, end in glue)
                marked.append(Code(raw, kind, tuple(glue)))
                glue = []
        marked.append(html.unescape(text[piece.text_start : piece.text_end]))
    tail = [*glue, (pieces[-1].text_end, pieces[-1].end)]
    marked.append(Code("".join(text[start:end] for start, end in tail), "alone", tuple(tail)))
    return Unit(joined_text(marked), pieces[0].start, pieces[-1].end, escape, _keep_space)


class _Fields:
    """Which complex fields are open: their codes, and results that are computed, are no text."""

    def __init__(self) -> None:
        self._open: list[list[str]] = []  # [code, state]

    @property
    def hide(self) -> bool:
        return any(
            state == "code" or code.split()[:1] not in [[each] for each in _TEXT_FIELDS] for code, state in self._open
        )

    def character(self, kind: str | None) -> None:
        if kind == "begin":
            self._open.append(["", "code"])
        elif kind == "separate" and self._open:
            self._open[-1][1] = "result"
        elif kind == "end" and self._open:
            self._open.pop()

    def code(self, text: str) -> None:
        if self._open and self._open[-1][1] == "code":
            self._open[-1][0] += text

    def simple(self, code: str) -> None:
        self._open.append([code, "result"])


def part_edits(text: str, tokens: Sequence[Token], pair: Pair) -> list[Edit]:
    """The target's code where a part says that text is in the source's language."""
    return [
        (start, end, pair.target)
        for token in tokens
        if token.kind in ("open", "empty") and token.local in ("lang", "rPr", "endParaRPr", "defRPr", "themeFontLang")
        for name, start, end in attributes(text, token)
        if name == ("lang" if token.name.startswith("a:") else "w:val") and to_change(text[start:end], pair)
    ]


class _PartReader:
    """Goes through a part's tokens once; ``units`` is what it found."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self._text, self._tokens, self._ends = text, tokens, matching_ends(tokens)
        self._paragraphs: list[_Paragraph] = []
        self._hidden: list[int] = []  # indices of the closing tags of what is hidden
        self._simple: list[int] = []  # and of simple fields
        self._fields = _Fields()
        self.units: list[Unit] = []
        number = 0
        while number < len(tokens):
            number = self._take(number) + 1

    def _take(self, number: int) -> int:
        """Take up a token; the index of the last one that was taken."""
        token, local = self._tokens[number], self._tokens[number].local
        if token.kind == "text":
            return number
        starts = token.kind in ("open", "empty")
        if local in ("docPr", "cNvPr") and starts:
            for name, start, end in attributes(self._text, token):
                if name in ("descr", "title"):
                    self.units.append(Unit((html.unescape(self._text[start:end]),), start, end, escape_value))
        if local == "p":
            self._paragraph(token)
            return number
        self._field(number, token, local, starts)
        if token.kind == "open" and local in _HIDDEN:
            self._hidden.append(self._ends[number])
        elif self._hidden and number == self._hidden[-1]:
            self._hidden.pop()
        return self._within(number, token, local, starts, self._paragraphs[-1]) if self._paragraphs else number

    def _paragraph(self, token: Token) -> None:
        if token.kind == "open":
            self._paragraphs.append(_Paragraph())
        elif token.kind == "close" and self._paragraphs:
            self._flush(self._paragraphs.pop())

    def _flush(self, paragraph: _Paragraph) -> None:
        if paragraph.pieces:
            self.units.append(_unit(self._text, paragraph.pieces))
            paragraph.pieces = []

    def _field(self, number: int, token: Token, local: str, starts: bool) -> None:
        if local == "fldChar" and starts:
            self._fields.character(attribute(self._text, token, "w:fldCharType"))
        elif local == "fldSimple" and token.kind == "open":
            self._fields.simple(attribute(self._text, token, "w:instr") or "")
            self._simple.append(self._ends[number])
        elif local == "instrText" and token.kind == "open":
            self._fields.code(self._text[token.end : self._tokens[self._ends[number]].start])
        elif self._simple and number == self._simple[-1]:
            self._fields.character("end")
            self._simple.pop()

    def _within(self, number: int, token: Token, local: str, starts: bool, paragraph: _Paragraph) -> int:
        last, hide = self._ends[number], bool(self._hidden) or self._fields.hide
        if local == "pPr" and starts:  # its tabs are no text
            return last
        if local == "rPr" and starts:
            paragraph.format = _NO_FORMAT.sub("", self._text[token.start : self._tokens[last].end])
            return last
        if local == "r":
            paragraph.in_run, paragraph.format = token.kind == "open", ""
        elif local == "t" and token.kind == "open" and not hide:
            end = self._tokens[last]
            state = (paragraph.format, *paragraph.within)
            paragraph.pieces.append(_Piece(token.start, token.end, end.start, end.end, state, paragraph.divided))
            paragraph.divided = False
            return last
        elif local in _BREAKS and starts and not hide:
            self._flush(paragraph)
        elif token.kind == "open" and not paragraph.in_run:
            paragraph.within.append(number)
        elif token.kind == "close" and paragraph.within and self._ends[paragraph.within[-1]] == number:
            paragraph.within.pop()
        elif local not in _SILENT:
            paragraph.divided = True
        return number


def part_units(text: str, tokens: Sequence[Token]) -> list[Unit]:
    """The units of a part: paragraphs of WordprocessingML and DrawingML, and alternative texts of pictures."""
    return _PartReader(text, tokens).units
