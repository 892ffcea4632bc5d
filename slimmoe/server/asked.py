"""What every API's request becomes, what it is answered, and how it is refused."""

from dataclasses import dataclass, field

from runtime.text.pairs import Pair
from runtime.translate.glossary import Glossary, Term


class Refused(Exception):
    """A request that gets a status and one sentence; each API has its own form for them.

    Args:
        retry_after: seconds until it may be asked again.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        queue: requests under way.
        body, file: bytes of a request without and with a document.
        characters, texts: of one request, all its texts together.
        alternatives: of a text.
        seconds: until an answer, and for a request's own body to arrive.
        kept: bytes of documents that wait to be translated or fetched; for how many seconds those that are translated do.
    """

    queue: int = 64
    body: int = 4 << 20
    file: int = 64 << 20
    characters: int = 200_000
    texts: int = 2_000
    alternatives: int = 5
    seconds: float = 600
    body_seconds: float = 60
    kept: int = 512 << 20
    kept_seconds: float = 3600


@dataclass(frozen=True)
class Ask:
    """Texts to translate.

    Attributes:
        source: empty: told by the texts.
        model: the name of one; empty: the first that has the pair.
        html: the texts are HTML; else plain, each of their lines a paragraph.
        terms: a glossary's, by their sources.
        alternatives: how many other translations of each text are wanted; of HTML there are none.
    """

    texts: tuple[str, ...]
    target: str
    source: str = ""
    model: str = ""
    html: bool = False
    terms: tuple[tuple[str, str], ...] = ()
    alternatives: int = 0

    @property
    def glossary(self) -> Glossary | None:
        """The terms as what translates them wants them."""
        return Glossary(Term(*each) for each in self.terms) if self.terms else None


@dataclass(frozen=True)
class Chosen:
    """The model's name and the pair that a request goes by; of texts that are in the target's language already no model's.

    ``confidence``, 0 to 100, is that the source language is right where it was told by the text; None where it was asked for.
    """

    model: str
    pair: Pair
    confidence: float | None = None


@dataclass(frozen=True)
class Answer:
    """Translations and alternatives, one and several for each text, and the tokens that were read and written for them."""

    texts: list[str]
    chosen: Chosen
    read: int = 0
    written: int = 0
    alternatives: list[list[str]] = field(default_factory=list)
