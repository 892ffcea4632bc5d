"""What a request brings along, as JSON, as a form, or in its address, under one roof."""

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from slimmoe.server.asked import Refused

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no", "", "none")
_DEEPEST = 20  # objects and arrays within each other


@dataclass
class Fields:
    """The values of a request by name, of JSON as they are, of forms as text."""

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def texts(self, name: str) -> list[str] | None:
        """A text, or several, as a list; None where there is none.

        Raises:
            Refused: it is neither, or holds halves of characters.
        """
        value = self.values.get(name)
        if value is None:
            return None
        texts = value if isinstance(value, list) else [value]
        for each in texts:
            if not isinstance(each, str):
                raise Refused(400, f"Invalid request: {name} parameter is not text")
            try:
                each.encode()
            except UnicodeEncodeError:
                raise Refused(400, f"Invalid request: {name} parameter is not valid Unicode") from None
        return texts

    def text(self, name: str, default: str = "") -> str:
        """A text.

        Raises:
            Refused: it is none, or a list.
        """
        if isinstance(self.values.get(name), list):
            raise Refused(400, f"Invalid request: {name} parameter is not text")
        return (self.texts(name) or [default])[0]

    def required(self, name: str) -> str:
        """A text that has to be there.

        Raises:
            Refused: it is not, or is empty.
        """
        if not (text := self.text(name)):
            raise Refused(400, f"Invalid request: missing {name} parameter")
        return text

    def number(self, name: str, default: int = 0) -> int:
        """A whole number, from zero on.

        Raises:
            Refused: it is none.
        """
        value = self.values.get(name, default)
        try:
            if isinstance(value, bool | list | dict) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            return max(0, int(value))
        except (ValueError, TypeError, OverflowError):
            raise Refused(400, f"Invalid request: {name} parameter is not a number") from None

    def truth(self, name: str) -> bool:
        """Yes or no; of text, what programs write for yes.

        Raises:
            Refused: it is neither.
        """
        value = self.values.get(name)
        said = str(value).lower()
        if not isinstance(value, str | bool | None) or said not in (*_YES, *_NO):
            raise Refused(400, f"Invalid request: {name} parameter is neither true nor false")
        return said in _YES


async def read_fields(request: Request) -> Fields:
    """The values in a request's address and body; those of the body count where both have one.

    Raises:
        Refused: the body is damaged, or none that is known.
    """
    fields = Fields(_listed(list(request.query_params.multi_items())))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        try:
            async with request.form(max_files=8, max_fields=4000, max_part_size=1 << 22) as form:
                await _read_form(form, fields)
        except (MultiPartException, UnicodeDecodeError, ValueError):
            raise Refused(400, "Invalid request: the form is damaged") from None
        return fields
    body = await request.body()
    if kind == "application/json" or kind.endswith("+json"):
        fields.values |= _read_json(body)
    elif body.strip() and request.method != "GET":
        raise Refused(415, "Invalid request: the body must be JSON or a form, and its Content-Type must say so")
    return fields


def _listed(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Values by name; those of a name that comes several times as a list."""
    found: dict[str, Any] = {}
    for name, value in items:
        found.setdefault(name.removesuffix("[]"), []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


async def _read_form(form: FormData, fields: Fields) -> None:
    items = form.multi_items()
    fields.values |= _listed([(name, value) for name, value in items if isinstance(value, str)])
    for name, value in items:
        if isinstance(value, UploadFile):
            fields.files[name] = (value.filename or "", await value.read())


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise Refused(400, "Invalid JSON format") from None
    if not isinstance(found, dict) or _depth(found) > _DEEPEST:
        raise Refused(400, "Invalid JSON format")
    return found


def _depth(value: Any) -> int:
    deepest, rows = 0, [value]
    while rows and deepest <= _DEEPEST:
        deepest += 1
        rows = [
            each
            for row in rows
            if isinstance(row, dict | list)
            for each in (row.values() if isinstance(row, dict) else row)
        ]
    return deepest
