"""Translating for one request, in a thread of its own; what many ask for at a time is decoded in the same batches."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

from runtime.text.language import is_identifiable, ranked_languages
from runtime.text.languages import base_language
from runtime.text.lines import one_line
from runtime.text.markup import Marked, is_text, plain
from runtime.text.pairs import Pair
from runtime.translate.alternatives import distinct
from runtime.translate.checks import CheckedTranslation
from runtime.translate.documents import is_document, open_document
from runtime.translate.documents.base import Codec, TextDocument, Unit
from runtime.translate.documents.html import html_tokens, html_units
from runtime.translate.files import translated_name
from runtime.translate.order import at_hand
from runtime.translate.paragraphs import ParagraphTranslator, sentences_of
from slimmoe.server.asked import Answer, Ask, Chosen, Refused
from slimmoe.server.drafts import Drafts
from slimmoe.server.models import Models, Opened, language_of

SURE = 95.0  # percent that a text is in the target's language already
LONGEST_NAME = 200  # characters, the last ones
AHEAD = 2  # sentences of one request in the queue for each place of a batch: the next request's wait behind no more
_Segment = TypeVar("_Segment")
_LINE_END = re.compile(r"(\r\n|\r|\n)")


class Work:
    """What one request has under way. ``end`` cancels it, from any thread.

    Args:
        count: is told of tokens read and written as a sentence is done.
    """

    def __init__(self, count: Callable[[int, int], object] = lambda read, written: None) -> None:
        self._count = count
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._under_way: set[Future[CheckedTranslation]] = set()
        self.ended = False
        self.read = self.written = 0

    def submit(self, submit: Callable[[str], Future[CheckedTranslation]], segment: str) -> Future[CheckedTranslation]:
        """Hand a sentence in.

        Raises:
            CancelledError: the work was ended.
        """
        with self._reading:
            if self.ended:
                raise CancelledError
            future = submit(segment)
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._done)
        if self.ended:
            future.cancel()
        return future

    def read_from(self, segments: Iterable[_Segment]) -> Iterator[_Segment]:
        """Segments, which are cut by the engine's tokens as they are read.

        Raises:
            CancelledError: the work was ended.
        """
        remaining = iter(segments)
        while True:
            with self._reading:
                if self.ended:
                    raise CancelledError
                if (segment := next(remaining, None)) is None:
                    return
            yield segment

    @contextlib.contextmanager
    def with_engine(self) -> Iterator[None]:
        """The engine may be closed after the block: then nobody reads or hands in any more."""
        try:
            yield
        finally:
            self.end()
            with self._reading:
                pass

    def _done(self, future: Future[CheckedTranslation]) -> None:
        with self._lock:
            self._under_way.discard(future)
            if not future.cancelled() and not future.exception() and (generation := future.result().generation):
                self.read += generation.prompt_tokens
                self.written += len(generation.token_ids)
                self._count(generation.prompt_tokens, len(generation.token_ids))

    def end(self) -> None:
        """Cancel what is under way, and begin nothing more."""
        with self._lock:
            self.ended = True
            under_way = list(self._under_way)
        for future in under_way:
            future.cancel()


class Service:
    """Translates with the models of a server."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def detect(self, texts: Iterable[str], among: Iterable[str] = ()) -> list[tuple[str, float]]:
        """Languages of texts, the likeliest first, with how sure that is, 0 to 100.

        Args:
            among: codes; default: those that are translated from.
        """
        among = list(dict.fromkeys(among or (pair.source for pair in self.models.pairs)))
        text = "\n".join(texts)[:20_000]
        if not is_text(text):
            return [(among[0], 0.0)]
        spelt = {base_language(code): code for code in reversed(among)}
        return [(spelt[code], round(100 * share, 1)) for code, share in ranked_languages(text, tuple(spelt))]

    def choose(self, ask: Ask) -> Chosen:
        """The model and pair for a request.

        Raises:
            Refused: there is none.
        """
        codes = {code for pair in self.models.pairs for code in (pair.source, pair.target)}
        target = language_of(ask.target)
        if ask.source:
            if language_of(ask.source) == target and target in codes:
                return Chosen("", Pair(target, target))
            model, pair = self.models.choose(ask.source, ask.target, ask.model)
            return Chosen(model.name, pair)
        pairs = [pair for model in self.models.named(ask.model) for pair in model.pairs]
        fitting = [pair.source for pair in pairs if target and base_language(pair.target) == base_language(target)]
        if not fitting:
            raise Refused(400, f"{ask.target[:40]} is not supported")
        if target in codes and any(map(is_identifiable, ask.texts)):
            found, confidence = self.detect(ask.texts, [*fitting, target])[0]
            if found == target and confidence >= SURE:
                return Chosen("", Pair(target, target), confidence)
        source, confidence = self.detect(ask.texts, fitting)[0]
        model, pair = self.models.choose(source, ask.target, ask.model)
        return Chosen(model.name, pair, confidence)

    def translate(self, ask: Ask, work: Work) -> Answer:
        """Translate whole texts; of a sentence that cannot be translated, the source stays.

        Raises:
            Refused: there is no such model or pair.
            WorkError: the engine failed.
            CancelledError: the work was ended.
        """
        chosen = self.choose(ask)
        if not chosen.model:
            return Answer(list(ask.texts), chosen, alternatives=[[] for _ in ask.texts])
        documents = [_html(text, chosen.pair) if ask.html else _plain(text) for text in ask.texts]
        with self.models.use(chosen.model) as opened, work.with_engine():

            def translated(rank: int) -> list[str | None]:
                """All texts; of alternatives None where something is wrong with one."""
                translator = _translator(opened, chosen.pair, ask, work, rank)
                done = translator.translate(unit.marked for document in documents for unit in document.units)
                texts = list[str | None]()
                for document in documents:
                    paragraphs = list(islice(done, len(document.units)))
                    bad = rank and any(each.troubles for each in paragraphs)
                    data = document.render([each.marked for each in paragraphs])
                    texts.append(None if bad else data.decode("utf-8", "surrogatepass"))
                return texts

            texts = [text or "" for text in translated(0)]
            others = [translated(rank) for rank in range(1, 0 if ask.html else ask.alternatives + 1)]
        alternatives = [distinct(best, each) for best, *each in zip(texts, *others)]
        return Answer(texts, chosen, work.read, work.written, alternatives)

    def stream(self, ask: Ask, work: Work, on_draft: Callable[[str], object] | None = None) -> Iterator[Chosen | str]:
        """What the request goes by, then its first text's translation in pieces, a sentence each.

        Args:
            on_draft: is called from other threads with pieces of the next sentence as they are decoded; the sentence
                itself, which a remedy may have changed, takes their place.
        """
        chosen = self.choose(ask)
        yield chosen
        if not chosen.model:
            yield ask.texts[0]
            return
        with self.models.use(chosen.model) as opened, work.with_engine():
            limit = opened.limit(chosen.pair)

            def pieces() -> Iterator[Marked]:
                for part in _LINE_END.split(ask.texts[0]):
                    for each in sentences_of((part,), chosen.pair.source, limit) if part.strip() else ():
                        yield (*each.head, *each.core, *each.tail)
                    if not part.strip() and part:
                        yield (part,)

            for paragraph in _translator(opened, chosen.pair, ask, work, on_draft=on_draft).translate(pieces()):
                yield plain(paragraph.marked)

    def translate_document(
        self, name: str, data: bytes, ask: Ask, work: Work, tell: Callable[[float], object] = lambda share: None
    ) -> tuple[str, bytes, Chosen]:
        """A document's translation, what it is called, and what it went by.

        Args:
            name: as the client has it; only its suffix and, for the new name, its last part are looked at.
            ask: without texts.
            tell: is told what share of it is done, 0 to 1.

        Raises:
            Refused: it is of no known format, or as of ``choose``.
            RequestError: it is damaged, or unpacks to too much.
        """
        path = Path(re.split(r"[/\\]", name)[-1][-LONGEST_NAME:] or "document")
        if not is_document(path):
            raise Refused(400, "Invalid request: file format not supported")
        if not ask.source:
            sample = open_document(path, data, Pair("", ""))
            ask = replace(ask, texts=tuple(plain(unit.marked) for unit in sample.units[:200]))
        chosen = self.choose(ask)
        document = open_document(path, data, chosen.pair)
        if not chosen.model:
            return path.name, data, chosen
        with self.models.use(chosen.model) as opened, work.with_engine():
            translator = _translator(opened, chosen.pair, ask, work)
            done: list[Marked] = []
            for each in translator.translate(unit.marked for unit in document.units):
                done.append(each.marked)
                tell(len(done) / len(document.units))
        return translated_name(path, chosen.pair), document.render(done), chosen


def _translator(
    opened: Opened,
    pair: Pair,
    ask: Ask,
    work: Work,
    rank: int = 0,
    on_draft: Callable[[str], object] | None = None,
) -> ParagraphTranslator:
    checked = opened.translator(pair, ask.glossary, rank)
    ahead = AHEAD * opened.scheduler.places * opened.scheduler.workers

    def translate(segments: Iterable[str]) -> Iterator[CheckedTranslation]:
        if on_draft is None:
            yield from at_hand(partial(work.submit, checked.submit), work.read_from(segments), ahead)
            return
        drafts, numbers = Drafts(on_draft), count()

        def submit(segment: str) -> Future[CheckedTranslation]:
            return work.submit(partial(checked.submit, on_draft=partial(drafts.add, next(numbers))), segment)

        for done in at_hand(submit, work.read_from(segments), ahead):
            yield done
            drafts.next()

    return ParagraphTranslator(translate, pair.source, opened.limit(pair))


def _plain(text: str) -> TextDocument:
    """Text whose lines are paragraphs, with its own line ends."""
    lines = [(match[0], *match.span()) for match in re.finditer(r"[^\r\n]+", text)]
    units = [Unit((line,), start, end, one_line) for line, start, end in lines]
    return TextDocument("The text", text, Codec(errors="surrogatepass"), units)


def _html(text: str, pair: Pair) -> TextDocument:
    """A page or a part of one."""
    return TextDocument("The HTML", text, Codec(errors="surrogatepass"), *html_units(text, html_tokens(text), pair))
