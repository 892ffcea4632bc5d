"""Documents that are ZIP files: .docx, .pptx, .odt and .epub. Parts with text are spliced, all others are copied."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

from runtime.errors import RequestError
from runtime.text.markup import Marked
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit

MOST_BYTES = 1 << 30  # unpacked, of all parts together
MOST_RATIO = 1000  # unpacked to packed, of a part of more than a MiB; deflate alone reaches 1032
MOST_PARTS = 20_000
# What zipfile raises for bytes that it did not expect.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, KeyError, IndexError, OverflowError),
    *(NotImplementedError, RuntimeError),
)
ReadPart = Callable[[bytes, str, Pair], TextDocument]


def open_packed(data: bytes, name: str) -> zipfile.ZipFile:
    """A ZIP file that is safe to read whole.

    Raises:
        RequestError: it is damaged or encrypted, unpacks to too much, or has a part that leaves it or is there twice.
    """
    try:
        packed = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGE:
        raise RequestError(f"{name} is damaged: it is no ZIP file.") from None
    parts = packed.infolist()
    names = [part.filename for part in parts]
    if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_BYTES:
        raise RequestError(f"{name} unpacks to more than {MOST_BYTES >> 30} GiB or {MOST_PARTS} parts.")
    for part in parts:
        if part.file_size > 1 << 20 and part.file_size > MOST_RATIO * max(part.compress_size, 1):
            raise RequestError(f"{name} is no document: {part.filename} unpacks to {part.file_size >> 20} MiB.")
        if part.flag_bits & 1:
            raise RequestError(f"{name} is encrypted.", next_command="save it without a password")
        if part.filename.startswith("/") or ".." in re.split(r"[/\\]", part.filename):
            raise RequestError(f"{name} is no document: it has a part named {part.filename}.")
    if len(set(names)) != len(names):
        raise RequestError(f"{name} is damaged: it has a part twice.")
    return packed


def read_part(packed: zipfile.ZipFile, part: str, name: str) -> bytes:
    """The bytes of a part.

    Raises:
        RequestError: it is damaged, or longer than it says.
    """
    try:
        return packed.read(part)
    except _DAMAGE:
        raise RequestError(f"{name} is damaged: its part {part} cannot be read.") from None


class PackedDocument:
    """A ZIP file with parts that are documents of their own; their units follow each other."""

    def __init__(self, data: bytes, name: str, packed: zipfile.ZipFile, parts: dict[str, TextDocument]) -> None:
        self._data, self._name, self._packed, self._parts = data, name, packed, parts
        for each in packed.namelist():  # whatever is damaged is told before any work
            if each not in parts:
                read_part(packed, each, name)

    def has_part(self, part: str) -> bool:
        """Whether there is a part of that name."""
        return part in self._packed.namelist()

    @property
    def units(self) -> Sequence[Unit]:
        return [unit for part in self._parts.values() for unit in part.units]

    def render(self, translations: Sequence[Marked]) -> bytes:
        changed, begin = dict[str, bytes](), 0
        for part, document in self._parts.items():
            end = begin + len(document.units)
            new = document.render(translations[begin:end])
            if new != document.codec.encode(document.text):
                changed[part] = new
            begin = end
        if not changed:
            return self._data
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as written:
            for part in self._packed.infolist():
                data = changed.get(part.filename)
                part.extra = re.sub(rb"\A\x01\x00.*", b"", part.extra, flags=re.DOTALL)  # zipfile writes ZIP64's itself
                written.writestr(part, read_part(self._packed, part.filename, self._name) if data is None else data)
            written.comment = self._packed.comment
        return target.getvalue()


def packed_document(data: bytes, name: str, pair: Pair, readers: dict[str, ReadPart]) -> PackedDocument:
    """A ZIP file whose parts are read by the first of the patterns that their whole names match.

    Raises:
        RequestError: it is damaged, or has no part with text.
    """
    packed = open_packed(data, name)
    parts = {}
    for part in packed.namelist():
        reader = next((each for pattern, each in readers.items() if re.fullmatch(pattern, part)), None)
        if reader is not None:
            parts[part] = reader(read_part(packed, part, name), f"{part} of {name}", pair)
    if not parts:
        raise RequestError(f"{name} is not what its name says: it has none of the parts of such a document.")
    return PackedDocument(data, name, packed, parts)
