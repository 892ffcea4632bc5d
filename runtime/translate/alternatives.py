"""Other translations of a sentence: greedy ones that begin with the second likeliest token, the third, and so on."""

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from queue import SimpleQueue

from runtime.engines.base import Writer
from runtime.text.markup import Marked
from runtime.text.pairs import Pair
from runtime.translate.checks import Asked
from runtime.translate.glossary import Glossary
from runtime.translate.paragraphs import Paragraph, ParagraphTranslator
from runtime.translate.remedies import Remedies, Tries
from runtime.translate.segments import Try


class Alternative(Remedies):
    """One try of each sentence; what is wrong with it is marked, and nothing is tried again.

    Args:
        glossary: terms that it must have.
        rank: the likeliest first token (0), the second (1) ...
    """

    def __init__(self, engine: Writer, pair: Pair, glossary: Glossary | None, rank: int) -> None:
        super().__init__(engine, pair, glossary)
        self._rank = rank

    def _tries(self, asked: Asked) -> Tries:
        return asked.checked((yield Try(asked.source, rank=self._rank)))


def tries_of(engine: Writer, pair: Pair, glossary: Glossary | None, rank: int) -> Remedies:
    """How sentences are tried: the best translation (0), or an alternative of a rank above."""
    return Alternative(engine, pair, glossary, rank) if rank else Remedies(engine, pair, glossary)


def distinct(best: str, others: Iterable[str | None]) -> list[str]:
    """The alternatives that differ from the best translation and from each other, in order."""
    return [text for text in dict.fromkeys(others) if text and text != best]


def with_alternatives(
    translators: Sequence[ParagraphTranslator], paragraphs: Iterable[Marked]
) -> Generator[tuple[Paragraph, ...]]:
    """Each paragraph by all translators, the best translation first; as soon as those before it are done.

    Only the first one reads ``paragraphs``, so that a terminal's next line is not waited for.
    """
    queues = [SimpleQueue[Marked | None]() for _ in translators[1:]]

    def told() -> Iterator[Marked]:
        try:
            for paragraph in paragraphs:
                for queue in queues:
                    queue.put(paragraph)
                yield paragraph
        finally:
            for queue in queues:
                queue.put(None)

    with contextlib.ExitStack() as stack:
        sources = [told(), *(iter(queue.get, None) for queue in queues)]
        streams = [
            stack.enter_context(contextlib.closing(translator.translate(source)))
            for translator, source in zip(translators, sources)
        ]
        yield from zip(*streams)
