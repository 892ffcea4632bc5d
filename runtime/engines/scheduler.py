"""Many generations on one engine at a time: prompts are pushed in by any thread, and join the batch that is running.

Continuous batching (Yu et al. 2022, Orca): after each token a sequence that has come to its end gives its place to the next
prompt. The engine evaluates a step of all sequences; which token each of them writes is said by its own ``decoding``.
"""

import contextlib
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TypeVar

from runtime.engines.base import FIRST_ROOM, PLACES, Batch, Engine, Feed, Generation, Request
from runtime.engines.beam import BeamSearch
from runtime.engines.cache_room import grown
from runtime.engines.decoding import Steps, decoding, room_for

_Result = TypeVar("_Result")


@dataclass
class _Waiting:
    request: Request
    room: int
    answer: Future[Generation] = field(default_factory=Future)


@dataclass
class _Running:
    answer: Future[Generation]
    steps: Steps
    feed: Feed


class Scheduler:
    """Batches of an engine, each in a thread of its own, and the prompts that wait for a place in them.

    A text's translation may depend on what it is batched with (docs/threads.md); with one place it does not.

    Args:
        engine: which must outlive it.
        workers: batches decoded side by side; default: what suits the engine (``Engine.thread_choice``).
        places: sequences in each.
    """

    def __init__(self, engine: Engine, workers: int | None = None, places: int | None = None) -> None:
        self.workers, self.places = workers or engine.thread_choice.workers, places or PLACES
        self._engine = engine
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._running = 0  # in all batches
        self._closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, request: Request) -> Future[Generation]:
        """Queue a prompt, from any thread. Cancelling the future ends the generation at its next token.

        The future raises WorkError where the engine failed, NoRoom where memory is short, what ``on_token`` raised.

        Raises:
            PromptTooLong: what is given fills the context.
            ValueError: the scheduler is closed.
        """
        room = room_for(request, self._engine.context)
        waiting = _Waiting(request, room)
        with self._changed:
            if self._closed:
                raise ValueError("the scheduler is closed")
            self._waiting.append(waiting)
            if len(self._threads) < self.workers:
                # A daemon: a program that forgets to close it can end.
                self._threads.append(threading.Thread(target=_Worker(self, self._engine).work, daemon=True))
                self._threads[-1].start()
            self._changed.notify()
        return waiting.answer

    def take(self, running: int, room: int) -> list[_Waiting] | None:
        """What a batch with so many sequences under way is to begin now; it waits while there are none; None: end.

        Each batch gets its share of the prompts. One that needs more than ``room`` waits until its batch is empty.
        """
        with self._changed:
            while not (self._waiting or running or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            share = -(-(self._running + len(self._waiting)) // self.workers)
            taken: list[_Waiting] = []
            while self._waiting and running + len(taken) < min(self.places, share):
                if self._waiting[0].answer.cancelled():
                    self._waiting.popleft()
                elif self._waiting[0].room > room and (running or taken):
                    break
                else:
                    taken.append(self._waiting.popleft())
                    room = max(room, taken[-1].room)
            self._running += len(taken)
            return taken

    def give_back(self, waiting: list[_Waiting]) -> None:
        """Put what found no place to the head of the queue again."""
        with self._changed:
            self._running -= len(waiting)
            self._waiting.extendleft(reversed(waiting))
            self._changed.notify()

    def ended(self, count: int) -> None:
        """So many sequences have left their batch."""
        with self._changed:
            self._running -= count

    def close(self) -> None:
        """Cancel what waits and what is under way, and free the caches; twice does no harm."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for each in waiting:
            each.answer.cancel()
        for thread in self._threads:
            thread.join()


class _Worker:
    """One thread's batch."""

    def __init__(self, scheduler: Scheduler, engine: Engine) -> None:
        self._scheduler, self._engine = scheduler, engine
        self._batch: Batch | None = None
        self._beams = BeamSearch(engine)
        self._running: dict[int, _Running] = {}  # by place

    def work(self) -> None:
        """Decode until the scheduler is closed."""
        try:
            while (taken := self._scheduler.take(len(self._running), self._room)) is not None:
                if taken:
                    self._begin(taken)
                self._leave_cancelled()
                if self._running:
                    self._step()
        finally:
            for running in self._running.values():
                running.answer.cancel()
            self._close()
            self._beams.close()

    @property
    def _room(self) -> int:
        return self._batch.room if self._batch else FIRST_ROOM

    def _close(self) -> None:
        if self._batch:
            self._batch.close()
        self._batch = None

    def _begin(self, taken: list[_Waiting]) -> None:
        """Give prompts their places, in a larger batch where the first one needs it; those with beams are done at once."""
        for each in taken:
            if each.request.beam > 1:
                self._search(each)
        taken = [each for each in taken if each.request.beam == 1]
        if not taken:
            return
        try:
            batch = self._batch_for(taken[0].room)
        except Exception as error:
            self._scheduler.ended(1)
            self._scheduler.give_back(taken[1:])
            return settle(taken[0].answer, error)
        places = [place for place in range(batch.places) if place not in self._running]
        self._scheduler.give_back(taken[len(places) :])
        for place, waiting in zip(places, taken):
            steps = decoding(self._engine, waiting.request)
            self._running[place] = _Running(waiting.answer, steps, Feed(place, next(steps), waiting.request.prefix))

    def _search(self, waiting: _Waiting) -> None:
        """Answer a prompt with beams, which take a batch of their own: the others wait."""
        outcome: Generation | Exception
        try:
            outcome = self._beams.run(waiting.request, waiting.answer.cancelled)
        except Exception as error:
            outcome = error
        self._scheduler.ended(1)
        settle(waiting.answer, outcome)

    def _batch_for(self, room: int) -> Batch:
        if self._batch is None or room > self._batch.room:
            self._close()
            room = grown(FIRST_ROOM, room, self._engine.context)
            self._batch = self._engine.batch(self._scheduler.places, room)
        return self._batch

    def _leave_cancelled(self) -> None:
        for place in [place for place, running in self._running.items() if running.answer.cancelled()]:
            self._leave(place)

    def _leave(self, place: int) -> None:
        """End a sequence, whatever became of it."""
        self._running.pop(place).steps.close()
        if self._batch:
            self._batch.free(place)
        self._scheduler.ended(1)

    def _step(self) -> None:
        """One more token for each sequence."""
        batch = self._batch
        if batch is None:
            raise ValueError("sequences without a batch")
        running = list(self._running.items())
        try:
            rows = batch.evaluate([each.feed for _, each in running])
        except Exception as error:  # the cache may be in any state
            self._close()
            for place, each in running:
                self._leave(place)
                settle(each.answer, error)
            return
        for (place, each), logits in zip(running, rows):
            try:
                each.feed = Feed(place, each.steps.send(logits))
            except StopIteration as end:
                self._leave(place)
                settle(each.answer, end.value)
            except Exception as error:  # of on_token
                self._leave(place)
                settle(each.answer, error)


def settle(answer: Future[_Result], outcome: _Result | Exception) -> None:
    """Give a future its result, unless it was cancelled meanwhile."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
