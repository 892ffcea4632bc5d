"""Language pairs: ``en-de`` means from English into German, ``en-pt-BR`` into Brazilian Portuguese."""

from dataclasses import dataclass

from runtime.errors import RequestError
from runtime.text.languages import LANGUAGES, base_language, find_language


@dataclass(frozen=True)
class Pair:
    """A translation direction by the codes of runtime/text/languages.py."""

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

    @property
    def base(self) -> "Pair":
        """The same without scripts and regions; its two languages may be one."""
        return Pair(base_language(self.source), base_language(self.target))


def planned_pair(text: str) -> Pair | None:
    """The pair that a plan was made for; None where that is none, or several (``en-de + de-en``)."""
    return parse_pair(text) if text and " + " not in text else None


def parse_pair(text: str) -> Pair:
    """Read ``en-de``, ``pt-BR-en`` or ``zh-Hans-zh-Hant``; case does not matter, and ``_`` may stand within a code.

    Raises:
        RequestError: not two different known codes joined by a hyphen.
    """
    parts = text.strip().replace("_", "-").split("-")
    splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))] or [(text.strip(), "")]
    known = [(find_language(source), find_language(target)) for source, target in splits]
    for source, target in known:
        if source and target and source != target:
            return Pair(source, target)
    unknown = [code for code in splits[0] if code and not find_language(code)]
    reason = f"unknown language {unknown[0]!r}" if unknown else "two different languages are needed"
    raise RequestError(
        f"'{text}' is not a language pair ({reason}); known codes: {', '.join(sorted(LANGUAGES))}.",
        next_command="the same command with a pair such as en-de or en-pt-BR",
    )
