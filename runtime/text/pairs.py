"""Languages and language pairs: ``en-de`` means from English into German."""

from dataclasses import dataclass

from runtime.errors import RequestError

# ISO 639-1 codes and the English names that prompts use.
LANGUAGES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


@dataclass(frozen=True)
class Pair:
    """A translation direction by ISO 639-1 codes."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"

    @property
    def source_name(self) -> str:
        return LANGUAGES[self.source]

    @property
    def target_name(self) -> str:
        return LANGUAGES[self.target]


def planned_pair(text: str) -> Pair | None:
    """The pair that a plan was made for; None where that is none, or several (``en-de + de-en``)."""
    return parse_pair(text) if text and " + " not in text else None


def parse_pair(text: str) -> Pair:
    """Read ``en-de``.

    Raises:
        RequestError: not two different known codes joined by a hyphen.
    """
    source, _, target = text.strip().lower().partition("-")
    unknown = [code for code in (source, target) if code not in LANGUAGES]
    if unknown or source == target:
        reason = f"unknown language {unknown[0]!r}" if unknown and unknown[0] else "two different languages are needed"
        raise RequestError(
            f"'{text}' is not a language pair ({reason}); known codes: {', '.join(sorted(LANGUAGES))}.",
            next_command="the same command with a pair such as en-de",
        )
    return Pair(source, target)
