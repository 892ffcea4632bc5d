"""JSON objects from files that others wrote: whatever is wrong with one is an error, never a traceback."""

import json
import re
from pathlib import Path
from typing import Any

from runtime.errors import WorkError

LONGEST = 100_000_000  # bytes; the bound that safetensors' own reader has for a header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def parse_object(data: bytes, unique: bool = False) -> dict[str, Any]:
    """The JSON object in UTF-8 bytes. Its texts can be written as UTF-8 again: no half of a surrogate pair is in them.

    Args:
        unique: refuse an object that has a name twice, of which the last would count.

    Raises:
        ValueError: the bytes are something else, or nested too deeply.
    """
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    if re.search(rb"\\u[dD][89a-fA-F]", data):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character") from None
    return found


def read_object(path: Path, unique: bool = False) -> dict[str, Any]:
    """The JSON object that a file holds; ``unique`` as in ``parse_object``.

    Raises:
        WorkError: it cannot be read, or holds something else.
    """
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:
            raise ValueError("it is no file, or too long")
        return parse_object(path.read_bytes(), unique)
    except OSError as error:
        raise WorkError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise WorkError(f"{path} is not a JSON object: {error}.") from None
