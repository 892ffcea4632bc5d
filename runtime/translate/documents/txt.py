"""Plain text: each line is a unit, and stays one."""

import re

from runtime.text.lines import one_line
from runtime.text.pairs import Pair
from runtime.translate.documents.base import TextDocument, Unit, decode_document


def read_txt(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A text file.

    Raises:
        RequestError: it is no text.
    """
    text, codec = decode_document(data, name)
    lines = [(match[0].rstrip("\r"), match.start()) for match in re.finditer("[^\n]+", text)]
    units = [Unit((line,), start, start + len(line), one_line) for line, start in lines if line]
    return TextDocument(name, text, codec, units)
