"""HTTP as uvicorn speaks it, less patient with clients that send nothing, no end of a head, or do not read their answer."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 20.0  # seconds for the head of a request
READING = 30.0  # seconds in which a client that does not keep up with its answer reads at least LEAST bytes
LEAST = 16 << 10


class ImpatientProtocol(H11Protocol):
    """A connection; one on which no request is under way is closed after ``PATIENCE``, one that is not read after ``READING``.

    What is written waits for the client beyond 64 KiB, so that a connection holds no more of a stream or a document.
    """

    _closing: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()
        self._stop_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    def _watch_reading(self) -> None:
        """Time runs while more waits to be read than is written on; nothing is added meanwhile."""
        before = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() > before - LEAST:
                self.transport.abort()  # closing would wait until it is read
            else:
                self._watch_reading()

        self._stop_reading()
        self._reading = self.loop.call_later(READING, look)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = None

    def _watch(self) -> None:
        """Time runs while no request is under way, whatever comes meanwhile."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._closing is None:
            self._closing = self.loop.call_later(PATIENCE, self._end)

    def _end(self) -> None:
        """Close; an answer whose end waits to be read is ended by READING, or is short and waits once more."""
        if self._reading is not None:
            self._closing = self.loop.call_later(PATIENCE, self._end)
        elif self.transport.is_closing():
            self.transport.abort()
        else:
            self._closing = self.loop.call_later(PATIENCE, self._end)
            self.transport.close()

    def _stop(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = None
