"""Several sequences in one llama.cpp context with one cache: each token of a batch says which sequence it is part of."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.engines.base import Feed


class Row(NamedTuple):
    """A token of a batch: whose it is, where it stands there, and whether the logits after it are wanted."""

    place: int
    position: int
    token: int
    wanted: bool


def fill(batch: Any, rows: Sequence[Row]) -> None:
    """Put tokens into a batch of ``llama_batch_init``, which must have room for them."""
    for i, row in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = row.token, row.position, row.wanted
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, row.place
    batch.n_tokens = len(rows)


class LlamaBatch:
    """A llama.cpp context of its own; see ``Batch``.

    Args:
        lib: llama_cpp's functions.
        context: of llama.cpp, with one cache for ``places`` + 1 sequences of ``room`` tokens; the last keeps a prefix.
        vocabulary: how many logits there are.
        size: tokens that one call evaluates at most.
        shares: whether sequences may begin with a kept prefix, which layers with a state cannot do.
        check: raises where an evaluation's status says that it failed.
        release: is called once the context is freed.
    """

    def __init__(
        self,
        lib: Any,
        context: Any,
        places: int,
        room: int,
        vocabulary: int,
        size: int,
        shares: bool,
        check: Callable[[int], None],
        release: Callable[[], None],
    ) -> None:
        self.places, self.room = places, room
        self._lib, self._context, self._vocabulary, self._size = lib, context, vocabulary, size
        self._shares, self._check, self._release = shares, check, release
        self._memory = lib.llama_get_memory(context)
        self._batch = lib.llama_batch_init(size, 0, 1)
        self._lengths: dict[int, int] = {}  # of the sequences under way
        self._prefix: tuple[int, ...] = ()  # the tokens of the sequence after all places

    def evaluate(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """Logits after the last token of each feed; see ``Batch``."""
        rows = [row for feed in feeds for row in self._rows(feed)]
        found: list[np.ndarray] = []
        for start in range(0, len(rows), self._size):
            found = [each.copy() for each in found]  # of an earlier call, whose memory is used again
            found += self._decode(rows[start : start + self._size])
        return found

    def _rows(self, feed: Feed) -> Iterator[Row]:
        start = self._lengths.get(feed.place)
        if start is None:
            start = self._begin(feed)
        tokens = feed.tokens[start:] if feed.place not in self._lengths else feed.tokens
        self._lengths[feed.place] = start + len(tokens)
        for number, token in enumerate(tokens, 1):
            yield Row(feed.place, start + number - 1, token, number == len(tokens))

    def _begin(self, feed: Feed) -> int:
        """Give a new sequence what it shares with the others: so many of its tokens."""
        lib, kept, prefix = self._lib, self.places, feed.prefix
        if not self._shares or not feed.shared:
            return 0
        if prefix != self._prefix:
            lib.llama_memory_seq_rm(self._memory, kept, -1, -1)
            self._prefix = ()
            for start in range(0, len(prefix), self._size):
                part = prefix[start : start + self._size]
                self._decode([Row(kept, position, token, False) for position, token in enumerate(part, start)])
            self._prefix = prefix
        lib.llama_memory_seq_cp(self._memory, kept, feed.place, -1, -1)
        return len(prefix)

    def _decode(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Evaluate at most ``size`` tokens: the logits that are wanted of them, valid until the next call."""
        fill(self._batch, rows)
        self._check(self._lib.llama_decode(self._context, self._batch))
        if not (wanted := sum(row.wanted for row in rows)):
            return []
        return list(np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), (wanted, self._vocabulary)))

    def free(self, place: int) -> None:
        """End the sequence in a place."""
        if self._lengths.pop(place, None) is not None:
            self._lib.llama_memory_seq_rm(self._memory, place, -1, -1)

    def copy(self, place: int, other: int) -> None:
        """Begin a sequence as another is; see ``Batch``."""
        self._lib.llama_memory_seq_cp(self._memory, place, other, -1, -1)
        self._lengths[other] = self._lengths[place]

    def close(self) -> None:
        """Free the cache; twice does no harm."""
        if self._context:
            self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._context)
            self._context = None
            self._release()
