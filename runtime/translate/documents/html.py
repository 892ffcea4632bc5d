"""HTML and XHTML: blocks are units, inline tags are codes in them; scripts, code and what says translate="no" stay."""

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from runtime.text.languages import base_language
from runtime.text.markup import Code
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, TextDocument, Unit, decode_document, span_code, to_change
from runtime.translate.documents.xml import (
    MARKS,
    Token,
    attribute,
    attributes,
    escaper,
    matching_ends,
    xml_text,
    xml_tokens,
)

_INLINE = {
    *(
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "input",
        "ins",
    ),
    *(
        "label",
        "mark",
        "nobr",
        "q",
        "rb",
        "rp",
        "rt",
        "ruby",
        "s",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
    ),
    *("u", "wbr"),
}
_CODE = {"code", "kbd", "samp", "tt", "var"}  # inline, as they are
_KEPT = {"math", "object", "pre", "script", "style", "svg", "template"}
_VOID = set(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_VALUES = {"alt", "aria-description", "aria-label", "placeholder", "title"}
_META = {"description", "keywords", "og:title", "og:description", "twitter:title", "twitter:description"}
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_MARKS = MARKS | {"\u00a0": "&nbsp;"}
_escape, _escape_value = escaper(_MARKS), escaper(_MARKS | {'"': "&quot;", "'": "&#39;"})
_escape_xml = escaper(MARKS)
_escape_xml_value = escaper(MARKS | {'"': "&quot;", "'": "&#39;"})


class _Scanner(HTMLParser):
    """The standard library's reader, which knows where in the text it is."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.found: list[tuple[str, int, str]] = []
        self.feed(text)
        self.close()

    def _note(self, kind: str, name: str = "") -> None:
        line, column = self.getpos()
        if kind != "text" or not self.found or self.found[-1][0] != "text":
            self.found.append((kind, self._lines[line - 1] + column, name))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._note("empty" if tag in _VOID else "open", tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self._note("empty", tag)

    def handle_endtag(self, tag: str) -> None:
        self._note("close", tag)

    def handle_data(self, data: str) -> None:
        self._note("text")

    def handle_charref(self, name: str) -> None:
        self._note("text")

    def handle_entityref(self, name: str) -> None:
        self._note("text")

    def handle_comment(self, data: str) -> None:
        self._note("other")

    def handle_decl(self, decl: str) -> None:
        self._note("other")

    def handle_pi(self, data: str) -> None:
        self._note("other")

    def unknown_decl(self, data: str) -> None:
        self._note("other")


def html_tokens(text: str) -> list[Token]:
    """The tokens of HTML as browsers and authors have it; they cover the text without a gap."""
    last = text.rfind(">") + 1  # behind it nothing ends: a thousand tags that only begin would each be read to the end
    found = _Scanner(text[:last]).found
    if last < len(text) and (not found or found[-1][0] != "text"):
        found.append(("text", last, ""))
    ends = [start for _, start, _ in found[1:]] + [len(text)]
    return [Token(kind, start, end, name) for (kind, start, name), end in zip(found, ends) if end > start]


def _keeps(text: str, token: Token, pair: Pair) -> bool:
    """Whether an element is to stay as it is, by its name or its own words; of a pair with no source any language goes."""
    if token.local.lower() in _KEPT:
        return True
    values = {name.lower(): text[start:end] for name, start, end in attributes(text, token)}
    # What a whole page says of itself is often a template's; what it is in is said by the pair.
    language = "" if token.local.lower() == "html" else values.get("lang") or values.get("xml:lang")
    return (
        values.get("translate", "").lower() == "no"
        or "notranslate" in values.get("class", "").split()
        or bool(language and pair.source and base_language(language.lower()) != base_language(pair.source))
    )


def language_edits(text: str, token: Token, pair: Pair) -> list[Edit]:
    """The target's code for each language attribute of a tag that has the source's, and for the page's in any case."""
    whole = token.local.lower() == "html" and pair.source != pair.target
    return [
        (start, end, pair.target)
        for name, start, end in attributes(text, token)
        if name.lower() in ("lang", "xml:lang") and (whole or to_change(text[start:end], pair))
    ]


def html_units(text: str, tokens: Sequence[Token], pair: Pair, xml: bool = False) -> tuple[list[Unit], list[Edit]]:
    """The units and language edits of HTML's tokens; ``xml``: entities are those of XML."""
    write, write_value = (_escape_xml, _escape_xml_value) if xml else (_escape, _escape_value)
    units: list[Unit] = []
    edits: list[Edit] = []
    pieces: list[tuple[int, int, str | Code]] = []
    ends = matching_ends(tokens)

    def flush() -> None:
        if pieces:
            units.append(Unit(tuple(piece for _, _, piece in pieces), pieces[0][0], pieces[-1][1], write))
            pieces.clear()

    def values(token: Token) -> None:
        kind = (attribute(text, token, "name") or attribute(text, token, "property") or "").lower()
        button = token.name.lower() == "input" and attribute(text, token, "type") in ("button", "reset", "submit")
        for name, start, end in attributes(text, token):
            name = name.lower()
            if name in _VALUES or (name == "content" and kind in _META) or (name == "value" and button):
                units.append(Unit((html.unescape(text[start:end]),), start, end, write_value))
        if (attribute(text, token, "http-equiv") or "").lower() == "content-language":
            edits.extend(
                (start, end, pair.target)
                for name, start, end in attributes(text, token)
                if name.lower() == "content" and to_change(text[start:end], pair)
            )

    number = 0
    while number < len(tokens):
        token, name = tokens[number], tokens[number].local.lower()
        last = ends[number]
        if token.kind == "open" and (name in _CODE or _keeps(text, token, pair)):
            end = tokens[last].end
            if name in _CODE | _INLINE:
                pieces.append((token.start, end, span_code(text, token.start, end)))
            else:
                flush()
            number = last + 1
            continue
        if token.kind in ("text", "cdata"):
            raw = text[token.start : token.end]
            pieces.append((token.start, token.end, html.unescape(raw) if token.kind == "text" else Code(raw)))
            if token.kind == "cdata":
                pieces[-1] = (token.start, token.end, span_code(text, token.start, token.end))
        elif token.kind == "other" or name in _INLINE | _CODE:
            paired = token.kind == "open" and last != number
            kind = "open" if paired else "close" if token.kind == "close" else "alone"
            pieces.append((token.start, token.end, span_code(text, token.start, token.end, kind)))
        else:
            flush()
        if token.kind in ("open", "empty") and not (token.kind == "empty" and _keeps(text, token, pair)):
            values(token)
            edits += language_edits(text, token, pair)
        number += 1
    flush()
    return units, edits


def read_html(data: bytes, name: str, pair: Pair) -> TextDocument:
    """An HTML file.

    Raises:
        RequestError: it is no text.
    """
    if data.lstrip().startswith(b"<?xml"):
        return read_xhtml(data, name, pair)
    charset = _CHARSET.search(data[:4096])
    text, codec = decode_document(data, name, charset[1].decode() if charset else None, "xmlcharrefreplace")
    units, edits = html_units(text, html_tokens(text), pair)
    return TextDocument(name, text, codec, units, edits)


def read_xhtml(data: bytes, name: str, pair: Pair) -> TextDocument:
    """An XHTML file.

    Raises:
        RequestError: it is damaged.
    """
    text, codec = xml_text(data, name)
    units, edits = html_units(text, xml_tokens(text), pair, xml=True)
    return TextDocument(name, text, codec, units, edits)
