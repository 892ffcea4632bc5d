"""The parts of .docx, .pptx, .odt and .epub files that have text."""

from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument
from runtime.translate.documents.ooxml import part_edits, part_units
from runtime.translate.documents.packed import PackedDocument, packed_document
from runtime.translate.documents.xml import xml_text, xml_tokens


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
