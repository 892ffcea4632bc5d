"""Results in the order of what they are of, while many are under way."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Queue
from typing import Protocol, TypeVar

_Result = TypeVar("_Result", covariant=True)


class Promise(Protocol[_Result]):
    """What will have a result, unless it is cancelled."""

    def result(self) -> _Result: ...

    def cancel(self) -> object: ...


def in_order(submit: Callable[[str], Promise[_Result]], segments: Iterable[str], ahead: int) -> Generator[_Result]:
    """Results of segments in order, each as soon as it and those before it are there.

    A thread of its own reads ``segments``, so many ahead.
    """
    promised: Queue[Promise[_Result] | Exception | None] = Queue(ahead)
    stopped = threading.Event()

    def read() -> None:
        try:
            for segment in segments:
                if stopped.is_set():
                    return
                promised.put(submit(segment))
            promised.put(None)
        except Exception as error:  # raised where the segment would have been given back
            promised.put(error)

    # What blocks in reading a terminal cannot be ended, so it is a daemon.
    threading.Thread(target=read, daemon=True).start()
    try:
        while (promise := promised.get()) is not None:
            if isinstance(promise, Exception):
                raise promise
            yield promise.result()
    finally:
        stopped.set()
        with contextlib.suppress(Empty):
            while True:  # the reader may wait for room
                left = promised.get_nowait()
                if left is not None and not isinstance(left, Exception):
                    left.cancel()


def at_hand(submit: Callable[[str], Promise[_Result]], segments: Iterable[str], ahead: int) -> Generator[_Result]:
    """The same of segments that nobody waits for, as those of a text: without a thread."""
    promised = deque[Promise[_Result]]()
    try:
        for segment in segments:
            promised.append(submit(segment))
            if len(promised) > ahead:
                yield promised.popleft().result()
        while promised:
            yield promised.popleft().result()
    finally:
        for left in promised:
            left.cancel()
