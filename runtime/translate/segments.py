"""Translate segments with a loaded engine: prompt, greedy decoding in batches, text."""

import contextlib
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import takewhile

from runtime.engines import Engine, Generation, PromptTooLong, Request
from runtime.engines.scheduler import Scheduler
from runtime.errors import RequestError
from runtime.text.lines import one_line
from runtime.text.pairs import Pair, planned_pair
from runtime.text.sentences import in_one
from runtime.text.special_tokens import PromptText
from runtime.text.thinking import without_thoughts
from runtime.translate.order import in_order

# What a translation may be marked with, from bad to worse, and what is said of it.
SAID = {
    "terms": "does not follow the glossary in {lost}",
    "values": "has lost {lost}",
    "copied": "is the same as its source",
    "unfinished": "did not come to an end",
    "looping": "repeats itself",
    "empty": "came out empty",
    "placeholders": "has lost {lost}",
    "refused": "is too long",
}
Sentence = tuple[str, str]  # and its translation
LOOK_AHEAD = 4  # segments read for each place of a batch before the first of them is given back


@dataclass(frozen=True)
class Translation:
    """A segment's translation and what it took."""

    source: str
    text: str  # as the model wrote it, without white space around it
    generation: Generation | None  # None where there was nothing to translate, or no room for it
    refused: str = ""  # why there was no room, as a sentence

    @property
    def trouble(self) -> str:
        """What is wrong with it: ``refused``, ``empty`` or ``unfinished``; else nothing, as where the source is empty."""
        if self.refused or not self.text:
            return "refused" if self.refused else "empty" if self.source.strip() else ""
        return "unfinished" if self.generation is not None and not self.generation.finished else ""

    @property
    def said(self) -> str:
        """What is wrong, for a sentence about the translation."""
        return SAID.get(self.trouble, "")

    @property
    def in_place(self) -> str:
        """The text as it takes the source's place: in the same white space, and on one line where the source is."""
        source = self.source.strip()
        if not source or not self.text:
            return self.text if source else self.source
        start = self.source.index(source)
        text = self.text if "\n" in source else one_line(self.text)
        return self.source[:start] + text + self.source[start + len(source) :]


@dataclass(frozen=True)
class Try:
    """A segment, and how its translation is written.

    Attributes:
        until_loop, no_repeat, watched, rank: as of ``runtime.engines.Request``.
        begins: what the translation begins with.
        before: sentences that stand before it, with their translations: the model reads the ones and has written the
            others when it begins. Without as many of the first as the context has no room for.
    """

    segment: str
    until_loop: bool = True
    no_repeat: int = 0
    begins: str = ""
    watched: tuple[int, ...] = ()
    rank: int = 0
    before: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class Pending:
    """A segment that is being translated.

    ``generating`` is what to wait for, or to cancel; None where there is nothing to translate, or no room for it.
    """

    source: str
    generating: Future[Generation] | None
    refused: str = ""
    decode: Callable[[Sequence[int]], str] | None = None  # where a context was given: its tokens come first
    context: int = 0

    def cancel(self) -> None:
        """End it at its next token."""
        if self.generating is not None:
            self.generating.cancel()

    def result(self) -> Translation:
        """The translation, once it is there.

        Raises:
            WorkError: the engine failed.
            CancelledError: it was cancelled.
        """
        if self.generating is None:
            return Translation(self.source, "", None, self.refused)
        try:
            generation = self.generating.result()
        except RequestError as error:  # memory is short
            return Translation(self.source, "", None, error.sentence)
        if self.decode:
            ids, margins = generation.token_ids[self.context :], generation.margins[self.context :]
            generation = replace(generation, token_ids=ids, text=self.decode(ids), margins=margins)
        return Translation(self.source, _tidy(generation.text, self.source.strip()), generation)


def known_pair(engine: Engine) -> Pair:
    """The pair that the engine's model was cut for.

    Raises:
        RequestError: none, or several.
    """
    if pair := planned_pair(engine.pruned_for):
        return pair
    said = f"was cut for {engine.pruned_for}" if engine.pruned_for else "names no language pair"
    raise RequestError(f"The model {said}: say which one with --pair.", next_command="the same with --pair en-de")


def output_limit(prompt_tokens: int) -> int:
    """Tokens a translation may take: twice its prompt and a little, which stops loops and cuts no honest translation."""
    return 2 * prompt_tokens + 16


def _tidy(text: str, source: str) -> str:
    """A model's answer as a translation: without thoughts and white space around it, on one line where the source is."""
    text = without_thoughts(text, source).strip()
    return text if "\n" in source else re.sub(r"\s*[\r\n]\s*", " ", text)


class _Pieces:
    """Tells a translation piece by piece, as its tokens come; half a character waits for its other half."""

    def __init__(self, engine: Engine, source: str, tell: Callable[[str], object]) -> None:
        self._engine, self._source, self._tell = engine, source, tell
        self._ids: list[int] = []
        self._told = ""

    def add(self, token: int) -> None:
        self._ids.append(token)
        text = _tidy(self._engine.decode(self._ids), self._source)
        if text.startswith(self._told) and text != self._told and not text.endswith("\ufffd"):
            self._tell(text[len(self._told) :])
            self._told = text


class SegmentTranslator:
    """Translates segments of one pair through a scheduler, which may serve others meanwhile, from any thread.

    Args:
        exact: compute each prompt whole, so that with one place the text is that of ``Engine.generate``; else what the
            prompts of the pair begin with is computed once.
        beam: as of ``runtime.engines.Request``, for all segments.
    """

    def __init__(self, engine: Engine, pair: Pair, scheduler: Scheduler, exact: bool = False, beam: int = 1) -> None:
        self._engine, self._pair, self._scheduler, self._beam = engine, pair, scheduler, beam
        prompts = [] if exact else [self._prompt(text) for text in ("a", "The Z.", "1")]
        shared = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts))
        self._prefix = tuple(first for first, *_ in shared)

    def _prompt(self, text: str) -> list[int]:
        return self._engine.encode(self._engine.template.prompt(self._pair, text))

    def _after(
        self, before: Sequence[Sentence], source: str, limit: int
    ) -> tuple[str, list[int], tuple[int, ...]] | None:
        """A text with as many of the sentences before it as there is room for, its prompt, and the tokens written for them."""
        for first in range(len(before)):
            sources, translations = zip(*before[first:])
            read, written = in_one((*sources, source)), in_one(translations)
            ids = self._prompt(read)
            begun = self._engine.encode(PromptText(written, [slice(0, len(written))]))
            if len(ids) + len(begun) + limit <= self._engine.context:
                return read, ids, tuple(begun)
        return None

    def submit(self, asked: Try, on_text: Callable[[str], object] | None = None) -> Pending:
        """Translate one segment; an empty one stays empty, and so does one that fills the context (``refused``).

        Args:
            on_text: is called by the decoding thread with each piece of the translation.
        """
        source = asked.segment.strip()
        if not source:
            return Pending(asked.segment, None)
        alone = self._prompt(source)
        limit = output_limit(len(alone))
        read, ids, context = self._after(asked.before, source, limit) or (source, alone, ())
        begins = PromptText(asked.begins, [slice(0, len(asked.begins))])
        request = Request(
            ids,
            limit + len(context),
            source=read,
            prefix=self._prefix,
            on_token=_Pieces(self._engine, source, on_text).add if on_text else None,
            until_loop=asked.until_loop,
            no_repeat=asked.no_repeat,
            begun=(*context, *(self._engine.encode(begins) if begins else ())),
            watched=asked.watched,
            rank=asked.rank,
            beam=self._beam,
        )
        try:
            generating = self._scheduler.submit(request)
            return Pending(asked.segment, generating, "", self._engine.decode if context else None, len(context))
        except PromptTooLong as error:
            return Pending(asked.segment, None, error.sentence)

    def translate(self, segments: Iterable[str]) -> Generator[Translation]:
        """Translate segments in order; each is given back as soon as it and those before it are done.

        A thread of its own reads ``segments``, a few ahead.
        """
        return in_order(lambda segment: self.submit(Try(segment, until_loop=False)), segments, LOOK_AHEAD * self.places)

    @property
    def places(self) -> int:
        """How many segments are translated at a time."""
        return self._scheduler.workers * self._scheduler.places


def translate(
    engine: Engine,
    pair: Pair,
    segments: Iterable[str],
    workers: int | None = None,
    exact: bool = False,
    beam: int = 1,
) -> Generator[Translation]:
    """Translate segments in order, in batches; each is given back as soon as it and those before it are done.

    Args:
        workers: batches decoded side by side; default: what suits the engine (``Engine.thread_choice``).
        exact: one segment in each batch: the text is then the same whatever is translated beside it.
        beam: partial translations that are followed of each segment; 1: greedy.
    """
    with contextlib.closing(Scheduler(engine, workers, 1 if exact else None)) as scheduler:
        yield from SegmentTranslator(engine, pair, scheduler, exact, beam).translate(segments)
