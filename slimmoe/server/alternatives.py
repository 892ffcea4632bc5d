"""Other translations of a sentence: greedy ones that begin with the second likeliest token, the third, and so on."""

from runtime.engines.base import Writer
from runtime.text.pairs import Pair
from runtime.text.values import lost_values, values
from runtime.translate.remedies import CheckedTranslation, Remedies, Tries
from runtime.translate.segments import Try


class Alternative(Remedies):
    """One try of each sentence; what is wrong with it is marked, and nothing is tried again.

    Args:
        rank: the likeliest first token (0), the second (1) ...
    """

    def __init__(self, engine: Writer, pair: Pair, rank: int) -> None:
        super().__init__(engine, pair)
        self._target, self._rank = pair.target, rank

    def tries(self, segment: str) -> Tries:
        source = segment.strip()
        if not source:
            return CheckedTranslation(segment, "", None)
        done = yield Try(source, rank=self._rank)
        lost, _ = lost_values(values(source, self._target), done.text)
        marks = (done.trouble or "values",) if done.trouble or lost else ()
        wanting = tuple(each.text for each in lost)
        return CheckedTranslation(segment, done.text, done.generation, done.refused, marks, wanting)
