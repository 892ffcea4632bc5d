"""What a client sees of sentences before they are done."""

import threading
from collections.abc import Callable


class Drafts:
    """Pieces of sentences that are decoded side by side, told in the order of the sentences."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._first = 0  # the number of the sentence that is told of
        self._waiting: dict[int, list[str]] = {}

    def add(self, number: int, piece: str) -> None:
        """A piece of a sentence."""
        with self._lock:
            if number == self._first:
                self._tell(piece)
            elif number > self._first:
                self._waiting.setdefault(number, []).append(piece)

    def next(self) -> None:
        """The first sentence is settled; what there is of the next is told."""
        with self._lock:
            self._first += 1
            if waiting := self._waiting.pop(self._first, None):
                self._tell("".join(waiting))
