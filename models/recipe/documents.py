"""Parallel documents without segment marks (DocBook, Mallard, HTML, man pages): parse into blocks, align by structure.

Translators keep the structure of a document and translate its blocks, so two blocks correspond where the tags on the
way to them agree. Where a part is built differently in two languages, that part is left out: nothing is guessed.
"""

import gzip
import re
from collections.abc import Iterator
from typing import NamedTuple

import lxml.etree as etree
import lxml.html as html

# Elements that hold running text. One that has another inside is a container: only the inner ones are read.
_TEXT = """
    para simpara title subtitle term entry p h1 h2 h3 h4 h5 h6 li dt dd td th caption listitem item
"""
# Never text: examples, keyboard shortcuts of a menu, and what translators add (credits).
_LEFT_OUT = """
    programlisting screen literallayout synopsis cmdsynopsis pre script style indexterm footnote remark comment
    shortcut bookinfo articleinfo info credit license
"""
TEXT, LEFT_OUT = frozenset(_TEXT.split()), frozenset(_LEFT_OUT.split())
# Elements whose parts are set side by side on the page.
JOINED = {"menuchoice": " → ", "guiseq": " → ", "keycombo": "+", "keyseq": "+"}


class Block(NamedTuple):
    """A part of a document: a leaf with text, or a container of further blocks."""

    tag: str
    text: str
    children: tuple["Block", ...] = ()


def _name(element: etree._Element) -> str:
    # a comment, a processing instruction, a link to the heading that it stands in
    if not isinstance(element.tag, str) or element.get("class") == "headerlink":
        return "comment"
    name = re.split("[}:]", element.tag)[-1].lower()  # without its namespace, declared or not
    return "p" if name == "div" and element.get("class") == "para" else name


def _text(element: etree._Element) -> str:
    separator = JOINED.get(_name(element))
    if separator:
        return separator.join(" ".join(_text(child).split()) for child in element if _name(child) not in LEFT_OUT)
    parts = [element.text or ""]
    for child in element:
        parts += [_text(child) if _name(child) not in LEFT_OUT else "", child.tail or ""]
    return "".join(parts)


def _block(element: etree._Element) -> Block | None:
    name = _name(element)
    if name in LEFT_OUT:
        return None
    children = tuple(block for child in element if (block := _block(child)))
    if children:
        return Block(name, "", children)
    return Block(name, " ".join(_text(element).split())) if name in TEXT else None


def entities(text: str) -> dict[str, str]:
    """Declared XML entities without their markup: ``<!ENTITY kate "<application>Kate</application>">``."""
    found = re.findall(r"<!ENTITY\s+([\w.-]+)\s+(?:\"([^\"]*)\"|'([^']*)')", text)
    return {name: re.sub(r"<[^>]*>", "", double or single) for name, double, single in found}


def parse_xml(data: bytes, known: dict[str, str]) -> Block | None:
    """DocBook or Mallard; ``known`` are entities declared elsewhere. Others stay as they are, for the cleaner to drop."""
    text = data.decode("utf-8", "replace")
    known = known | entities(text)
    text = re.sub(r"<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>|<\?xml[^>]*\?>", "", text, flags=re.S)
    for _ in range(2):  # an entity may stand for another
        text = re.sub(r"&([A-Za-z][\w.-]*);", lambda match: known.get(match[1], match[0]), text)
    text = re.sub(r"&(?!amp;|lt;|gt;|quot;|apos;|#)", "&amp;", text)
    root = etree.fromstring(text.encode(), etree.XMLParser(recover=True, resolve_entities=False, no_network=True))
    return None if root is None else _block(root)


def parse_html(data: bytes) -> Block | None:
    """HTML of any age."""
    return _block(html.document_fromstring(data, parser=html.HTMLParser(encoding="utf-8")))


_ESCAPE = re.compile(r"\\(?:f(?:\[\w*\]|\(..|.)|s[-+]?\d|\((?P<two>..)|\[(?P<long>[^\]]*)\]|(?P<one>.))")
_GLYPHS = {
    "-": "-", "e": "\\", " ": " ", "~": " ", "aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’",
    "em": "—", "en": "–", "hy": "-", "u2010": "-",
}  # fmt: skip
_FONTS = ("B", "I", "BR", "BI", "IB", "IR", "RB", "RI", "SM", "SB")


def _plain(line: str) -> str:
    line = re.sub(r"\\[\"#].*", "", line)
    return _ESCAPE.sub(lambda m: _GLYPHS.get(m["two"] or m["long"] or m["one"] or "", ""), line)


def parse_man(data: bytes) -> Block | None:
    """A man(7) page, gzipped or not: sections of paragraphs and terms. Examples and tables become empty marks."""
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")
    sections: list[tuple[str, list[Block]]] = [("section", [])]
    words: list[str] = []
    tag, verbatim = "p", False

    def flush(after: str) -> None:
        nonlocal tag
        if words:
            sections[-1][1].append(Block(tag, " ".join(" ".join(words).split())))
            words.clear()
        tag = after

    for line in text.splitlines():
        macro = re.match(r"[.']\s*([A-Za-z]+)\s*(.*)", line)
        name, rest = (macro[1], _plain(macro[2])) if macro else ("", "")
        if name in ("nf", "EX", "TS", "EQ"):
            flush("p")
            sections[-1][1].append(Block("example", ""))
            verbatim = True
        elif name in ("fi", "EE", "TE", "EN"):
            verbatim = False
        elif verbatim or line.startswith((".\\", "'\\")) or line in (".", "'"):
            continue
        elif name in _FONTS:
            parts = ["".join(part) for part in re.findall(r'"([^"]*)"|(\S+)', rest)]
            words.append((" " if len(name) == 1 or name[0] == "S" else "").join(parts))
            if tag == "term":
                flush("p")
        elif name in ("SH", "SS"):
            flush("p")
            sections.append(("section" if name == "SH" else "subsection", []))
            words.append(rest.strip('" '))
            flush("title" if not rest else "p")
        elif name == "TP":
            flush("term")
        elif name == "IP":
            flush("p")
            sections[-1][1].append(Block("item", ""))
        elif macro or not line.strip():
            if name not in ("ft", "ad", "hy", "ne", "na", "nh"):
                flush("p")
        else:
            words.append(_plain(line))
            if tag in ("term", "title"):
                flush("p")
    flush("p")
    if any("\\" in line for line in words):
        return None
    return Block("man", "", tuple(Block(kind, "", tuple(blocks)) for kind, blocks in sections))


def align(english: Block, other: Block) -> Iterator[tuple[str, str]]:
    """Texts of the leaves that correspond. Sections that only one side has at its end (credits) are ignored."""
    if english.tag != other.tag:
        return
    if not english.children and not other.children:
        if english.text and other.text:
            yield english.text, other.text
        return
    shared = min(len(english.children), len(other.children))
    extra = english.children[shared:] + other.children[shared:]
    tags = [[child.tag for child in side.children[:shared]] for side in (english, other)]
    if tags[0] == tags[1] and all(child.children for child in extra):
        for pair in zip(english.children, other.children):
            yield from align(*pair)
