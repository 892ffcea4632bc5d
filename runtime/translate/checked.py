"""Translations that are looked at: what went wrong is tried again with a remedy, and marked where none helped."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

from runtime.engines import Engine
from runtime.engines.scheduler import Scheduler, settle
from runtime.errors import warn_once
from runtime.text.pairs import Pair
from runtime.translate.checks import CheckedTranslation
from runtime.translate.glossary import Glossary
from runtime.translate.order import in_order
from runtime.translate.remedies import Remedies, Tries
from runtime.translate.segments import LOOK_AHEAD, SegmentTranslator, Sentence, Translation


class CheckedTranslator:
    """Translates segments of one pair, with remedies, through a translator that may serve others meanwhile."""

    def __init__(self, segments: SegmentTranslator, remedies: Remedies) -> None:
        self._segments, self._remedies = segments, remedies

    def submit(
        self, segment: str, on_draft: Callable[[str], object] | None = None, before: Sequence[Sentence] = ()
    ) -> Future[CheckedTranslation]:
        """Translate one segment, from any thread. Cancelling the future ends what is under way.

        Args:
            on_draft: is called by the decoding thread with each piece of the first try, which a remedy may replace.
            before: as of ``Try``, of all tries.

        The future raises WorkError where the engine failed.
        """
        promised: Future[CheckedTranslation] = Future()
        self._go_on(self._remedies.tries(segment), promised, None, on_draft, tuple(before))
        return promised

    def translate(self, segments: Iterable[str]) -> Generator[CheckedTranslation]:
        """Translate segments in order, as ``SegmentTranslator.translate`` does."""
        return in_order(self.submit, segments, LOOK_AHEAD * self._segments.places)

    def translate_in_context(self, segments: Iterable[str], count: int) -> Generator[CheckedTranslation]:
        """Translate segments in order, one at a time: each after the ``count`` before it, as far as they came out well.

        One that comes out worse so than alone is translated alone.
        """
        before = deque[Sentence](maxlen=count)
        for segment in segments:
            done = self.submit(segment, before=before).result()
            if done.trouble and before and not (alone := self.submit(segment).result()).trouble:
                done = alone
            if done.text and not done.trouble:
                before.append((done.source.strip(), done.text))
            yield done

    def _go_on(
        self,
        tries: Tries,
        promised: "Future[CheckedTranslation]",
        last: Translation | None,
        on_draft: Callable[[str], object] | None = None,
        before: tuple[Sentence, ...] = (),
    ) -> None:
        """Hand the next try in; called by the thread that decodes when the one before is done."""
        try:
            asked = next(tries) if last is None else tries.send(last)
            pending = self._segments.submit(replace(asked, before=before), on_draft)
        except StopIteration as end:
            return settle(promised, end.value)
        except Exception as error:  # a closed scheduler, where one waits for the rest
            return settle(promised, error)

        def done(_: object) -> None:
            try:
                result = pending.result()
            except CancelledError:
                promised.cancel()
            except Exception as error:
                settle(promised, error)
            else:
                self._go_on(tries, promised, result, before=before)

        if pending.generating is None:
            return done(None)
        promised.add_done_callback(lambda _: pending.cancel())
        pending.generating.add_done_callback(done)


def translate_checked(
    engine: Engine,
    pair: Pair,
    segments: Iterable[str],
    workers: int | None = None,
    exact: bool = False,
    glossary: Glossary | None = None,
    beam: int = 1,
) -> Generator[CheckedTranslation]:
    """Translate segments as ``runtime.translate.segments.translate`` does, with remedies and marks."""
    with contextlib.closing(Scheduler(engine, workers, 1 if exact else None)) as scheduler:
        translator = CheckedTranslator(
            SegmentTranslator(engine, pair, scheduler, exact, beam), Remedies(engine, pair, glossary)
        )
        yield from translator.translate(segments)


def in_places(translations: Iterable[CheckedTranslation]) -> Generator[str]:
    """Translations as they take the place of the texts; those of texts that fill the context are empty, with a warning.

    Of a text that is marked otherwise a warning says what is wrong.
    """
    for number, done in enumerate(translations, 1):
        if done.refused:
            warn_once(f"Text {number} is not translated. {done.refused}")
        elif done.marks:
            warn_once(f"The translation of text {number} {done.said}.")
        yield done.in_place
