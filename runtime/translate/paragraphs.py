"""Paragraphs of any length and with codes in them, translated sentence by sentence and joined with their own white space."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from runtime.engines import Engine
from runtime.text.lines import one_line
from runtime.text.markup import (
    Code,
    Marked,
    cut,
    is_text,
    joined,
    plain,
    protect,
    readable,
    trimmed,
    with_codes,
    without_codes,
)
from runtime.text.pairs import Pair
from runtime.text.sentences import cut_at_spaces, split_sentences
from runtime.translate.segments import Translation

LONGEST = 1024  # tokens of a piece that is translated at once
# One translation for each text, in order, each as soon as it is there; placeholders in it are kept.
Translate = Callable[[Iterable[str]], Iterator[Translation]]


class Memory(Protocol):
    """Translations that are there already."""

    def get(self, source: str) -> str | None: ...

    def put(self, source: str, translation: str) -> None: ...


@dataclass
class Sentence:
    """A sentence: what stands before, in and after the text to translate; no text where there is nothing to translate."""

    head: Marked
    core: Marked
    tail: Marked


@dataclass
class Paragraph:
    """A translated paragraph.

    Attributes:
        marked: the translation in the place of the source, with its codes and its white space.
        sentences: how many of its sentences had text.
        troubles: those with which something went wrong; the source stays in place of ``empty`` and ``refused`` ones.
    """

    marked: Marked = ()
    sentences: int = 0
    troubles: list[Translation] = field(default_factory=list)


def room(engine: Engine, pair: Pair) -> Callable[[str], int]:
    """A function that gives the characters a piece of a text may have where it is too long for the context, else 0.

    A third of what the context has left by the instruction is for the text: a translation may take twice as much. What
    has more than LONGEST tokens is no sentence, and its cache would take much memory.
    """
    free = engine.context - len(engine.encode(engine.template.prompt(pair, "")))
    budget = min(max(16, free // 3), LONGEST)

    def limit(text: str) -> int:
        if len(text) * 4 <= budget:  # a token is at least a byte
            return 0
        tokens = len(engine.encode(engine.template.prompt(pair, text[: 16 * budget])))
        some = min(len(text), 16 * budget)
        return 0 if tokens <= budget and some == len(text) else max(1, int(0.9 * some * budget / tokens))

    return limit


def sentences_of(marked: Marked, language: str, limit: Callable[[str], int] | None = None) -> list[Sentence]:
    """The sentences of a paragraph; joined they are the paragraph, tags and placeholders around a text as codes.

    Args:
        language: of the text.
        limit: the characters that a piece may have of a text that is too long, else 0.
    """
    if breaks := [number for number, piece in enumerate(marked) if isinstance(piece, Code) and piece.kind == "break"]:
        begins = [0, *(number + 1 for number in breaks)]
        lines = [marked[begin:end] for begin, end in zip(begins, [*breaks, len(marked)])]
        ends = [[Sentence((marked[number],), (), ())] for number in breaks] + [[]]
        return [each for line, end in zip(lines, ends) for each in (*sentences_of(line, language, limit), *end)]
    pieces = split_sentences(plain(marked), language)
    if limit:
        pieces = [part for each in pieces for part in cut_at_spaces(each, limit(each) or len(each))]
    found = []
    for piece in cut(marked, map(len, pieces)):
        head, core, tail = trimmed(protect(piece))
        found.append(
            Sentence(head, readable(core), tail) if is_text(plain(core)) else Sentence((*head, *core, *tail), (), ())
        )
    return found


def translate_marked(segments: Iterable[Marked], translate: Translate) -> Iterator[tuple[Marked, Translation]]:
    """Segments with codes as their translations, with each code once; an empty one comes back at once.

    What is translated is the text without codes; each is put back by its relative place.
    """
    waiting: deque[Marked] = deque()

    def texts() -> Iterator[str]:
        for segment in segments:
            waiting.append(segment)
            yield without_codes(segment)[0]

    for done in translate(texts()):
        segment = waiting.popleft()
        yield (with_codes(segment, one_line(done.text)) if done.text else segment), done


class ParagraphTranslator:
    """Translates paragraphs with whatever translates texts.

    Args:
        translate: translates texts of one sentence or so.
        language: of the paragraphs.
        limit: as of ``sentences_of``.
        memory: is asked first and keeps what was translated.
    """

    def __init__(
        self,
        translate: Translate,
        language: str,
        limit: Callable[[str], int] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._translate, self._language, self._limit, self._memory = translate, language, limit, memory

    def translate(self, paragraphs: Iterable[Marked]) -> Generator[Paragraph]:
        """Paragraphs as translations, in order, each as soon as it and those before it are done."""
        plans: deque[tuple[Marked, list[Sentence], list[str | None]]] = deque()

        def cores() -> Iterator[Marked]:
            for marked in paragraphs:
                sentences = sentences_of(marked, self._language, self._limit)
                known = [self._known(sentence) for sentence in sentences] or [None]
                plans.append((marked, sentences, known))
                for sentence, found in zip(sentences or [Sentence((), (), ())], known):
                    yield () if found is not None else sentence.core  # an empty one keeps the order

        results: list[tuple[Marked, Translation]] = []
        for result in translate_marked(cores(), self._translate):
            results.append(result)
            if self._memory is not None and result[1].source and not result[1].trouble:
                self._memory.put(result[1].source, result[1].text)
            if len(results) == len(plans[0][2]):
                yield self._joined(*plans.popleft(), results)
                results = []

    def _known(self, sentence: Sentence) -> str | None:
        if self._memory is None or not sentence.core:
            return None
        return self._memory.get(without_codes(sentence.core)[0])

    def _joined(
        self,
        marked: Marked,
        sentences: list[Sentence],
        known: list[str | None],
        results: list[tuple[Marked, Translation]],
    ) -> Paragraph:
        done = Paragraph(sentences=sum(bool(sentence.core) for sentence in sentences))
        pieces: list[str | Code] = []
        for sentence, found, (core, result) in zip(sentences, known, results):
            if found is not None:
                core = with_codes(sentence.core, found)
            elif sentence.core and result.trouble:
                done.troubles.append(result)
            pieces += [*sentence.head, *core, *sentence.tail]
        done.marked = joined(pieces)
        return done
