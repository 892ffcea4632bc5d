"""Documents that are translated while their clients ask now and then; what was accepted is gone on with by the next server."""

import asyncio
import logging
from concurrent.futures import CancelledError
from dataclasses import asdict

from runtime.errors import SlimmoeError
from slimmoe.server.asked import Ask, Refused
from slimmoe.server.desk import RETRY, Desk
from slimmoe.server.kept import JOB, Kept, Record
from slimmoe.server.service import Service, Work

_LOG = logging.getLogger("slimmoe.server")
MOST_JOBS = 1000
MOST_STARTS = 3  # of servers on one document, which may be what ended them
ACCEPTED, DONE, FAILED = "accepted", "done", "failed"


class Jobs:
    """The documents of one folder: each is a record whose data is the document, and its translation once that is there."""

    def __init__(self, kept: Kept, desk: Desk, service: Service) -> None:
        self._kept, self._desk, self._service = kept, desk, service
        self._left = [each for each in kept.all(JOB) if each.told["state"] == ACCEPTED]

    async def accept(self, name: str, data: bytes, ask: Ask, key: str) -> str:
        """Begin a document; its id is given once a killed server would not lose it.

        Raises:
            Refused: there is no room.
        """
        if len(self._kept.all(JOB)) >= MOST_JOBS:
            raise Refused(429, f"{MOST_JOBS} documents wait already: try again later.", 60)
        told = {"state": ACCEPTED, "name": name, "ask": asdict(ask), "key": key, "starts": 1}
        id = await asyncio.to_thread(self._kept.put, JOB, told, data)
        try:
            self._desk.start(lambda work: self._translate(id, work))
        except Refused:
            self._kept.drop(id)
            raise
        return id

    async def go_on(self) -> None:
        """Translate what the last server on this folder had accepted and not done, one after the other."""
        for record in self._left:
            told = {**record.told, "starts": record.told["starts"] + 1}
            if told["starts"] > MOST_STARTS:
                self._fail(record, f"The server ended {MOST_STARTS} times while it was being translated.")
                continue
            self._kept.change(record.id, told)
            while True:
                try:
                    await self._desk.start(lambda work, id=record.id: self._translate(id, work)).future
                    break
                except Refused:  # there is no room
                    await asyncio.sleep(RETRY)

    def _translate(self, id: str, work: Work) -> None:
        """Translate one, in a thread; what goes wrong is told to whoever asks."""
        try:
            record = self._kept.get(JOB, id)
        except Refused:  # dropped
            return
        ask = record.told["ask"]
        try:
            ask = Ask(**{**ask, "texts": (), "terms": tuple(map(tuple, ask["terms"]))})
            name = record.told["name"]
            name, data, _ = self._service.translate_document(name, self._kept.read(record), ask, work)
            told = {"state": DONE, "name": name, "key": record.told["key"]}
            self._kept.change(id, told, data, self._kept.expiry())
        except CancelledError:
            if not self._desk.ending:  # else the next server goes on with it
                self._fail(record, "It took too long: send less at a time.")
        except (Refused, SlimmoeError) as error:
            self._fail(record, error.sentence)
        except Exception as error:
            _LOG.error("a mistake in slimmoe: %s", type(error).__name__, exc_info=error)
            self._fail(record, "The server has failed; its log says how.")

    def _fail(self, record: Record, sentence: str) -> None:
        told = {"state": FAILED, "error": sentence, "key": record.told["key"]}
        self._kept.change(record.id, told, b"", self._kept.expiry())
