"""What all tests of documents share: translators that need no model, and how a document is read and written with them."""

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from runtime.text.markup import Marked, protect
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from runtime.translate.documents.base import Document
from runtime.translate.paragraphs import ParagraphTranslator
from runtime.translate.segments import Translation

SAME, DE = Pair("en", "en"), Pair("en", "de")


def translated(data: bytes, name: str, change: Callable[[str], str] = str, pair: Pair = SAME) -> bytes:
    """A document with each of its sentences changed."""
    document = open_document(Path(name), data, pair)

    def translate(texts: Iterable[str]) -> Iterator[Translation]:
        for text in texts:
            yield Translation(text, "".join(changed(protect((text,)))), None)

    def changed(marked: Marked) -> Iterator[str]:
        """Placeholders stay, as every translator has to keep them."""
        for piece in marked:
            yield change(piece) if isinstance(piece, str) else piece.raw

    units = [unit.marked for unit in document.units]
    return document.render([done.marked for done in ParagraphTranslator(translate, "en").translate(units)])


def upper(data: bytes, name: str, pair: Pair = SAME) -> bytes:
    """A document in capitals: what is outside of its text is as it was."""
    return translated(data, name, str.upper, pair)


def texts_of(document: Document) -> list[str]:
    """The texts of a document's units without their codes."""
    from runtime.text.markup import plain

    return [plain(unit.marked) for unit in document.units]


def packed(parts: dict[str, str], first: dict[str, str] | None = None) -> bytes:
    """A ZIP file; ``first`` are stored before the others."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in (first or {}).items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), text, zipfile.ZIP_STORED)
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (2021, 1, 2, 3, 4, 6)), text, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def part(data: bytes, name: str) -> str:
    """The text of a part of a ZIP file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(name).decode()


def expected(text: str) -> tuple[bytes, bytes]:
    """A document in which ``‹...›`` marks what is text: as it is, and with that in capitals."""
    capitals = re.sub("‹([^›]*)›", lambda match: match[1].upper(), text)
    return re.sub("[‹›]", "", text).encode(), capitals.encode()


def check(text: str, name: str) -> None:
    """Nothing translated is the same file, and what changes is exactly what ``‹...›`` marks."""
    source, capitals = expected(text)
    assert translated(source, name) == source
    assert upper(source, name).decode() == capitals.decode()
