"""Files of messages by key: Java's .properties, Apple's .strings, and .json with all its strings."""

import json
import re
from collections.abc import Callable, Iterator

from runtime.errors import RequestError
from runtime.text.lines import one_line
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, TextDocument, Unit, decode_document, to_change

_ESCAPE = re.compile(r"\\(?:[uU]([0-9a-fA-F]{4})|(\r\n|\r|\n)[ \t\f]*|(.))", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_ENTRY = re.compile(
    r"(?:^|(?<=[\r\n]))(?:(?P<comment>[ \t\f]*[#!][^\r\n]*)"
    r"|[ \t\f]*(?:\\.|[^\\:= \t\f\r\n])+(?:[ \t\f]*[:=][ \t\f]*|[ \t\f]+|(?=[\r\n]|$))"
    r"(?P<value>(?:\\(?:\r\n|[\s\S])|[^\\\r\n])*))"
)
_APPLE = re.compile(
    r"""\s+ | /\*.*?\*/ | //[^\r\n]* | (?:"(?:\\.|[^"\\])*"|[\w.-]+)\s*(?:=\s*"(?P<value>(?:\\.|[^"\\])*)"\s*)?;""",
    re.VERBOSE | re.DOTALL,
)
_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
NAME_LIKE = re.compile(r"#[0-9a-fA-F]{3,8}|[a-z0-9]+(?:[_.:/][A-Za-z0-9]+)+")  # a colour, a key: no text


def _decode(raw: str) -> str:
    text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "" if m[2] else _NAMED.get(m[3], m[3]), raw)
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\" in raw else text
    )  # pairs of halves


def line_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges between the escaped line breaks of a value: each line is a unit, since its end has a meaning."""
    begin = start
    for match in re.finditer(r"\\(?:\r\n|[\s\S])", text[start:end]):
        if match[0] in ("\\n", "\\r"):
            yield begin, start + match.start()
            begin = start + match.end()
    yield begin, end


def _by_number(text: str, highest: int) -> str:
    """Text with ``\\uXXXX`` for characters past ``highest``."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code <= highest else f"\\u{code:04X}" for code in codes)


def _property_writer(source: str, highest: int) -> Callable[[str], str]:
    """How a translation of ``source`` is written; where that goes through MessageFormat, apostrophes are doubled."""
    doubled = "''" in source or (re.search(r"\{\d", source) and "'" not in source)

    def write(text: str) -> str:
        text = text.replace("\\", "\\\\").replace("'", "''") if doubled else text.replace("\\", "\\\\")
        for name, character in _NAMED.items():
            text = text.replace(character, f"\\{name}")
        text = re.sub("^ ", r"\\ ", text)
        return _by_number(text, highest) if highest else text

    return write


def read_properties(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A .properties file: in UTF-8 or Latin-1; where all of it is ASCII, other characters are written by number.

    Raises:
        RequestError: it is no text, or has a broken escape.
    """
    try:
        text, codec = decode_document(data, name)
        highest = 0x7F if text.isascii() else 0
    except RequestError:
        if b"\0" in data:
            raise
        text, codec = decode_document(data, name, "latin-1")
        highest = 0xFF
    units = []
    for match in _ENTRY.finditer(text):
        if (raw := match["value"]) is None or match["comment"]:
            continue
        if broken := re.search(r"(?<!\\)(?:\\\\)*\\u(?![0-9a-fA-F]{4})", raw):
            line = text.count("\n", 0, match.start("value") + broken.start()) + 1
            raise RequestError(f"{name} is damaged: line {line} has a broken \\u escape.")
        value = _decode(raw)
        if NAME_LIKE.fullmatch(value):
            continue
        write = _property_writer(value, highest)
        for start, end in line_spans(text, *match.span("value")):
            shown = _decode(text[start:end])
            units.append(Unit((shown.replace("''", "'") if "''" in value else shown,), start, end, write))
    return TextDocument(name, text, codec, units)


def _write_apple(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    for name, character in _NAMED.items():
        text = text.replace(character, f"\\{name}")
    return text


def read_strings(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A .strings file of macOS or iOS.

    Raises:
        RequestError: it is no text, or damaged.
    """
    text, codec = decode_document(data, name)
    units, at = [], 0
    while at < len(text):
        match = _APPLE.match(text, at)
        if not match:
            raise RequestError(f"{name} is damaged in line {text.count(chr(10), 0, at) + 1}.")
        if match["value"]:
            for start, end in line_spans(text, *match.span("value")):
                units.append(Unit((_decode(text[start:end]),), start, end, _write_apple))
        at = match.end()
    return TextDocument(name, text, codec, units)


class _Json:
    """The values that are text in a JSON text that is known to be right."""

    def __init__(self, text: str, pair: Pair, name: str) -> None:
        self._tokens = [match.span() for match in _JSON.finditer(text)]
        self._text, self._pair, self._at = text, pair, 0
        self._ascii = text.isascii() and "\\u" in text
        self.edits: list[Edit] = []
        self.units = list(self._value(""))

    def _next(self) -> tuple[int, int]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _write(self, text: str) -> str:
        lone = bool(re.search("[\ud800-\udfff]", text))
        return json.dumps(one_line(text), ensure_ascii=self._ascii or lone)[1:-1]

    def _value(self, key: str) -> Iterator[Unit]:
        """Units of the value that comes next; numbers and words are no tokens."""
        if self._at >= len(self._tokens):
            return
        start, end = self._tokens[self._at]
        first = self._text[start]
        if first == '"':
            self._at += 1
            value = json.loads(self._text[start:end])
            if key == "@@locale" and to_change(value, self._pair):
                self.edits.append((start + 1, end - 1, self._pair.target))
            elif not key.startswith("@@") and not NAME_LIKE.fullmatch(value):
                for begin, stop in line_spans(self._text, start + 1, end - 1):
                    yield Unit((json.loads(f'"{self._text[begin:stop]}"'),), begin, stop, self._write)
        elif first == "[":
            self._at += 1
            while self._text[self._tokens[self._at][0]] != "]":
                yield from self._value("")
                self._at += self._text[self._tokens[self._at][0]] == ","
            self._at += 1
        elif first == "{":
            yield from self._object(key)

    def _object(self, key: str) -> Iterator[Unit]:
        outermost = self._at == 0
        self._at += 1
        members: dict[str, list[Unit]] = {}
        places: dict[str, tuple[int, int]] = {}
        while self._text[self._tokens[self._at][0]] != "}":
            start, end = self._next()
            name = json.loads(self._text[start:end])
            places[name] = (start + 1, end - 1)
            self._at += 1  # the colon
            members[name] = [] if self._text[self._tokens[self._at][0]] in ",}" else list(self._value(name))
            self._at += self._text[self._tokens[self._at][0]] == ","
        self._at += 1
        if key.startswith("@"):  # notes of an .arb file for translators
            return
        if outermost and len(members) == 1 and to_change(only := next(iter(members)), self._pair):
            self.edits.append((*places[only], self._pair.target))
        # A browser extension's message has a description for translators, and examples.
        one = "message" in members and members.keys() <= {"message", "description", "placeholders", "hash"}
        for name, units in members.items():
            if not one or name == "message":
                yield from units


def read_json(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A .json file of messages, or an .arb file: every string that is no key.

    Raises:
        RequestError: it is damaged, or nested too deeply.
    """
    text, codec = decode_document(data, name)
    try:
        json.loads(text)
        found = _Json(text, pair, name)
    except RecursionError:
        raise RequestError(f"{name} is nested too deeply.") from None
    except ValueError as error:
        raise RequestError(f"{name} is damaged JSON ({error}).") from None
    return TextDocument(name, text, codec, found.units, found.edits)
