"""PO files and templates: what has no translation yet gets one; all else, fuzzy and obsolete entries too, stays."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runtime.errors import RequestError
from runtime.text.languages import base_language
from runtime.text.markup import Code, Marked
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Codec, Edit, TextDocument, Unit, decode_document, span_code
from runtime.translate.documents.strings import line_spans

_CHARSET = re.compile(rb"charset=([\w.:-]+)", re.IGNORECASE)
_LINE = re.compile(
    r"""[ \t]*(?:(?P<comment>\#[^\n]*)
      | (?:(?P<keyword>msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)[ \t]*)?(?P<text>"(?:\\.|[^"\\\r\n])*"))?
    [ \t]*\r?(?:\n|$)""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_WRITTEN = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})
_SLAVIC = "n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);"
# How many plural forms a language has and which is used, as gettext's manual lists them.
_PLURALS = {
    **dict.fromkeys(("ja", "zh", "ko", "vi", "th", "id", "ms"), "nplurals=1; plural=0;"),
    **dict.fromkeys(
        ("de", "en", "nl", "sv", "da", "no", "nb", "fi", "et", "es", "it", "pt", "el", "hu", "bg", "he", "ca"),
        "nplurals=2; plural=(n != 1);",
    ),
    **dict.fromkeys(("fr", "pt-BR", "tr"), "nplurals=2; plural=(n > 1);"),
    **dict.fromkeys(("cs", "sk"), "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;"),
    "pl": f"nplurals=3; plural=(n==1 ? 0 : {_SLAVIC}",
    **dict.fromkeys(("ru", "uk", "sr", "hr"), f"nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : {_SLAVIC}"),
    "ar": "nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5);",
}


@dataclass
class _Entry:
    """A message: for each keyword the ranges of its quoted lines."""

    texts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    fuzzy: bool = False

    def raw(self, text: str, keyword: str) -> str:
        return "".join(text[start + 1 : end - 1] for start, end in self.texts.get(keyword, ()))


def _entries(text: str, name: str) -> Iterator[_Entry]:
    entry, keyword, number, at = _Entry(), "", 0, 0
    while at < len(text):
        number += 1
        match = _LINE.match(text, at)
        if not match or (match["text"] and not match["keyword"] and not keyword):
            raise RequestError(f"{name} is no PO file (line {number}).", next_command=f"msgfmt -c {name}")
        at = match.end()
        begins = match["comment"] or match["keyword"] in ("msgctxt", "msgid")
        if begins and any(each.startswith("msgstr") for each in entry.texts):
            yield entry
            entry = _Entry()
        if match["comment"]:
            entry.fuzzy |= bool(re.match(r"#,.*\bfuzzy\b", match["comment"]))
            keyword = ""
        elif match["text"]:
            keyword = match["keyword"] or keyword
            entry.texts.setdefault(keyword, []).append(match.span("text"))
    if entry.texts:
        yield entry


def _marked(text: str, ranges: list[tuple[int, int]]) -> Marked:
    """The text of quoted lines, with the line breaks in it as ends of lines."""
    pieces: list[str | Code] = []
    for start, end in ranges:
        lines = list(line_spans(text, start + 1, end - 1))
        for number, (begin, stop) in enumerate(lines):
            raw = text[begin:stop]
            if raw:
                shown = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), raw)
                if pieces and isinstance(pieces[-1], str):
                    pieces[-1] += shown
                else:
                    pieces.append(shown)
            if number + 1 < len(lines):
                pieces.append(span_code(text, stop, stop + 2, "break"))
    return tuple(pieces)


def _quoted(newline: str, before: str = "") -> Callable[[str], str]:
    """A function that puts a value into quotes, with a line for each of its lines where it has several."""

    def finish(value: str) -> str:
        lines = re.findall(r"(?:\\[^n]|[^\\])*\\n|(?:\\[^n]|[^\\])+$", value)
        several = ['""', *(f'"{line}"' for line in lines)] if len(lines) > 1 else [f'"{value}"']
        return before + newline.join(several)

    return finish


def _plural_count(header: str, pair: Pair) -> int | None:
    if said := re.search(r"nplurals\s*=\s*(\d+)", header):
        return int(said[1])
    known = _PLURALS.get(pair.target) or _PLURALS.get(base_language(pair.target))
    return int(known[9]) if known else None


def _header_edits(text: str, entry: _Entry, pair: Pair, name: str, has_translations: bool) -> list[Edit]:
    """The header's language and plural forms.

    Raises:
        RequestError: it is a translation into another language.
    """
    start, end = entry.texts["msgstr"][0][0], entry.texts["msgstr"][-1][1]
    edits = []
    if language := re.compile(r'"Language:[ \t]*([^\\"]*)\\n').search(text, start, end):
        said = language[1].strip()
        if said and base_language(said.replace("_", "-").lower()) != base_language(pair.target) and has_translations:
            raise RequestError(
                f"{name} is a translation into {said}.", next_command="the same command with its .pot file"
            )
        if not said or base_language(said.replace("_", "-")) != base_language(pair.target):
            space = "" if text[language.start(1) - 1].isspace() else " "
            edits.append((*language.span(1), space + pair.target.replace("-", "_")))
    known = _PLURALS.get(pair.target) or _PLURALS.get(base_language(pair.target))
    plural = re.compile(r'"Plural-Forms:[ \t]*(nplurals=INTEGER; plural=EXPRESSION;)').search(text, start, end)
    if known and plural:
        edits.append((*plural.span(1), known))
    if charset := re.compile(r"charset=(CHARSET|ASCII|US-ASCII)(?=\\n)", re.IGNORECASE).search(text, start, end):
        edits.append((*charset.span(1), "UTF-8"))
    return edits


def _units(text: str, entry: _Entry, count: int | None, newline: str) -> Iterator[Unit]:
    """Units that fill an entry's empty translations."""
    single, plural = entry.texts["msgid"], entry.texts.get("msgid_plural")
    forms = {key: ranges for key, ranges in entry.texts.items() if key.startswith("msgstr")}

    def unit(source: list[tuple[int, int]], start: int, end: int, before: str = "") -> Unit:
        return Unit(
            _marked(text, source), start, end, lambda each: each.translate(_WRITTEN), _quoted(newline, before), True
        )

    for key, ranges in forms.items():
        one = key in ("msgstr", "msgstr[0]") and not (count == 1 and plural)
        yield unit(single if one or not plural else plural, ranges[0][0], ranges[-1][1])
    if plural and count:
        end = list(forms.values())[-1][-1][1]
        for number in range(len(forms), count):
            yield unit(plural, end, end, f"{newline}msgstr[{number}] ")


def read_po(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A PO file or a template.

    Raises:
        RequestError: it is damaged, in another encoding than it says, or a translation into another language.
    """
    said = _CHARSET.search(data[:8192])
    charset = said[1].decode() if said else "utf-8"
    ascii_only = charset.upper() in ("CHARSET", "ASCII", "US-ASCII")
    text, codec = decode_document(data, name, None if ascii_only else charset)
    codec = Codec(codec.prefix, "utf-8") if ascii_only else codec
    entries = list(_entries(text, name))
    header = next((each for each in entries if "msgctxt" not in each.texts and not each.raw(text, "msgid")), None)
    messages = [each for each in entries if each is not header and each.raw(text, "msgid")]
    count = _plural_count(header.raw(text, "msgstr") if header else "", pair)
    newline = "\r\n" if "\r\n" in text else "\n"
    units, has_translations = [], False
    for entry in messages:
        forms = [key for key in entry.texts if key.startswith("msgstr")]
        if not forms:
            raise RequestError(f"{name} is no PO file: a message lacks msgstr.", next_command=f"msgfmt -c {name}")
        if any(entry.raw(text, key) for key in forms):
            has_translations = True
        elif not entry.fuzzy:
            units += _units(text, entry, count, newline)
    edits = []
    if header and "msgstr" in header.texts:
        edits = _header_edits(text, header, pair, name, has_translations)
    return TextDocument(name, text, codec, units, edits)
