"""XML as tokens with their ranges. No entity is expanded, nothing outside of the file is read."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.parsers import expat

from runtime.errors import RequestError
from runtime.translate.documents.base import Codec, decode_document

_TOKEN = re.compile(
    r"""<!--.*?--> | (?P<cdata><!\[CDATA\[.*?\]\]>) | <\?.*?\?> | <!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>
      | </(?P<close>[^\s>]+)\s*> | <(?P<open>[^\s/>!?]+)(?:"[^"]*"|'[^']*'|[^'">])*?(?P<empty>/?)> | (?P<text>[^<]+)""",
    re.VERBOSE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([^\s=/"'<>]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""")
MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\u00a0": "&#160;", "\r": "&#13;"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of markup: ``kind`` is open, close, empty, text, cdata or other; ``name`` is a tag's."""

    kind: str
    start: int
    end: int
    name: str = ""

    @property
    def local(self) -> str:
        """The name without its prefix."""
        return self.name.rpartition(":")[2]


def xml_text(data: bytes, name: str) -> tuple[str, Codec]:
    """The text of a well-formed XML file, and how to write it.

    Raises:
        RequestError: it is not well-formed, declares entities, or is not in the encoding that it names.
    """
    declared = _DECLARED.match(data[:400])
    text, codec = decode_document(data, name, declared[1].decode() if declared else None, "xmlcharrefreplace")

    def refuse(*_: object) -> None:
        raise RequestError(f"{name} declares entities of its own, which are not expanded.")

    parser = expat.ParserCreate("utf-8")
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise RequestError(f"{name} is damaged XML ({error}).") from None
    return text, codec


def xml_tokens(text: str) -> list[Token]:
    """The tokens of well-formed XML, which cover it without a gap."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = next((each for each in ("text", "cdata", "close", "open") if match[each] is not None), "other")
        name = match["open"] or match["close"] or ""
        found.append(Token("empty" if match["empty"] else kind, *match.span(), name))
    return found


def attributes(text: str, token: Token) -> Iterator[tuple[str, int, int]]:
    """The names of a tag's attributes and the ranges of their values."""
    begin = token.start + 1 + len(token.name)
    for match in _ATTRIBUTE.finditer(text, begin, token.end):
        group = match.lastindex or 2
        yield match[1], *match.span(group)


def attribute(text: str, token: Token, name: str) -> str | None:
    """The value of an attribute, decoded; None where there is none."""
    return next((html.unescape(text[start:end]) for each, start, end in attributes(text, token) if each == name), None)


def matching_ends(tokens: Sequence[Token]) -> list[int]:
    """For each token that opens an element, the index of the one that closes it; its own index for all others."""
    ends = list(range(len(tokens)))
    open_ones: list[int] = []
    for number, token in enumerate(tokens):
        if token.kind == "open":
            open_ones.append(number)
        elif token.kind == "close":
            at = next((at for at in reversed(range(len(open_ones))) if tokens[open_ones[at]].name == token.name), None)
            if at is not None:
                ends[open_ones[at]] = number
                del open_ones[at:]
    return ends


def escaper(marks: dict[str, str]) -> Callable[[str], str]:
    """A function that writes text with some characters as their entities."""
    table = str.maketrans(marks)
    return lambda text: text.translate(table)


escape = escaper(MARKS)
escape_value = escaper(MARKS | {'"': "&quot;", "'": "&apos;", "\n": "&#10;"})
