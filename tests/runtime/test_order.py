"""Results come in order, however they are reached, and what nobody waits for any more is cancelled."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from runtime.translate.order import at_hand, in_order

WAYS = pytest.mark.parametrize("way", [in_order, at_hand])


class Desk:
    """Hands out futures, which end when it says."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[str]] = {}
        self.all_in = threading.Event()

    def submit(self, text: str) -> Future[str]:
        self.futures[text] = Future()
        if len(self.futures) == 3:
            self.all_in.set()
        return self.futures[text]


@WAYS
def test_they_come_in_order_whichever_is_done_first(way: Callable) -> None:
    desk = Desk()

    def end() -> None:
        desk.all_in.wait(10)
        for text in ("c", "a", "b"):
            desk.futures[text].set_result(text.upper())

    threading.Thread(target=end).start()
    assert list(way(desk.submit, ["a", "b", "c"], 8)) == ["A", "B", "C"]


def test_no_more_than_that_many_are_handed_in_before_the_first_is_taken() -> None:
    desk, read = Desk(), list[str]()

    def texts() -> Iterator[str]:
        for text in "abcdef":
            read.append(text)
            yield text

    def submit(text: str) -> Future[str]:
        future = desk.submit(text)
        future.set_result(text)
        return future

    results = at_hand(submit, texts(), 2)
    assert next(results) == "a" and read == ["a", "b", "c"]
    assert list(results) == ["b", "c", "d", "e", "f"]


@WAYS
def test_what_is_left_is_cancelled(way: Callable) -> None:
    desk = Desk()
    results = way(desk.submit, ["a", "b", "c"], 8)
    threading.Thread(target=lambda: desk.all_in.wait(10) and desk.futures["a"].set_result("A")).start()
    assert next(results) == "A"
    results.close()
    assert desk.futures["b"].cancelled() and desk.futures["c"].cancelled()


@WAYS
def test_a_text_that_cannot_be_read_is_told_in_its_place(way: Callable) -> None:
    def texts() -> Iterator[str]:
        yield "a"
        raise OSError("gone")

    def submit(text: str) -> Future[str]:
        future = Future[str]()
        future.set_result(text)
        return future

    results = way(submit, texts(), 0 if way is at_hand else 1)
    assert next(results) == "a"
    with pytest.raises(OSError, match="gone"):
        next(results)
