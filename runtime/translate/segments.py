"""Translate segments with a loaded engine: prompt, greedy decoding, text."""

import re
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, Queue

from runtime.engines import Engine, Generation, PromptTooLong
from runtime.errors import RequestError, warn_once
from runtime.text.lines import one_line
from runtime.text.pairs import Pair, planned_pair
from runtime.text.thinking import without_thoughts

LOOK_AHEAD = 4  # segments read for each worker before the first of them is given back


@dataclass(frozen=True)
class Translation:
    """A segment's translation and what it took."""

    source: str
    text: str  # as the model wrote it, without white space around it
    generation: Generation | None  # None where there was nothing to translate, or no room for it
    refused: str = ""  # why there was no room, as a sentence

    @property
    def in_place(self) -> str:
        """The text as it takes the source's place: in the same white space, and on one line where the source is."""
        source = self.source.strip()
        if not source or not self.text:
            return self.text if source else self.source
        start = self.source.index(source)
        text = self.text if "\n" in source else one_line(self.text)
        return self.source[:start] + text + self.source[start + len(source) :]


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


def translate_segment(engine: Engine, pair: Pair, segment: str) -> Translation:
    """Translate one segment; an empty one stays empty, and so does one that fills the context (``refused``)."""
    source = segment.strip()
    if not source:
        return Translation(segment, "", None)
    ids = engine.encode(engine.template.prompt(pair, source))
    try:
        generation = engine.generate(ids, output_limit(len(ids)), source=source)
    except PromptTooLong as error:
        return Translation(segment, "", None, error.sentence)
    text = without_thoughts(generation.text, source).strip()
    return Translation(segment, text if "\n" in source else re.sub(r"\s*[\r\n]\s*", " ", text), generation)


def translate(
    engine: Engine, pair: Pair, segments: Iterable[str], workers: int | None = None
) -> Generator[Translation]:
    """Translate segments in order; each is given back as soon as it and those before it are done.

    The text is the same with any number of workers: each is a twin of the engine, with as many threads.

    Args:
        workers: segments translated at a time; default: what suits the engine (``Engine.thread_choice``). More than one read
            ``segments`` in a thread of their own, a few ahead.
    """
    count = workers or engine.thread_choice.workers
    if count == 1:
        return (translate_segment(engine, pair, segment) for segment in segments)
    return _Workers(engine, count).translate(pair, segments)


def translate_texts(engine: Engine, pair: Pair, texts: Iterable[str]) -> Generator[str]:
    """Translations as they take the place of the texts; those of texts that fill the context are empty, with a warning."""
    for number, done in enumerate(translate(engine, pair, texts), 1):
        if done.refused:
            warn_once(f"Text {number} is not translated. {done.refused}")
        yield done.in_place


class _Workers:
    """Twins of an engine, made when they are needed, and the threads that use them."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._twins: list[Engine] = []
        self._idle: list[Engine] = []
        self._pool = ThreadPoolExecutor(count)
        self._stopped = False
        self._promised: Queue[Future[Translation] | None] = Queue(LOOK_AHEAD * count)

    def translate(self, pair: Pair, segments: Iterable[str]) -> Generator[Translation]:
        # What blocks in reading a terminal cannot be ended, so it is a daemon, and touches no engine.
        threading.Thread(target=self._read, args=(pair, segments), daemon=True).start()
        try:
            while promised := self._promised.get():
                yield promised.result()
        finally:
            self._stop()

    def _read(self, pair: Pair, segments: Iterable[str]) -> None:
        try:
            for segment in segments:
                if self._stopped:
                    return
                self._promised.put(self._pool.submit(self._translate, pair, segment))
            self._promised.put(None)
        except Exception as error:  # raised where the segment would have been given back
            failed: Future[Translation] = Future()
            failed.set_exception(error)
            self._promised.put(failed)

    def _translate(self, pair: Pair, segment: str) -> Translation:
        with self._lock:
            if not self._idle:
                self._idle.append(self._engine.twin())
                self._twins += self._idle
            twin = self._idle.pop()
        try:
            return translate_segment(twin, pair, segment)
        finally:
            self._idle.append(twin)

    def _stop(self) -> None:
        """End what is under way, and free the twins."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for twin in self._twins:
            twin.cancelled = True
        self._pool.shutdown(wait=True)
        for twin in self._twins:
            twin.close()
        try:
            while True:  # the reader may wait for room
                self._promised.get_nowait()
        except Empty:
            pass
