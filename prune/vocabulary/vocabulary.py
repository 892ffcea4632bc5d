"""The tokens of a tokenizer, what each is merged of, and those that no text can do without."""

import math
import string
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise


class Vocabulary:
    """A tokenizer's tokens by spelling and id, whichever file they stand in.

    Args:
        ids: of the tokens that text is merged into.
        added: of those that are found in text before it is split: special ones, and others that were added.
        merges: pairs of tokens, in the order in which they are tried.
        needed: tokens without which some text could not be encoded, such as the 256 bytes.
        space: how a token's spelling has a space.
    """

    def __init__(
        self,
        ids: dict[str, int],
        added: dict[str, int],
        merges: Iterable[tuple[str, str]],
        needed: Iterable[str],
        space: str,
    ) -> None:
        self.ids, self.added, self._needed, self._space = ids, added, [*needed], space
        self.merges = [(a, b) for a, b in merges if a in ids and b in ids and a + b in ids]
        self.tokens = {number: token for token, number in (ids | added).items()}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _ways(self) -> dict[str, list[tuple[str, str]]]:
        """All merges that make a token; those made from lists of tokens alone have several."""
        ways = defaultdict(list)
        for pair in self.merges:
            ways["".join(pair)].append(pair)
        return ways

    @cached_property
    def merged(self) -> list[int]:
        """Ids of the tokens that merges make, in the order of the merges: about that of their frequency in general text."""
        return [self.ids[token] for token in self._ways]

    @cached_property
    def always(self) -> set[int]:
        """Added tokens, the needed ones, numbers of ASCII digits, and its punctuation, with a space before it or without."""
        kept = {*self.added.values()} | {self.ids[token] for token in self._needed}
        for token, number in self.ids.items():
            bare = token.removeprefix(self._space)
            if bare.isascii() and (bare.isdigit() or (len(bare) == 1 and bare in string.punctuation)):
                kept.add(number)
        return self.closed(kept)

    def closed(self, ids: set[int]) -> set[int]:
        """With all that is merged on the way to them, so that text that is split into ``ids`` still is.

        How a token comes about does not depend on its surroundings: no merge reaches over the ends of what becomes one.
        """
        found, waiting = {*ids}, [*ids]
        while waiting:
            parts = {self.ids[part] for part in self._parts(self.tokens[waiting.pop()])} - found
            found |= parts
            waiting += parts
        return found

    def _parts(self, token: str) -> tuple[str, ...]:
        """The two tokens that are merged last into this one; none where no merges make it."""
        ways = self._ways.get(token, [])
        if len(ways) < 2:
            return ways[0] if ways else ()
        symbols = [*token]
        while len(symbols) > 1:
            pairs = [*pairwise(symbols)]
            at = min(range(len(pairs)), key=lambda i: self._ranks.get(pairs[i], math.inf))
            if pairs[at] not in self._ranks:
                return ()
            if len(symbols) == 2:
                return pairs[at]
            symbols[at : at + 2] = ["".join(pairs[at])]
        return ()
