"""Where requests wait: as many as there is room for are under way, each in a thread, and end when their client goes away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import ClientDisconnect, Request

from slimmoe.server.asked import Limits, Refused
from slimmoe.server.metrics import Metrics
from slimmoe.server.service import Work

_Result = TypeVar("_Result")
_Piece = TypeVar("_Piece")
MOST_DRAFTS = 200  # pieces that a client has not read yet; with more, what may be left out is
RETRY = 5  # seconds that one who finds no room is told to wait


@dataclass(frozen=True)
class Job(Generic[_Result]):
    """Work in a thread."""

    work: Work
    future: "asyncio.Future[_Result]"


class Desk:
    """The requests under way."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(limits.queue, "request")
        self._works: set[Work] = set()
        self.ending = False  # of the server

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._works)

    def start(self, do: Callable[[Work], _Result]) -> Job[_Result]:
        """Call ``do`` in a thread; a place is taken until that has really ended, whatever became of its client.

        Raises:
            Refused: there is no room.
        """
        if len(self._works) >= self._limits.queue:
            raise Refused(429, f"{self._limits.queue} requests are under way already: try again later.", RETRY)
        work = Work(self._metrics.tokens)
        self._works.add(work)
        self._metrics.begin()

        def begun() -> _Result:
            try:
                return do(work)
            except CancelledError:
                raise Refused(504, "It was ended: it took too long, or the server is being stopped.") from None

        future = asyncio.get_running_loop().run_in_executor(self._threads, begun)

        def left(future: "asyncio.Future[_Result]") -> None:
            self._works.discard(work)
            self._metrics.end()
            if not future.cancelled():
                future.exception()  # somebody may be gone who would have asked for it

        future.add_done_callback(left)
        ending = asyncio.get_running_loop().call_later(self._limits.seconds, work.end)
        future.add_done_callback(lambda _: ending.cancel())
        return Job(work, future)

    async def run(self, request: Request, do: Callable[[Work], _Result]) -> _Result:
        """What ``do`` gives, which is called in a thread.

        Raises:
            Refused: there is no room, or it takes too long.
            ClientDisconnect: who asked has gone away.
        """
        job = self.start(do)
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({job.future, gone}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if job.future.done():
                return await job.future
            if gone.done():
                raise ClientDisconnect
            raise Refused(504, f"It took longer than {self._limits.seconds:.0f} seconds: send less at a time.")
        finally:
            gone.cancel()
            job.work.end()

    async def stream(
        self,
        do: Callable[[Work, Callable[[_Piece], object]], object],
        may_be_left_out: Callable[[_Piece], bool] = lambda piece: False,
    ) -> AsyncIterator[_Piece]:
        """The pieces that ``do`` tells, once the first is there: what goes wrong before that is raised here.

        Args:
            may_be_left_out: of a piece, where its client does not keep up.

        Raises:
            Refused: there is no room, or the first piece takes too long.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[_Piece | None] = asyncio.Queue()

        def tell(piece: _Piece | None) -> None:
            if piece is not None and pieces.qsize() > MOST_DRAFTS and may_be_left_out(piece):
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def read(work: Work) -> None:
            try:
                do(work, tell)
            finally:
                tell(None)

        job = self.start(read)

        async def rest(first: _Piece | None) -> AsyncIterator[_Piece]:
            try:
                while first is not None:
                    yield first
                    first = await pieces.get()
                await job.future
            finally:
                job.work.end()

        first = await pieces.get()
        if first is None:
            await job.future
        return rest(first)

    def end(self) -> None:
        """Cancel what is under way, and wait for its threads."""
        self.ending = True
        for work in list(self._works):
            work.end()
        self._threads.shutdown()


async def _gone(request: Request) -> None:
    """Return when the client has gone away; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
