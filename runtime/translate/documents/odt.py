"""OpenDocument text: paragraphs and headings are units, spans are codes; notes and text boxes in them are units too.

Fields that LibreOffice computes, tracked deletions and authors stay.
"""

import html
from collections.abc import Sequence

from runtime.text.markup import Code, joined_text
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, Unit, span_code, to_change
from runtime.translate.documents.xml import Token, attributes, escape, matching_ends

_PARAGRAPHS = {"text:p", "text:h"}
_AROUND_TEXT = {"text:span", "text:a", "text:meta", "text:ruby", "text:ruby-base"}
_BREAKS = {"text:line-break", "text:tab"}
_KEPT = {"text:tracked-changes", "office:scripts", "script:event-listener"}
_TEXTS = {"svg:title", "svg:desc"}  # alternative texts of pictures


class _Reader:
    """Goes through the tokens once; ``units`` is what it found."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self._text, self._tokens, self._ends = text, tokens, matching_ends(tokens)
        self.units: list[Unit] = []
        self._blocks(0, len(tokens))

    def _blocks(self, at: int, end: int) -> None:
        """Take up the paragraphs in a range of tokens that is no text itself."""
        while at < end:
            token, last = self._tokens[at], self._ends[at]
            if token.kind == "open" and token.name in _PARAGRAPHS:
                self._paragraph(at + 1, last)
                at = last
            elif token.kind == "open" and token.name in _TEXTS:
                self._flush(
                    [html.unescape(self._text[token.end : self._tokens[last].start])],
                    [(token.end, self._tokens[last].start)],
                )
                at = last
            elif token.kind == "open" and token.name in _KEPT:
                at = last
            at += 1

    def _paragraph(self, at: int, end: int) -> None:
        pieces: list[str | Code] = []
        ranges: list[tuple[int, int]] = []
        while at < end:
            token, last = self._tokens[at], self._ends[at]
            start, stop = token.start, token.end
            if token.kind == "text":
                pieces.append(html.unescape(self._text[start:stop]))
            elif token.name in _BREAKS:
                self._flush(pieces, ranges)
                pieces, ranges, at = [], [], last + 1
                continue
            elif token.name in _AROUND_TEXT:
                kind = {"open": "open", "close": "close"}.get(token.kind, "alone")
                pieces.append(span_code(self._text, start, stop, kind))
            else:  # a field, a note, a picture: a code as a whole
                stop = self._tokens[last].end
                pieces.append(span_code(self._text, start, stop))
                self._blocks(at + 1, last)
                at = last
            ranges.append((start, stop))
            at += 1
        self._flush(pieces, ranges)

    def _flush(self, pieces: list[str | Code], ranges: list[tuple[int, int]]) -> None:
        if pieces:
            self.units.append(Unit(joined_text(pieces), ranges[0][0], ranges[-1][1], escape))


def odt_units(text: str, tokens: Sequence[Token]) -> list[Unit]:
    """The units of content.xml or styles.xml."""
    return _Reader(text, tokens).units


def odt_edits(text: str, tokens: Sequence[Token], pair: Pair) -> list[Edit]:
    """The target's code where a style says that text is in the source's language; its country is none then."""
    edits: list[Edit] = []
    for token in tokens:
        if token.kind not in ("open", "empty") or token.name != "style:text-properties":
            continue
        places = {name: (start, end) for name, start, end in attributes(text, token)}
        language, country = places.get("fo:language"), places.get("fo:country")
        if language and to_change(text[slice(*language)], pair):
            code, _, region = pair.target.partition("-")
            edits.append((*language, code))
            if country:
                edits.append((*country, region if len(region) == 2 else "none"))
    return edits
