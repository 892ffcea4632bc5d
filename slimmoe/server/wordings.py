"""What a message to a language model asks to be translated, and into what, in the wordings that programs use.

A wording names a target (``Translate the following text into German``, ``You are an English to German translator``,
``Target language: German``). In a message that also has the text, it stands before it, seldom behind it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.text.languages import LANGUAGES
from slimmoe.server.asked import Refused
from slimmoe.server.models import language_of

_TAIL = 100  # characters in which a label behind the text is looked for
_HEAD = 600  # characters in which a wording is looked for
_OTHER_NAMES = {
    **{f"{base} ({script.lower()})": code for code, (script, base) in
       {"zh-Hans": ("Simplified", "chinese"), "zh-Hant": ("Traditional", "chinese")}.items()},
    "mandarin": "zh", "chinese simplified": "zh-Hans", "chinese traditional": "zh-Hant",
    "portuguese (brazil)": "pt-BR", "portuguese (portugal)": "pt-PT", "norwegian bokmal": "nb", "castilian": "es",
}  # fmt: skip
_NAMES = {name.lower(): code for code, name in LANGUAGES.items()} | _OTHER_NAMES
_NAME = "|".join(re.escape(name) for name in sorted(_NAMES, key=len, reverse=True))
_LANGUAGE = rf"(?:{_NAME})(?!\w)|[`'\"“]?[a-z]{{2,3}}(?:[-_][A-Za-z]{{2,4}})?(?=[`'\"”:.,;)\]\n]|\s*$)"
_FROM = rf"(?:\bfrom\s+(?:the\s+)?(?P<source>{_LANGUAGE})\W{{0,3}}(?:\([\w-]+\)\W{{0,3}})?)?"
_WORDINGS = [
    re.compile(
        rf"\btranslat\w*\b(?P<between>\s+)(?P<source>{_NAME})\s*(?:to|into|-|–|->|→)\s*(?P<target>{_NAME})(?!\w)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\btranslat\w*\b(?P<between>.{{0,300}}?){_FROM}(?<!\w)(?:in)?to\s+(?:the\s+)?(?P<target>{_LANGUAGE})",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(
        rf"(?P<between>)(?P<source>{_NAME})\s*(?:to|into|-|–|->|→)\s*(?P<target>{_NAME})(?!\w)(?=.{{0,80}}translat)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<between>)(?:source\s+language\W+(?:is\s+)?(?P<source>{_LANGUAGE})\W+)?target\s+language\W+(?:is\s+)?"
        rf"(?P<target>{_LANGUAGE})",
        re.IGNORECASE,
    ),
]
_BEGINS = re.compile(r"\W{0,3}(?:please\s+|can you\s+|could you\s+)?translat", re.IGNORECASE)
_END = re.compile(r"[:：]\s*|\n\s*|(?<=[.。!?])\s+")
_LABEL = re.compile(r"\A\s*(?:(?:source|original|input)\s+)?(?:text|sentence|input|source)\s*[:：]\s*", re.IGNORECASE)
_LAST_LABEL = re.compile(rf"\n\s*(?:translat\w*(?:\s+text)?|output|target|{_NAME})\s*[:：]\s*\Z", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“„«'‘](.+)[\"”“»'’]", re.DOTALL)
_FENCE = re.compile(r"\A(```|\"\"\"|''')[^\S\n]*\n?(.*?)\n?\1\Z", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """A text, and languages as they were named: codes, empty where they were not."""

    text: str
    source: str
    target: str


@dataclass(frozen=True)
class _Found:
    source: str
    target: str
    start: int
    end: int
    between: str


def _code(name: str | None) -> str:
    name = (name or "").strip("`'\"“”").lower()
    return _NAMES.get(name) or language_of(name) or ""


def _find(text: str) -> _Found | None:
    """The first wording of a text."""
    for wording in _WORDINGS:
        match = wording.search(text[:_HEAD]) or wording.search(text, max(0, len(text) - _HEAD))
        if match and (target := _code(match["target"])):
            return _Found(_code(match["source"]), target, match.start(), match.end(), match["between"])
    return None


def _without(found: _Found, message: str) -> str:
    """The text of a message that has a wording too; empty where there is none."""
    rest = message[found.end :].lstrip("`'\"”")
    if (match := _END.search(rest)) and (text := rest[match.end() :]).strip():
        text = _LABEL.sub("", text)
        return text[:-_TAIL] + _LAST_LABEL.sub("", text[-_TAIL:])
    if quoted := _QUOTED.search(found.between):
        return quoted[1]
    before = message[: found.start].rstrip()
    return before if not _BEGINS.match(message) else ""


def wanted(messages: Sequence[tuple[str, str]], source: str = "", target: str = "") -> Wanted:
    """What a conversation wants translated: its last message of a user's, by what that or the system's messages say.

    Args:
        messages: role and text of each.
        source, target: where the model's name says them.

    Raises:
        Refused: there is no text, or nothing says into what.
    """
    users = [text for role, text in messages if role == "user"]
    if not users or not users[-1].strip():
        raise Refused(400, "There is no message of a user's to translate.")
    text, own = users[-1], _find(users[-1])
    if not target:
        system = "\n".join(text for role, text in messages if role in ("system", "developer"))
        if told := _find(system):
            source, target = told.source, told.target
    if own is not None and (not target or (_BEGINS.match(text) and own.target == target)):
        source, target = source or own.source, own.target
        text = _without(own, text)
    if not text.strip():
        raise Refused(400, "There is no text to translate behind the request for it.")
    if fence := _FENCE.match(text.strip()):
        text = fence[2]
    return Wanted(text, source, target)
