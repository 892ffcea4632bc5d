"""HTTP as uvicorn speaks it, less patient with clients that connect and send nothing, or no end of a head."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 20.0  # seconds for the head of a request


class ImpatientProtocol(H11Protocol):
    """A connection; one on which no request is under way is closed after ``PATIENCE``."""

    _closing: asyncio.TimerHandle | None = None

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

    def _watch(self) -> None:
        """Time runs while no request is under way, whatever comes meanwhile."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._closing is None:
            self._closing = self.loop.call_later(PATIENCE, self.transport.close)

    def _stop(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = None
