"""Other translations of a sentence: greedy ones that begin with the second likeliest token, the third, and so on."""

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from queue import SimpleQueue

from runtime.engines.base import Writer
from runtime.text.markup import Marked
from runtime.text.pairs import Pair
from runtime.text.values import lost_values, values
from runtime.translate.glossary import Glossary
from runtime.translate.paragraphs import Paragraph, ParagraphTranslator
from runtime.translate.remedies import CheckedTranslation, Remedies, Tries
from runtime.translate.segments import Try


class Alternative(Remedies):
    """One try of each sentence; what is wrong with it is marked, and nothing is tried again.

    Args:
        glossary: terms that it must have.
        rank: the likeliest first token (0), the second (1) ...
    """

    def __init__(self, engine: Writer, pair: Pair, glossary: Glossary | None, rank: int) -> None:
        super().__init__(engine, pair)
        self._target, self._terms, self._rank = pair.target, glossary, rank

    def tries(self, segment: str) -> Tries:
        source = segment.strip()
        if not source:
            return CheckedTranslation(segment, "", None)
        done = yield Try(source, rank=self._rank)
        lost, _ = lost_values(values(source, self._target), done.text)
        wanting = [each.text for each in lost]
        kind = done.trouble or ("values" if lost else "")
        if not kind and self._terms:
            wanting = [term.source for term in self._terms.find(source) if not term.is_in(done.text)]
            kind = "terms" if wanting else ""
        return CheckedTranslation(
            segment, done.text, done.generation, done.refused, (kind,) if kind else (), tuple(wanting)
        )


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
