"""What all document formats share: units of text with their ranges, and splicing.

A format finds ranges and never rebuilds: what is outside of the ranges of translated units comes out byte for byte.
"""

import codecs
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.errors import RequestError
from runtime.text.languages import base_language
from runtime.text.lines import decode
from runtime.text.markup import Code, Marked, is_text, plain
from runtime.text.pairs import Pair

Edit = tuple[int, int, str]  # a range of a document's text and what takes its place, a language's code for instance
_CODECS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}


def as_is(text: str) -> str:
    """The text itself."""
    return text


@dataclass(frozen=True)
class Unit:
    """A text of a document that is translated as a whole: a paragraph, a heading, a message.

    Attributes:
        marked: its text, decoded, with codes whose ``spans`` are ranges of the document.
        start, end: the range that its translation replaces.
        encode: how text is written in the document.
        finish: what else is done to the whole replacement.
        fills: the range is another than the source's, as ``msgstr`` is, and is written even where nothing was translated.
    """

    marked: Marked
    start: int
    end: int
    encode: Callable[[str], str] = as_is
    finish: Callable[[str], str] = as_is
    fills: bool = False


@dataclass(frozen=True)
class Codec:
    """How a document's text becomes bytes: its mark, its encoding, and what is done with characters that it lacks."""

    prefix: bytes = b""
    name: str = "utf-8"
    errors: str = "strict"

    def encode(self, text: str) -> bytes:
        return self.prefix + text.encode(self.name, self.errors)


def decode_document(data: bytes, name: str, declared: str | None = None, errors: str = "strict") -> tuple[str, Codec]:
    """A document's text and how to write it.

    Args:
        name: of the file, for sentences.
        declared: its encoding by its own words; a byte order mark says more.
        errors: for characters of a translation that the encoding lacks, as of ``str.encode``.

    Raises:
        RequestError: it is in another encoding, or in one that does not give the same bytes again.
    """
    marked = next((found for mark, found in _CODECS.items() if data.startswith(mark)), None)
    try:
        used = codecs.lookup(marked or declared or "utf-8").name
    except LookupError:
        raise RequestError(f"{name} says that it is in {declared}, an encoding that is not known.") from None
    text = decode(data, name, None if marked or used == "utf-8" else used)
    written = text.encode(used, "surrogatepass") if used.startswith("utf") else text.encode(used)
    if not data.endswith(written):
        raise RequestError(f"{name} cannot be kept as it is in {used}.", next_command="convert it to UTF-8")
    return text, Codec(data[: len(data) - len(written)], used, errors)


class Document(Protocol):
    """An opened document."""

    @property
    def units(self) -> Sequence[Unit]: ...

    def render(self, translations: Sequence[Marked]) -> bytes:
        """The document with a translation for each of its units, in their order.

        Raises:
            RequestError: its encoding lacks a character.
        """
        ...


@dataclass
class TextDocument:
    """A document that is one text, or a part of a packed one."""

    name: str
    text: str
    codec: Codec
    units: Sequence[Unit]
    edits: Sequence[Edit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.units = [unit for unit in self.units if unit.fills or is_text(plain(unit.marked))]

    def render(self, translations: Sequence[Marked]) -> bytes:
        changes: list[tuple[int, int, Marked, Unit | None]] = [
            (start, end, (text,), None) for start, end, text in self.edits
        ]
        changes += [
            (unit.start, unit.end, translated, unit)
            for unit, translated in zip(self.units, translations, strict=True)
            if unit.fills or translated != unit.marked
        ]
        changes.sort(key=lambda change: (change[0], -change[1]))
        starts = [change[0] for change in changes]

        def spliced(begin: int, end: int) -> str:
            """The document's text from ``begin`` to ``end`` with all changes in it."""
            parts = []
            for start, stop, new, unit in changes[bisect_left(starts, begin) :]:
                if start >= end:
                    break
                if start < begin or stop > end:  # within one that was done already, or around all this
                    continue
                parts += [self.text[begin:start], plain(new) if unit is None else unit.finish(written(unit, new))]
                begin = stop
            return "".join(parts) + self.text[begin:end]

        def written(unit: Unit, marked: Marked) -> str:
            return "".join(
                unit.encode(piece) if isinstance(piece, str) else "".join(spliced(*span) for span in piece.spans)
                for piece in marked
            )

        whole = spliced(0, len(self.text) + 1)
        try:
            return self.codec.encode(whole)
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{self.name} is in {self.codec.name}, which lacks {whole[error.start]!r}: its translation cannot be written.",
                next_command=f"iconv -f {self.codec.name} -t UTF-8 FILE > NEW   (and its own word for its encoding)",
            ) from None


def to_change(code: str, pair: Pair) -> bool:
    """Whether a document's language code is the source's and has to become the target's."""
    return base_language(code.strip().lower()) == base_language(pair.source) != base_language(pair.target)


def span_code(text: str, start: int, end: int, kind: str = "alone", gap: bool = False) -> Code:
    """The code that stands in a range of a document."""
    return Code(text[start:end], kind, ((start, end),), gap)  # type: ignore[arg-type]
