"""The parts of .docx, .pptx, .odt and .epub files that have text."""

import html
import re

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit, to_change
from runtime.translate.documents.html import read_xhtml
from runtime.translate.documents.odt import odt_edits, odt_units
from runtime.translate.documents.ooxml import part_edits, part_units
from runtime.translate.documents.packed import PackedDocument, packed_document
from runtime.translate.documents.xml import escape, xml_text, xml_tokens


def _part(data: bytes, name: str, pair: Pair) -> TextDocument:
    text, codec = xml_text(data, name)
    tokens = xml_tokens(text)
    return TextDocument(name, text, codec, part_units(text, tokens), part_edits(text, tokens, pair))


def _languages(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A part that only says which language text is in."""
    text, codec = xml_text(data, name)
    return TextDocument(name, text, codec, [], part_edits(text, xml_tokens(text), pair))


def read_docx(data: bytes, name: str, pair: Pair) -> PackedDocument:
    """A Word document: its text, headers, footers, notes, comments, text boxes and charts.

    Raises:
        RequestError: it is damaged.
    """
    drawn = r"word/(?:charts/chart|diagrams/(?:data|drawing))\d*\.xml"
    texts = r"word/(?:document\d*|header\d*|footer\d*|footnotes|endnotes|comments)\.xml"
    return packed_document(data, name, pair, {texts: _part, drawn: _part, r"word/(?:styles|settings)\.xml": _languages})


def read_pptx(data: bytes, name: str, pair: Pair) -> PackedDocument:
    """A presentation: its slides, their notes, charts and diagrams.

    Raises:
        RequestError: it is damaged.
    """
    parts = r"ppt/(?:slides/slide|notesSlides/notesSlide|charts/chart|diagrams/(?:data|drawing))\d*\.xml"
    return packed_document(data, name, pair, {parts: _part})


def _odt_part(data: bytes, name: str, pair: Pair) -> TextDocument:
    text, codec = xml_text(data, name)
    tokens = xml_tokens(text)
    return TextDocument(name, text, codec, odt_units(text, tokens), odt_edits(text, tokens, pair))


def read_odt(data: bytes, name: str, pair: Pair) -> PackedDocument:
    """An OpenDocument text: its content, and headers and footers, which are in its styles.

    Raises:
        RequestError: it is damaged.
    """
    return packed_document(data, name, pair, {r"content\.xml|styles\.xml": _odt_part})


def _package(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A book's package: only its language changes, so that its title finds it again."""
    text, codec = xml_text(data, name)
    edits = [
        (*match.span(1), pair.target)
        for match in re.finditer(r"<dc:language[^>]*>([^<]*)</dc:language>", text)
        if to_change(match[1], pair)
    ]
    return TextDocument(name, text, codec, [], edits)


def _contents(data: bytes, name: str, pair: Pair) -> TextDocument:
    """The table of contents of EPUB 2."""
    text, codec = xml_text(data, name)
    labels = re.finditer(r"<(?:ncx:)?text>([^<]*)</(?:ncx:)?text>", text)
    units = [Unit((html.unescape(match[1]),), *match.span(1), escape) for match in labels]
    return TextDocument(name, text, codec, units)


def read_epub(data: bytes, name: str, pair: Pair) -> PackedDocument:
    """An e-book without protection: its chapters and tables of contents.

    Raises:
        RequestError: it is damaged or protected.
    """
    readers = {r".*\.x?html?": read_xhtml, r".*\.opf": _package, r".*\.ncx": _contents}
    document = packed_document(data, name, pair, readers)
    if document.has_part("META-INF/rights.xml"):
        raise RequestError(f"{name} is protected by its publisher and cannot be read.")
    return document
