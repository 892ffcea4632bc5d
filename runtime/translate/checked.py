"""Translations that are looked at: what went wrong is tried again with a remedy, and marked where none helped.

The first try is what ``SegmentTranslator`` writes. Of a text that comes out empty, looping, unfinished or copied, the
second may write no three tokens twice, the third translates its halves; the other way round where the text repeats
itself. Of one that loses a number, URL, e-mail address or code, the value is put where something like it stands, else
taken out and put back by its place, as placeholders are.
"""

import contextlib
import re
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace

from runtime.engines import Engine, Generation
from runtime.engines.scheduler import Scheduler, settle
from runtime.errors import warn_once
from runtime.text.language import is_other_language
from runtime.text.lines import one_line
from runtime.text.markup import Code, is_text, joined, plain, protected_spans, with_codes, without_codes
from runtime.text.pairs import Pair
from runtime.text.repetition import is_looping, repeats, units
from runtime.text.values import Value, localised, lost_values, put_right, values
from runtime.translate.segments import LOOK_AHEAD, SAID, SegmentTranslator, Translation, in_order

_ORDER = list(SAID)
NO_REPEAT = 3  # tokens that come once, in a second try
_FEWEST = 6  # words of a text that is cut in halves
_CUTS = re.compile(r"(?<=[,;:–—])\s+|(?<=[、，；：。])|\s+")


@dataclass(frozen=True)
class CheckedTranslation(Translation):
    """A translation and what was found wrong with it.

    Attributes:
        marks: kinds of ``SAID``, the worst first; none where all is well.
        lost: numbers, URLs, e-mail addresses and codes of the source that it has not.
        remedy: what gave the text: ``no repeats``, ``halves``, ``put right`` or ``taken out``; empty: the first try.
    """

    marks: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def trouble(self) -> str:
        """The worst of ``marks``."""
        return self.marks[0] if self.marks else ""

    @property
    def said(self) -> str:
        """What is wrong, for a sentence about the translation."""
        return SAID[self.trouble].format(lost=", ".join(self.lost)) if self.marks else ""


@dataclass(frozen=True)
class Try:
    """What is asked of the model."""

    text: str
    no_repeat: int = 0


# What the tries of a segment are: it gives one after the other, and is sent what the model wrote.
Tries = Generator[Try, Translation, CheckedTranslation]
_Part = Generator[Try, Translation, Translation | None]


class CheckedTranslator:
    """Translates segments of one pair, with remedies, through a translator that may serve others meanwhile."""

    def __init__(self, segments: SegmentTranslator, pair: Pair) -> None:
        self._segments, self._pair = segments, pair

    def submit(self, segment: str) -> Future[CheckedTranslation]:
        """Translate one segment, from any thread. Cancelling the future ends what is under way.

        The future raises WorkError where the engine failed.
        """
        promised: Future[CheckedTranslation] = Future()
        self._go_on(self._tries(segment), promised, None)
        return promised

    def translate(self, segments: Iterable[str]) -> Generator[CheckedTranslation]:
        """Translate segments in order, as ``SegmentTranslator.translate`` does."""
        return in_order(self.submit, segments, LOOK_AHEAD * self._segments.places)

    def _go_on(self, tries: Tries, promised: "Future[CheckedTranslation]", last: Translation | None) -> None:
        """Hand the next try in; called by the thread that decodes when the one before is done."""
        try:
            asked = next(tries) if last is None else tries.send(last)
            pending = self._segments.submit(asked.text, until_loop=True, no_repeat=asked.no_repeat)
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
                self._go_on(tries, promised, result)

        if pending.generating is None:
            return done(None)
        promised.add_done_callback(lambda _: pending.cancel())
        pending.generating.add_done_callback(done)

    def _tries(self, segment: str) -> Tries:
        source = segment.strip()
        if not source:
            return CheckedTranslation(segment, "", None)
        known = values(source, self._pair.target)
        best = self._checked(segment, known, (yield Try(source)))
        if best.refused:
            return best
        if best.trouble not in ("", "values"):
            remedies = [("no repeats", self._unrepeated), ("halves", self._halves)]
            if max(repeats(source)) > 1:  # which a translation may repeat as well
                remedies.reverse()
            for remedy, tries in remedies:
                other = yield from tries(source)
                best = self._better(best, segment, known, other, remedy)
                if best.trouble in ("", "values"):
                    break
        best = self._put_right(best, known)
        taken = set[Value]()
        while best.trouble == "values" and (left := {each for each in known if each.text in best.lost} - taken):
            taken |= left
            other = yield from self._taken_out(source, sorted(taken, key=lambda each: each.start))
            best = self._better(best, segment, known, other, "taken out")
        return best

    def _checked(self, segment: str, known: list[Value], result: Translation, remedy: str = "") -> CheckedTranslation:
        """What the model wrote, with what is wrong with it."""
        source, text = segment.strip(), result.text
        lost = tuple(each.text for each in lost_values(known, text)[0]) if text else ()
        found = {
            "refused": bool(result.refused),
            "empty": not text and not result.refused,
            "looping": is_looping(text, source),
            "unfinished": result.generation is not None and not result.generation.finished,
            "copied": text == source and _has_words(source) and is_other_language(text, self._pair.target),
            "values": bool(lost),
        }
        marks = tuple(kind for kind in reversed(_ORDER) if found[kind])
        return CheckedTranslation(segment, text, result.generation, result.refused, marks, lost, remedy)

    def _better(
        self, best: CheckedTranslation, segment: str, known: list[Value], other: Translation | None, remedy: str
    ) -> CheckedTranslation:
        """The better of the best so far and another try, whose values are put right where they can be."""
        if other is None or other.refused:
            return best
        checked = self._put_right(self._checked(segment, known, other, remedy), known)
        return min(
            best, checked, key=lambda each: (_ORDER.index(each.trouble) + 1 if each.marks else 0, len(each.lost))
        )

    def _put_right(self, best: CheckedTranslation, known: list[Value]) -> CheckedTranslation:
        if best.trouble != "values":
            return best
        lost, left = lost_values(known, best.text)
        text = put_right(lost, best.text, left, self._pair.source, self._pair.target)
        if text is None or lost_values(known, text)[0]:
            return best
        return replace(best, text=text, marks=(), lost=(), remedy=best.remedy or "put right")

    def _unrepeated(self, text: str) -> _Part:
        return (yield Try(text, NO_REPEAT))

    def _halves(self, source: str) -> _Part:
        """The two halves of a text, each as the model translates it alone, without repeats where that fails."""
        halves = halves_of(source)
        if halves is None:
            return None
        done: list[Translation] = []
        for half in halves:
            result = yield Try(half.strip())
            if result.trouble:
                result = yield Try(half.strip(), NO_REPEAT)
            if result.trouble:
                return None
            done.append(result)
        first, second = (each.text for each in done)
        if first.endswith(".") and not halves[0].rstrip().endswith("."):
            first = first[:-1]
        space = halves[0][len(halves[0].rstrip()) :]
        return Translation(source, f"{first}{one_line(space)}{second}", _added(*(each.generation for each in done)))

    def _taken_out(self, source: str, taken: list[Value]) -> _Part:
        """A text translated without some of its values, which come back by their place."""
        pieces: list[str | Code] = []
        begin = 0
        for value in taken:
            pieces += [source[begin : value.start], Code(localised(value, self._pair.source, self._pair.target))]
            begin = value.end
        marked = tuple(piece for piece in (*pieces, source[begin:]) if piece != "")
        text, _ = without_codes(marked)
        if not is_text(text):
            return Translation(source, plain(joined(marked)), None)
        result = yield Try(text.strip())
        return replace(result, text=plain(joined(with_codes(marked, result.text)))) if result.text else None


def _has_words(text: str) -> bool:
    """Whether there is more than names: words in lower case, or of a script without case."""
    return sum(unit[0].isalpha() and not unit[0].isupper() for unit in units(text)[0]) > 1


def _added(*generations: Generation | None) -> Generation | None:
    done = [each for each in generations if each is not None]
    return Generation(
        tuple(token for each in done for token in each.token_ids),
        " ".join(each.text for each in done),
        all(each.finished for each in done),
        sum(each.prompt_tokens for each in done),
        sum(each.prefill_seconds for each in done),
        sum(each.decode_seconds for each in done),
    )


def halves_of(text: str) -> tuple[str, str] | None:
    """A text in two, behind punctuation near its middle where there is some, else at white space; None if it is short.

    Joined, the halves are the text. No value, tag or placeholder is cut.
    """
    if len(text.split()) < _FEWEST and not re.search(r"[、，；：。].", text):
        return None
    spans = protected_spans(text)
    cuts = [
        match.end()
        for match in _CUTS.finditer(text)
        if match.start() > 0 and match.end() < len(text) and not any(start < match.end() < end for start, end in spans)
        if not (text[match.start() - 1].isdecimal() and text[match.end()].isdecimal())
    ]
    quarter = len(text) / 4
    behind_mark = [cut for cut in cuts if not text[:cut].rstrip()[-1].isalnum() and quarter < cut < 3 * quarter]
    cut = min(behind_mark or cuts, key=lambda each: abs(each - len(text) / 2), default=0)
    return (text[:cut], text[cut:]) if cut else None


def translate_checked(
    engine: Engine, pair: Pair, segments: Iterable[str], workers: int | None = None, exact: bool = False
) -> Generator[CheckedTranslation]:
    """Translate segments as ``runtime.translate.segments.translate`` does, with remedies and marks."""
    with contextlib.closing(Scheduler(engine, workers, 1 if exact else None)) as scheduler:
        translator = CheckedTranslator(SegmentTranslator(engine, pair, scheduler, exact), pair)
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
