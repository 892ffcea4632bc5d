"""Turn a raw segment pair into clean sentence pairs, or into nothing.

The filters are cheap and strict: a small model trained for an hour learns more from fewer, truer pairs.
"""

import html
import re
import unicodedata
from collections.abc import Iterator

LANGUAGES = ("de", "fr", "es", "it", "pt", "nl", "pl", "ru")

# Frequent function words. A segment that lacks its own language's, or is full of English ones, is not a translation.
FUNCTION_WORDS = {
    "en": "the of and is to this that with for are be from it by which an when you your not or as in can will a on",
    "de": "der die das und ist zu den mit für von ein eine einen dem des nicht wird werden sie auf sich kann auch als "
    "oder wenn im bei es zum in wie um aus an zur durch",
    "fr": "le la les et est de des un une pour dans que qui sur avec pas vous ce cette par en du au ou il sont être si "
    "à aux votre ne se plus",
    "es": "el la los las y es de un una para en que con por no se del al su como o este esta son si puede lo ha más a",
    "it": "il la le e è di un una per che con non si del della in da i gli lo al sono questo o come se può delle dei "
    "nel alla a",
    "pt": "o a os as e é de um uma para em que com por não se do da no na ao ou como este esta são pode dos das mais",
    "nl": "de het een en is van te voor met op dat niet die in wordt u zijn door kan of bij als aan om deze naar dit "
    "uit worden",
    "pl": "i w z na do nie się jest to o że po od za przez dla lub jak oraz można tego który która które ten ta są być "
    "aby jeśli gdy tylko może a ale co czy przy bez ze jego będzie tym te",
    "ru": "и в на не с для что это по из как к или от при если о все за можно только вы но есть так был быть будет может "
    "его её их он она этот эта этого до у же чтобы который а во со",
}
_FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_POD = re.compile(r"\b[A-Z]<(?!/)([^<>]*)>")
_EMPHASIS = re.compile(r"(?<!\w)([_*`+]{1,2})(?=\S)([^_*`+]{1,80}?)(?<=\S)\1(?!\w)")
_SPACE = re.compile("[\\s\u00a0\u200b\u00ad\u202f\u2060\ufeff]+")
_MARKUP = re.compile(r"%|[{}\\@<>|=^#*~]|\$[A-Za-z0-9({\[]|__|https?:|www\.|\S/\S+/|�|--|\[\[|\]\]|;;|::|&[a-zA-Z.]+;")
# What a program puts in or a reader's software shows: tags, printf's conversions, named and numbered fields.
MARKER = re.compile(r"</?[A-Za-z][^<>{}%]{0,60}>|%(?:\(\w+\)|\d+\$)?[sdiu]|%\d\b|\$\{\w+\}|\{\w*\}|\$\d\b")
_PROTECTED = re.compile("[\ue000-\ue0ff]")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NUMBER = re.compile(r"\d+")
_FOREIGN_SCRIPT = re.compile("[\u0370-\u1fff\u3040-\u9fff\uac00-\ud7af]")
_OWN_SCRIPT = {"ru": re.compile("[\u0400-\u04ff]")}  # needed in every text of the language
_SENTENCE_BREAK = re.compile(r"(?<=[.!?…])[\"”“»’)]*\s+(?=[\"„“«¿¡(‘]?[A-ZÀ-ÞĄĆĘŁŃŚŹŻЀ-Я])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Mr|Mrs|Dr|St|No|Nr|Fig|ca|bzw|usw|evtl|ggf|inkl|vgl|Abb|p\. ?ej|bijv|enz|o\.a|par ex|"
    r"z\. ?B|d\. ?h|u\. ?a|s\. ?u|o\. ?ä|u\. ?U|Sr|Ud|np|tzn|itp|itd|tj|"
    r"т\. ?е|т\. ?д|т\. ?п|напр|см|др)|\b[A-ZÄÖÜ]|\b\d+)\.$"
)


def normalise(text: str) -> str:
    """Lower-case words only: the key under which two segments count as the same."""
    return " ".join(word.lower() for word in _WORD.findall(text))


def clean_text(text: str, accelerators: str = "") -> str:
    """Strip markup, keyboard accelerators (a character class such as ``[_&]``) and odd spaces."""
    text = _POD.sub(r"\1", _POD.sub(r"\1", text))
    text = _TAG.sub("", html.unescape(_TAG.sub("", text)))
    text = _EMPHASIS.sub(r"\2", text)
    if accelerators and len(text) < 90:
        text = re.sub(rf"\s?\({accelerators}\w\)", "", text)
        text = re.sub(rf"{accelerators}(?=\w)", "", text)
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip(" •·")


def is_translation(english: str, other: str, language: str) -> bool:
    """Whether the pair looks like clean text and its translation into ``language``."""
    if not english or not other or len(english) > 500 or len(other) > 600 or english == other:
        return False
    own_script = _OWN_SCRIPT.get(language)
    if own_script and not own_script.search(other):
        return False
    for text in (english, own_script.sub("", other) if own_script else other):
        if _MARKUP.search(text) or _FOREIGN_SCRIPT.search(text):
            return False
    source, target = _WORD.findall(english.lower()), _WORD.findall(other.lower())
    if len(source) < 2 or not target:
        return False
    for text, words in ((english, source), (other, target)):
        if sum(map(len, words)) < 0.8 * (len(text) - text.count(" ")):
            return False
    low, high = (0.5, 2.2) if len(english) > 40 else (0.4, 3.0)
    if not low < len(other) / len(english) < high or not 0.4 < len(target) / len(source) < 2.5:
        return False
    if len(set(source) & set(target)) > 0.5 * min(len(set(source)), len(set(target))):
        return False
    own = sum(word in _FUNCTION_WORDS[language] for word in target)
    foreign = sum(word in _FUNCTION_WORDS["en"] and word not in _FUNCTION_WORDS[language] for word in target)
    if (foreign >= 2 and foreign >= own) or (len(target) >= 8 and own == 0):
        return False
    if len(source) >= 8 and not any(word in _FUNCTION_WORDS["en"] for word in source):
        return False
    return set(_NUMBER.findall(english)) == set(_NUMBER.findall(other))


def split_sentences(text: str) -> list[str]:
    """Split at sentence ends that are followed by a capital, abbreviations apart."""
    parts, start = [], 0
    for match in _SENTENCE_BREAK.finditer(text):
        head = text[start : match.end()].strip()
        if not _ABBREVIATION.search(head):
            parts.append(head)
            start = match.end()
    return [part for part in [*parts, text[start:].strip()] if part]


def sentence_pairs(english: str, other: str, language: str, accelerators: str = "") -> Iterator[tuple[str, str]]:
    """Clean a segment pair and split it where both sides split alike; yields (english, other)."""
    english, other = clean_text(english, accelerators), clean_text(other, accelerators)
    pairs = [(english, other)]
    left, right = split_sentences(english), split_sentences(other)
    if len(left) > 1 or len(right) > 1:
        if len(left) != len(right):
            return
        stretch = (len(other) + 1) / (len(english) + 1)
        balanced = all(0.5 < (len(b) / stretch + 12) / (len(a) + 12) < 2.0 for a, b in zip(left, right))
        if not balanced:
            return
        pairs = list(zip(left, right))
    for a, b in pairs:
        if is_translation(a, b, language):
            yield a, b


def marked_pair(english: str, other: str, language: str, accelerators: str = "") -> Iterator[tuple[str, str]]:
    """The pair with its tags and placeholders kept, where both sides have the same ones and are else clean text."""
    markers = MARKER.findall(english)
    if not 0 < len(markers) < 8 or sorted(markers) != sorted(MARKER.findall(other)) or "\ue000" in english + other:
        return
    kinds = sorted(set(markers))
    sides = []
    for text in (english, other):
        shielded = MARKER.sub(lambda match: chr(0xE000 + kinds.index(match[0])), text)  # accelerators look alike: _
        sides.append(clean_text(shielded, accelerators))
    plain = [" ".join(_PROTECTED.sub("", side).split()) for side in sides]
    if len(plain[0].split()) > 2 and is_translation(plain[0], plain[1], language):
        a, b = (_PROTECTED.sub(lambda match: kinds[ord(match[0]) - 0xE000], side) for side in sides)
        yield a, b


def is_sentence(text: str) -> bool:
    """A full sentence of 5 to 40 words: what the held-out sets consist of."""
    return 5 <= len(text.split()) <= 40 and text[0].isupper() and text.rstrip('"”»“)')[-1:] in ".!?"
