"""Several sequences on one ONNX session: rows of one key-value cache, those in use always the first ones.

A row is one contiguous part of each of the cache's arrays. So the rows that are in use can be bound as a batch of their
number, and a single one of them as a batch of one, for the graph to read and write in place.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.engines.base import Feed
from runtime.engines.onnx_load import STATES, empty_cache, failed_run, present_name


class OnnxBatch:
    """A cache with a row for each sequence; see ``Batch``."""

    def __init__(self, session: Any, vocabulary: int, places: int, room: int) -> None:
        self.places, self.room = places, room
        self._session: Any = session
        self._cache = empty_cache(session, room, places)
        self._mask = np.zeros((places, room), np.int64)
        self._tokens = np.zeros((places, 1), np.int64)
        self._one = np.ones(1, np.int64)
        self._logits = np.zeros((places, 1, vocabulary), np.float32)
        self._order: list[int] = []  # the place of each row in use
        self._lengths: list[int] = []  # tokens of each row in use
        self._prefix: tuple[int, ...] = ()
        self._kept: dict[str, np.ndarray] = {}  # the prefix's part of the cache
        self._bindings: dict[int, Any] = {}  # of steps, by the number of rows

    def evaluate(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """Logits after the last token of each feed; see ``Batch``."""
        under_way = set(self._order)
        going = {feed.place: feed for feed in feeds if feed.place in under_way}
        if len(going) != len(self._order):
            raise ValueError("every sequence under way must be fed")
        if going:
            self._step([going[place].tokens[0] for place in self._order])
        for feed in feeds:
            if feed.place not in under_way:
                self._begin(feed)
        rows = {place: row for row, place in enumerate(self._order)}
        return [self._logits[rows[feed.place], 0] for feed in feeds]

    def _step(self, tokens: Sequence[int]) -> None:
        """One token more in each row."""
        count = len(tokens)
        self._tokens[:count, 0] = tokens
        self._mask[np.arange(count), self._lengths] = 1
        self._lengths = [length + 1 for length in self._lengths]
        if count not in self._bindings:
            self._bindings[count] = self._bound(0, count, self._tokens[:count], self._mask[:count])
        self._run(self._bindings[count])

    def _begin(self, feed: Feed) -> None:
        """A new sequence in the next row, alone: later tokens of a prompt need a batch of one."""
        row, shared, prefix = len(self._order), feed.shared, feed.prefix
        for name, values in self._cache.items():
            if name.startswith(STATES):  # no mask hides what is left in it
                values[row] = 0
        if shared:
            if prefix != self._prefix:
                self._prefill(row, prefix, 0)
                self._kept = {name: part(row, shared).copy() for name, part in self._parts()}
                self._prefix = prefix
            else:
                for name, part in self._parts():
                    part(row, shared)[:] = self._kept[name]
        self._prefill(row, feed.tokens[shared:], shared)
        length = len(feed.tokens)
        self._mask[row, :length], self._mask[row, length:] = 1, 0
        self._order.append(feed.place)
        self._lengths.append(length)

    def _prefill(self, row: int, tokens: Sequence[int], start: int) -> None:
        ids, mask = np.array([tokens], np.int64), np.ones((1, start + len(tokens)), np.int64)
        self._run(self._bound(row, row + 1, ids, mask))

    def _parts(self) -> list[tuple[str, Callable[[int, int], np.ndarray]]]:
        """By name of the cache's arrays, a function that gives the first tokens of a row; a state is given whole."""

        def part(values: np.ndarray, is_state: bool) -> Callable[[int, int], np.ndarray]:
            return lambda row, length: values[row] if is_state else values[row, :, :length]

        return [(name, part(values, name.startswith(STATES))) for name, values in self._cache.items()]

    def free(self, place: int) -> None:
        """End the sequence in a place; the last row moves to where it was. Logits stay where they are."""
        if place not in self._order:
            return
        row, last = self._order.index(place), len(self._order) - 1
        if row != last:
            self._copy_row(last, row)
            self._order[row], self._lengths[row] = self._order[last], self._lengths[last]
        self._order.pop()
        self._lengths.pop()

    def copy(self, place: int, other: int) -> None:
        """Begin a sequence as another is, in the next row; see ``Batch``."""
        row = self._order.index(place)
        self._copy_row(row, len(self._order))
        self._order.append(other)
        self._lengths.append(self._lengths[row])

    def _copy_row(self, row: int, other: int) -> None:
        for _, part in self._parts():
            part(other, self._lengths[row])[:] = part(row, self._lengths[row])
        self._mask[other] = self._mask[row]

    def _bound(self, first: int, end: int, ids: np.ndarray, mask: np.ndarray) -> Any:
        """A binding of some rows; ``ids`` and ``mask`` must live until it has run."""
        binding = self._session.io_binding()

        def bind(bind_one: Any, name: str, values: np.ndarray) -> None:
            bind_one(name, "cpu", 0, values.dtype, values.shape, values.ctypes.data)

        for name, values in self._cache.items():
            bind(binding.bind_input, name, values[first:end])
            bind(binding.bind_output, present_name(name), values[first:end])
        bind(binding.bind_input, "num_logits_to_keep", self._one)
        bind(binding.bind_input, "input_ids", ids)
        bind(binding.bind_input, "attention_mask", mask)
        bind(binding.bind_output, "logits", self._logits[first:end])
        return binding

    def _run(self, binding: Any) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime has a class for each of its codes
            raise failed_run(error) from None

    def close(self) -> None:
        """Free the cache; twice does no harm."""
        self._session, self._cache, self._kept = None, {}, {}
        self._bindings.clear()
