"""Fluent (.ftl): the text of messages, terms, attributes and variants; placeables are codes in it."""

import re
from collections.abc import Iterator

from fluent.syntax import FluentParser, ast

from runtime.errors import RequestError
from runtime.text.markup import Code
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit, decode_document, span_code

_INDENTATION = re.compile(r"(?<!\s)\s*\n\s*")
_STARTS = re.compile(r"^[\[*.}]")  # what may not begin a line that goes on with a value


def _write(text: str) -> str:
    """Braces as the placeables that they have to be."""
    return _INDENTATION.sub(" ", re.sub(r"[{}]", r'{"\g<0>"}', text))


def _finish(text: str) -> str:
    return f'{{"{text[0]}"}}{text[1:]}' if _STARTS.match(text) else text


class _Reader:
    def __init__(self, text: str, resource: ast.Resource) -> None:
        self._text = text
        self.units: list[Unit] = []
        for entry in resource.body:
            if isinstance(entry, (ast.Message, ast.Term)):
                for pattern in (entry.value, *(each.value for each in entry.attributes)):
                    if pattern is not None:
                        self._pattern(pattern)

    def _pattern(self, pattern: ast.Pattern) -> None:
        pieces: list[str | Code] = []
        ranges: list[tuple[int, int]] = []
        for element in pattern.elements:
            assert element.span
            start, end = element.span.start, element.span.end
            ranges.append((start, end))
            if isinstance(element, ast.TextElement):
                pieces += self._lines(start, end)
            else:
                pieces.append(span_code(self._text, start, end))
                self._variants(element)
        if pieces:
            start, end = ranges[0][0], ranges[-1][1]
            end -= len(self._text[start:end]) - len(self._text[start:end].rstrip())
            self.units.append(Unit(_trimmed(pieces), start, end, _write, _finish))

    def _lines(self, start: int, end: int) -> Iterator[str | Code]:
        """A line of a value is a line of the message; its indentation belongs to the break before it."""
        begin = start
        for match in _INDENTATION.finditer(self._text, start, end):
            if match.end() < end or match.start() > begin:
                if match.start() > begin:
                    yield self._text[begin : match.start()]
                yield span_code(
                    self._text, *match.span(), "break" if "\n" in match[0].strip(" \t\r")[1:] else "alone", True
                )
            begin = match.end()
        if begin < end:
            yield self._text[begin:end]

    def _variants(self, placeable: ast.Placeable) -> None:
        expression = placeable.expression
        if isinstance(expression, ast.SelectExpression):
            for variant in expression.variants:
                self._pattern(variant.value)
        elif isinstance(expression, ast.Placeable):
            self._variants(expression)


def _trimmed(pieces: list[str | Code]) -> tuple[str | Code, ...]:
    if isinstance(pieces[-1], str):
        pieces = [*pieces[:-1], pieces[-1].rstrip()]
    while pieces and isinstance(pieces[-1], Code) and pieces[-1].gap:
        pieces.pop()
    return tuple(pieces)


def read_ftl(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A Fluent file.

    Raises:
        RequestError: it has an entry that is damaged.
    """
    text, codec = decode_document(data, name)
    resource = FluentParser(with_spans=True).parse(text)
    junk = next((entry for entry in resource.body if isinstance(entry, ast.Junk)), None)
    if junk is not None:
        line = text.count("\n", 0, junk.span.start if junk.span else 0) + 1
        raise RequestError(f"{name} is damaged in line {line}.")
    return TextDocument(name, text, codec, _Reader(text, resource).units)
