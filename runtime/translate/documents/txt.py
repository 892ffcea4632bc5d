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
    units = [Unit((match[0],), *match.span(), one_line) for match in re.finditer(r"[^\n]*[^\r\n]", text)]
    return TextDocument(name, text, codec, units)
