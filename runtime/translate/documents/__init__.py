"""Documents: what is text in a file is found, translated and put back; every other byte stays as it is.

``FORMATS`` says by the suffix which module reads a file, with its bytes, its name for sentences, and the language pair.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from runtime.text.pairs import Pair
from runtime.translate.documents.base import Document

# Suffix: module and function. They are loaded when such a file is opened.
FORMATS = {
    ".txt": "txt.read_txt",
    ".md": "markdown.read_markdown",
    ".markdown": "markdown.read_markdown",
    ".html": "html.read_html",
    ".htm": "html.read_html",
    ".xhtml": "html.read_xhtml",
    ".docx": "office.read_docx",
    ".pptx": "office.read_pptx",
    ".odt": "office.read_odt",
    ".epub": "office.read_epub",
    ".srt": "subtitles.read_srt",
    ".vtt": "subtitles.read_vtt",
    ".properties": "strings.read_properties",
    ".strings": "strings.read_strings",
    ".json": "strings.read_json",
    ".arb": "strings.read_json",
    ".po": "po.read_po",
    ".pot": "po.read_po",
    ".xlf": "exchange.read_xliff",
    ".xliff": "exchange.read_xliff",
    ".tmx": "exchange.read_tmx",
    ".resx": "exchange.read_resx",
    ".yaml": "yaml.read_yaml",
    ".yml": "yaml.read_yaml",
    ".ftl": "fluent.read_ftl",
}


def is_document(path: Path) -> bool:
    """Whether a file is a document by its suffix."""
    return path.suffix.lower() in FORMATS


def open_document(path: Path, data: bytes, pair: Pair) -> Document:
    """Read a document.

    Raises:
        RequestError: it is damaged, or of no known format.
    """
    module, function = FORMATS[path.suffix.lower()].split(".")
    read: Callable[[bytes, str, Pair], Document] = getattr(import_module(f"{__name__}.{module}"), function)
    return read(data, str(path), pair)
