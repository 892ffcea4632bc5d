"""What is tried for a translation that fails: which way, in which order, and which of the results is the best.

The first try is what ``SegmentTranslator`` writes. Where a placeholder is lost, the model gets names in place of them
(X1, X2), which most models keep; then the text without them, and they come back by their place. Of a text that comes out
empty, looping, unfinished or copied, the second may write no three tokens twice, the third translates its halves; the other
way round where the text repeats itself. Of one that loses a number, date, time or code, the value is put where something
like it stands, else taken out and put back by its place, as placeholders are. A term of a glossary that is missing is
written where the model was nearest to writing it, and the model goes on from there.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import count

from runtime.engines import Generation
from runtime.engines.base import Writer
from runtime.text.lines import one_line
from runtime.text.markup import (
    Code,
    is_text,
    joined,
    placeholder_spans,
    plain,
    with_codes,
    without_codes,
)
from runtime.text.pairs import Pair
from runtime.text.placeholders import blanked
from runtime.text.repetition import is_unspaced, repeats
from runtime.text.sentences import halves_of
from runtime.text.special_tokens import PromptText
from runtime.text.values import Value, localised, values
from runtime.translate.checks import Asked, CheckedTranslation
from runtime.translate.glossary import Glossary, Term, in_word
from runtime.translate.segments import Translation, Try

NO_REPEAT = 3  # tokens that come once, in a second try
_HALVINGS = 4  # of a text whose halves fail, too
_OPENING = "([{<„“«‹\"'/-"


# What the tries of a segment are: it gives one after the other, and is sent what the model wrote.
Tries = Generator[Try, Translation, CheckedTranslation]
_Part = Generator[Try, Translation, Translation | None]


class Remedies:
    """The tries of segments of one pair.

    Args:
        engine: whose tokens they are.
        glossary: terms to translate in one way only.
    """

    def __init__(self, engine: Writer, pair: Pair, glossary: Glossary | None = None) -> None:
        self._engine, self._pair, self._glossary = engine, pair, glossary

    def tries(self, segment: str) -> Tries:
        """What is asked of the model for a segment, until it is well translated or nothing is left to try."""
        source = segment.strip()
        if not source:
            return CheckedTranslation(segment, "", None)
        terms = self._glossary.find(source) if self._glossary else []
        asked = Asked(segment, self._pair, values(blanked(source), self._pair.target), terms)
        return (yield from self._tries(asked)).harmless

    def _tries(self, asked: Asked) -> Tries:
        source = asked.source
        watched = tuple(start for term in asked.terms for start in self._starts(term))
        best = asked.checked((yield Try(source, watched=watched)))
        if best.refused:
            return best
        placeholders = [(start, end, source[start:end]) for start, end in placeholder_spans(source)]
        for remedy, named in (("names", self._named), ("taken out", self._taken_out)):
            if placeholders and best.fails:
                best = asked.better(best, (yield from named(source, placeholders)), remedy)
        if best.fails:
            remedies = [("no repeats", self._unrepeated), ("halves", self._halves)]
            if max(repeats(source)) > 1:  # which a translation may repeat as well
                remedies.reverse()
            for remedy, tries in remedies:
                other = yield from self._taken_out(source, placeholders, tries) if placeholders else tries(source)
                best = asked.better(best, other, remedy)
                if not best.fails:
                    break
        taken, lost = set[Value](), {*best.lost}
        while best.trouble == "values" and (left := {*asked.values} - taken):
            taken |= {each for each in left if each.text in lost} or left
            written = [(each.start, each.end, localised(each, self._pair.source, self._pair.target)) for each in taken]
            other = yield from self._taken_out(source, sorted([*placeholders, *written]))
            if other is not None:
                lost |= {*asked.checked(other).lost}
            best = asked.better(best, other, "taken out")
        if best.trouble == "terms":
            best = yield from self._with_terms(asked, best, watched)
        return best

    def _once(self, text: str) -> _Part:
        return (yield Try(text))

    def _unrepeated(self, text: str) -> _Part:
        return (yield Try(text, no_repeat=NO_REPEAT))

    def _halves(self, source: str, more: int = _HALVINGS) -> _Part:
        """The two halves of a text, each as the model translates it alone; one that fails in halves again.

        Where that does not help either, it is written without repeats.
        """
        halves = halves_of(source)
        if halves is None:
            return None
        done: list[Translation] = []
        for half in halves:
            result = yield Try(half.strip())
            if result.trouble:
                finer = (yield from self._halves(half.strip(), more - 1)) if more > 1 else None
                result = finer or (yield Try(half.strip(), no_repeat=NO_REPEAT))
            if result.trouble:
                return None
            done.append(result)
        first, second = (each.text for each in done)
        if first.endswith(".") and not halves[0].rstrip().endswith("."):
            first = first[:-1]
        space = halves[0][len(halves[0].rstrip()) :]
        return Translation(source, f"{first}{one_line(space)}{second}", _added(*(each.generation for each in done)))

    def _named(self, source: str, spans: list[tuple[int, int, str]]) -> _Part:
        """A text translated with a name for each placeholder; None where the model does not write each name once."""
        pieces, begin, names = list[str](), 0, dict[str, str]()
        for start, end, written in spans:
            name = next(name for number in count(1) if (name := f"X{number}") not in source and name not in names)
            names[name] = written
            pieces += [source[begin:start], name]
            begin = end
        result = yield Try("".join([*pieces, source[begin:]]))
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)")
        if sorted(pattern.findall(result.text)) != sorted(names):
            return None
        return replace(result, source=source, text=pattern.sub(lambda found: names[found[0]], result.text))

    def _taken_out(
        self, source: str, spans: list[tuple[int, int, str]], tries: Callable[[str], _Part] | None = None
    ) -> _Part:
        """A text translated, by ``tries`` or once, without some of it, which comes back by its place as it is to be written."""
        pieces: list[str | Code] = []
        begin = 0
        for start, end, written in spans:
            pieces += [source[begin:start], Code(written)]
            begin = end
        marked = tuple(piece for piece in (*pieces, source[begin:]) if piece != "")
        text, _ = without_codes(marked)
        if not is_text(text):
            return Translation(source, plain(joined(marked)), None)
        result = yield from (tries or self._once)(text.strip())
        if result is None or not result.text:
            return None
        return replace(result, text=plain(joined(with_codes(marked, result.text))))

    def _starts(self, term: Term) -> tuple[int, int]:
        """The first token of a term's translation, behind a space and without one."""
        texts = (f" {term.target}", term.target)
        behind, alone = (self._engine.encode(PromptText(text, [slice(0, len(text))]))[0] for text in texts)
        return behind, alone

    def _with_terms(
        self, asked: Asked, best: CheckedTranslation, watched: tuple[int, ...]
    ) -> Generator[Try, Translation, CheckedTranslation]:
        """Write one missing term after the other, from left to right, where the model was nearest to it."""
        current: Translation = best
        if not (current.generation and current.generation.margins):
            current = yield Try(asked.source, watched=watched)
        left = {term: 2 * number for number, term in enumerate(asked.terms)}
        while current.generation and (missing := [term for term in asked.missing(current.text) if term in left]):
            places = [(self._place(current.generation, left[term], term), term) for term in missing]
            begins, term = min(places, key=lambda each: len(each[0]) - len(each[1].target))
            del left[term]
            current = yield Try(asked.source, begins=begins, watched=watched)
            best = asked.better(best, current, "term")
        return best

    def _place(self, generation: Generation, start: int, term: Term) -> str:
        """A translation up to the word where the model was nearest to writing a term, with the term.

        Args:
            start: the number of the term's first token, behind a space, among those watched; the one without follows it.
        """
        whole = self._engine.decode(generation.token_ids)
        found = [(-float("inf"), whole)]
        for written, margins in enumerate(generation.margins):
            head = self._engine.decode(generation.token_ids[:written])
            bare = head.rstrip()
            if margins is None or not whole.startswith(head) or in_word(whole, len(head)):
                continue
            spaced = whole[:1].isspace() if not bare else not (bare[-1] in _OPENING or is_unspaced(bare[-1]))
            found.append((margins[start + (not spaced)], f"{bare}{' ' * bool(spaced)}{term.target}"))
        return max(found, key=lambda each: each[0])[1]


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
