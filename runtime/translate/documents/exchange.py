"""Translators' exchange formats: XLIFF 1.2 and 2.x, TMX; and .NET's .resx. What is translated already stays."""

import html
import re
from collections.abc import Callable, Iterator, Sequence

from runtime.errors import RequestError
from runtime.text.languages import base_language
from runtime.text.markup import Code, Marked, is_text, plain
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, TextDocument, Unit, span_code
from runtime.translate.documents.xml import (
    Token,
    attribute,
    attributes,
    escape,
    matching_ends,
    xml_text,
    xml_tokens,
)

_PAIRED = {"g", "mrk", "pc", "hi"}  # inline elements around text; all others are codes with what they hold
_UNTRANSLATED = ("new", "needs-translation")  # states of a target that is a copy of its source
_REVIEW = "needs-review-translation"


class _Elements:
    """A file's elements, with what is in them."""

    def __init__(self, data: bytes, name: str) -> None:
        self.text, self.codec = xml_text(data, name)
        self.tokens = xml_tokens(self.text)
        self.ends = matching_ends(self.tokens)
        self.name = name
        root = next(token for token in self.tokens if token.kind in ("open", "empty"))
        self.root = root

    def require(self, local: str) -> None:
        """Refuse a file whose root is another element.

        Raises:
            RequestError: it is.
        """
        if self.root.local != local:
            raise RequestError(f"{self.name} is not what its name says: it begins with <{self.root.name}>.")

    def opened(self, local: str) -> Iterator[int]:
        """Indices of all elements of a name that are not empty."""
        return (at for at, token in enumerate(self.tokens) if token.kind == "open" and token.local == local)

    def children(self, number: int) -> Iterator[int]:
        """Indices of the elements directly in one."""
        at = number + 1
        while at < self.ends[number]:
            if self.tokens[at].kind in ("open", "empty"):
                yield at
            at = self.ends[at] + 1

    def child(self, number: int, local: str) -> int | None:
        return next((each for each in self.children(number) if self.tokens[each].local == local), None)

    def value(self, number: int, name: str) -> str | None:
        return attribute(self.text, self.tokens[number], name)

    def span(self, number: int) -> tuple[int, int]:
        """The range of an element's content."""
        return self.tokens[number].end, self.tokens[self.ends[number]].start

    def content(self, number: int) -> Marked:
        """An element's text with its inline codes."""
        pieces: list[str | Code] = []
        at, end = number + 1, self.ends[number]
        while at < end:
            token, last = self.tokens[at], self.ends[at]
            raw = self.text[token.start : token.end]
            if token.kind == "text":
                pieces.append(html.unescape(raw))
            elif token.kind == "cdata":
                pieces.append(raw[9:-3])
            elif token.local in _PAIRED and not self._protected(at):
                kind = {"open": "open", "close": "close"}.get(token.kind, "alone")
                pieces.append(span_code(self.text, token.start, token.end, kind))
            else:
                pieces.append(span_code(self.text, token.start, self.tokens[last].end))
                at = last
            at += 1
        return tuple(pieces)

    def _protected(self, number: int) -> bool:
        said = (self.value(number, "mtype"), self.value(number, "translate"))
        return self.tokens[number].kind == "open" and (said[0] == "protected" or said[1] == "no")

    def indentation(self, number: int) -> str:
        """The white space before an element."""
        before = self.text[: self.tokens[number].start]
        return before[len(before.rstrip()) :]


def _within(before: str, after: str) -> Callable[[str], str]:
    return lambda text: f"{before}{text}{after}"


def _set(elements: _Elements, number: int, name: str, after: str, pair: Pair) -> list[Edit]:
    """A tag's attribute for the target's language, changed or new.

    Raises:
        RequestError: it says that the file is a translation into another language.
    """
    token = elements.tokens[number]
    places = {each: (start, end) for each, start, end in attributes(elements.text, token)}
    if name in places:
        said = elements.value(number, name) or ""
        if said and base_language(said.replace("_", "-").lower()) != base_language(pair.target):
            raise RequestError(
                f"{elements.name} is a translation into {said}.", next_command=f"the same with --to {said}"
            )
        return [] if said else [(*places[name], pair.target)]
    at = places[after][1] + 1 if after in places else token.start + 1 + len(token.name)
    return [(at, at, f' {name}="{pair.target}"')]


def _fill(elements: _Elements, source: int, target: int | None, after: int, new: str) -> tuple[Unit | None, list[Edit]]:
    """The unit that fills a target, and what its state becomes.

    Args:
        after: the element behind which a new target is put; ``new`` is its tag.
    """
    marked = elements.content(source)
    if elements.tokens[source].kind == "empty" or not is_text("".join(p for p in marked if isinstance(p, str))):
        return None, []
    name = new[1:].partition(" ")[0].rstrip(">")
    if target is None:
        end = elements.tokens[elements.ends[after]].end
        finish = _within(elements.indentation(source) + new, f"</{name}>")
        return Unit(marked, end, end, escape, finish, True), []
    token = elements.tokens[target]
    if token.kind == "empty":
        raw = elements.text[token.start : token.end]
        return Unit(
            marked, token.start, token.end, escape, _within(raw[:-2].rstrip() + ">", f"</{token.name}>"), True
        ), []
    state = elements.value(target, "state")
    start, end = elements.span(target)
    if elements.text[start:end].strip() and state not in _UNTRANSLATED:
        return None, []
    edits = [
        (begin, stop, _REVIEW)
        for each, begin, stop in attributes(elements.text, token)
        if each == "state" and state in _UNTRANSLATED
    ]
    return Unit(marked, start, end, escape, fills=True), edits


def read_xliff(data: bytes, name: str, pair: Pair) -> TextDocument:
    """An XLIFF file, 1.2 or 2.x: segments without a target get one.

    Raises:
        RequestError: it is damaged, or a translation into another language.
    """
    elements = _Elements(data, name)
    elements.require("xliff")
    units: list[Unit] = []
    edits: list[Edit] = []
    kept = -1  # the last token of an element that is not to be translated
    for number, token in enumerate(elements.tokens):
        if token.kind not in ("open", "empty"):
            continue
        if token.local == "file" and elements.value(number, "source-language") is not None:
            edits += _set(elements, number, "target-language", "source-language", pair)
        elif token.local == "xliff" and elements.value(number, "srcLang") is not None:
            edits += _set(elements, number, "trgLang", "srcLang", pair)
        if elements.value(number, "translate") == "no" and token.local not in _PAIRED:
            kept = max(kept, elements.ends[number])
        if number <= kept or token.local not in ("trans-unit", "segment"):
            continue
        source, target = elements.child(number, "source"), elements.child(number, "target")
        if source is None:
            continue
        after = elements.child(number, "seg-source") or source
        prefix = elements.tokens[source].name.removesuffix("source")
        state = f' state="{_REVIEW}"' if token.local == "trans-unit" else ""
        unit, changes = _fill(elements, source, target, after, f"<{prefix}target{state}>")
        if unit:
            units.append(unit)
            edits += changes
            if token.local == "segment" and elements.value(number, "state") == "initial":
                edits += [(a, b, "translated") for each, a, b in attributes(elements.text, token) if each == "state"]
    return TextDocument(name, elements.text, elements.codec, units, edits)


def read_tmx(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A TMX file: units with a text in the source's language and none in the target's get one.

    Raises:
        RequestError: it is damaged.
    """
    elements = _Elements(data, name)
    elements.require("tmx")
    units = []
    for number in elements.opened("tu"):
        variants = [each for each in elements.children(number) if elements.tokens[each].local == "tuv"]
        found = {_language(elements, each): each for each in reversed(variants)}
        source, target = found.get(base_language(pair.source)), found.get(base_language(pair.target))
        segment = elements.child(source, "seg") if source is not None else None
        if segment is None:
            continue
        if target is not None and (filled := elements.child(target, "seg")) is not None:
            unit, _ = _fill(elements, segment, filled, segment, "<seg>")
        else:
            unit, _ = _fill(elements, segment, None, variants[-1], f'<tuv xml:lang="{pair.target}"><seg>')
            finish = _within(f'{elements.indentation(variants[0])}<tuv xml:lang="{pair.target}"><seg>', "</seg></tuv>")
            unit = unit and Unit(unit.marked, unit.start, unit.end, escape, finish, True)
        if unit:
            units.append(unit)
    return TextDocument(name, elements.text, elements.codec, units)


def tmx_translations(data: bytes, name: str, pair: Pair) -> dict[str, str]:
    """The translations of a TMX file, by their sources on one line and without codes; of several the last.

    Raises:
        RequestError: it is damaged, or has none of the pair.
    """
    elements = _Elements(data, name)
    elements.require("tmx")
    found = {}
    for number in elements.opened("tu"):
        texts = {}
        for variant in elements.children(number):
            segment = elements.child(variant, "seg") if elements.tokens[variant].local == "tuv" else None
            if segment is not None:
                text = " ".join("".join(each for each in elements.content(segment) if isinstance(each, str)).split())
                texts[_language(elements, variant)] = text
        source, target = texts.get(base_language(pair.source)), texts.get(base_language(pair.target))
        if source and target:
            found[source] = target
    if not found:
        raise RequestError(f"{name} holds no translations of {pair}.")
    return found


def tbx_terms(data: bytes, name: str, pair: Pair) -> dict[str, str]:
    """The terms of a TBX file with their translations, each the first of its concept.

    Raises:
        RequestError: it is damaged, or has none of the pair.
    """
    elements = _Elements(data, name)
    found = {}
    for number in (*elements.opened("termEntry"), *elements.opened("conceptEntry")):
        texts: dict[str, list[str]] = {}
        for part in elements.children(number):
            if elements.tokens[part].local in ("langSet", "langSec"):
                inside = range(part, elements.ends[part])
                terms = (
                    at for at in inside if elements.tokens[at].kind == "open" and elements.tokens[at].local == "term"
                )
                texts[_language(elements, part)] = [" ".join(plain(elements.content(at)).split()) for at in terms]
        sources, targets = texts.get(base_language(pair.source), []), texts.get(base_language(pair.target), [])
        found |= {source: targets[0] for source in sources if source and targets and targets[0]}
    if not found:
        raise RequestError(f"{name} holds no terms of {pair}.")
    return found


def _language(elements: _Elements, number: int) -> str:
    said = elements.value(number, "xml:lang") or elements.value(number, "lang") or ""
    return base_language(said.lower())


def read_resx(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A .resx file: values that are text; what has a type, as pictures in base64 have, stays.

    Raises:
        RequestError: it is damaged.
    """
    elements = _Elements(data, name)
    elements.require("root")
    units = []
    for number in elements.opened("data"):
        if elements.value(number, "mimetype") is not None:
            continue
        kind, key = elements.value(number, "type") or "System.String", elements.value(number, "name") or ""
        value = elements.child(number, "value")
        if value is not None and kind.startswith("System.String") and not key.startswith((">>", "$this.Name")):
            units += _lines(elements.text, elements.tokens[value + 1 : elements.ends[value]])
    return TextDocument(name, elements.text, elements.codec, units)


def _lines(text: str, tokens: Sequence[Token]) -> Iterator[Unit]:
    """A unit for each line of a value."""
    for token in tokens:
        if token.kind == "text":
            for line in re.finditer(r"[^\r\n]+", text[token.start : token.end]):
                start, end = token.start + line.start(), token.start + line.end()
                yield Unit((html.unescape(text[start:end]),), start, end, escape)
