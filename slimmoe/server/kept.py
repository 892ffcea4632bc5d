"""What outlives a server, a killed one too: documents accepted or translated, and glossaries, in a private folder.

A record is ``<id>.json`` and appears whole, once its data, ``<id>.<number>``, is on the disk. Ids cannot be guessed, and
nothing that a client sends becomes part of a path. A server holds the lock of its folder until it ends.
"""

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from runtime.errors import RequestError
from runtime.formats.files import new_file
from slimmoe.server.asked import Limits, Refused

TRANSLATION, JOB, GLOSSARY = "translation", "job", "glossary"
_ID = r"[A-Za-z0-9_-]{32}"
_DATA = re.compile(rf"({_ID})\.\d+")
_OURS = re.compile(rf"{_ID}\.(json|\d+)|\.{_ID}\.(json|\d+)\.[a-z0-9_]{{8}}\.part")  # the latter: half written
_PIECE = 1 << 16
_LOCKED = 5.0  # seconds to wait for a lock, which another server takes for a moment when it starts


@dataclass(frozen=True)
class Record:
    """One thing that is kept.

    Attributes:
        kind: ``TRANSLATION``, ``JOB`` or ``GLOSSARY``.
        told: what else is known of it, as JSON.
        data: the name of its file; empty: it has none.
        size: bytes of its data.
        until: seconds since 1970; None: until it is dropped.
    """

    id: str
    kind: str
    told: dict[str, Any]
    data: str = ""
    size: int = 0
    until: float | None = None


def state_folder(address: str) -> Path:
    """The folder of the server at an address, ``HOST:PORT``, where the platform has programs keep their state."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", address).strip("-.")
    return user_state_path("slimmoe", appauthor=False) / "server" / name


def _is_foreign(name: str) -> bool:
    """Whether a file or folder of this name is no server's; hidden ones are the system's, and stay."""
    return not (name.startswith(".") or name == "lost+found" or _OURS.fullmatch(name))


class Kept:
    """The records of a folder.

    Raises:
        RequestError: another server has the folder, it holds something else, cannot be written, or is another user's.
    """

    def __init__(self, folder: Path, limits: Limits, wait: float = _LOCKED) -> None:
        self._limits, self._folder = limits, folder
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._file_lock = FileLock(folder / ".lock", thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if foreign := next((path.name for path in folder.iterdir() if _is_foreign(path.name)), None):
                raise RequestError(
                    f"{folder} is not a folder of a server's documents: it holds {foreign}.",
                    next_command="the same with --state and a new folder",
                )
            folder.chmod(0o700)
            self._file_lock.acquire(timeout=wait)
        except Timeout:
            raise RequestError(
                f"Another server keeps its documents in {folder}.", next_command="the same with --state FOLDER"
            ) from None
        except OSError as error:
            raise RequestError(
                f"Documents cannot be kept in {folder}: {error.strerror}.", next_command="the same with --state FOLDER"
            ) from None
        self._load()
        self.forget()

    def _load(self) -> None:
        """Read the records; remove what a killed server had not finished writing, and no file of anybody else."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            with contextlib.suppress(OSError, ValueError, TypeError):  # of a damaged one nothing is to be had
                record = Record(path.stem, **json.loads(path.read_bytes()))
                owner = _DATA.fullmatch(record.data)  # a name of another form could lead out of the folder
                there = owner and owner[1] == record.id and (self._folder / record.data).is_file()
                if re.fullmatch(_ID, record.id) and (there or not record.data):
                    self._records[record.id] = record
        used = {f"{each}.json" for each in self._records} | {each.data for each in self._records.values()}
        for path in self._folder.iterdir():
            if path.name not in used and _OURS.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)

    def put(self, kind: str, told: dict[str, Any], data: bytes = b"", until: float | None = None) -> str:
        """Keep something; returns its id once it is on the disk.

        Raises:
            Refused: too much is kept already.
        """
        with self._lock:
            self.forget()
            if sum(each.size for each in self._records.values()) + len(data) > self._limits.kept:
                raise Refused(429, "Too many documents wait to be translated or fetched: try again later.", 60)
            record = Record(secrets.token_urlsafe(24), kind, told, until=until)
            self._write(record, data)
        return record.id

    def put_translation(self, name: str, data: bytes) -> str:
        """Keep a translated document for its time; ``name`` is what its client may call it."""
        return self.put(TRANSLATION, {"name": name}, data, self.expiry())

    def expiry(self) -> float:
        """When what is done now is removed."""
        return time.time() + self._limits.kept_seconds

    def change(self, id: str, told: dict[str, Any], data: bytes | None = None, until: float | None = None) -> None:
        """Put something in a record's place, unless it was dropped; a kill leaves the one or the other."""
        with self._lock:
            if (record := self._records.get(id)) is not None:
                self._write(replace(record, told=told, until=until), data)

    def _write(self, record: Record, data: bytes | None) -> None:
        before = record.data
        if data is not None:
            number = int(before.rpartition(".")[2]) + 1 if before else 0
            record = replace(record, data=f"{record.id}.{number}" if data else "", size=len(data))
            if data:
                with new_file(self._folder / record.data) as path:
                    path.write_bytes(data)
        row = {
            "kind": record.kind,
            "told": record.told,
            "data": record.data,
            "size": record.size,
            "until": record.until,
        }
        with new_file(self._folder / f"{record.id}.json") as path:
            path.write_text(json.dumps(row), encoding="utf-8")
        self._records[record.id] = record
        if before and before != record.data:
            (self._folder / before).unlink(missing_ok=True)

    def all(self, kind: str) -> list[Record]:
        """Those of a kind, the oldest first."""
        with self._lock:
            self.forget()
            return [each for each in self._records.values() if each.kind == kind]

    def get(self, kind: str, id: str) -> Record:
        """One of them.

        Raises:
            Refused: there is none.
        """
        with self._lock:
            self.forget()
            if (found := self._records.get(id)) is None or found.kind != kind:
                raise Refused(404, f"There is no such {kind}, or it waited too long.")
            return found

    def read(self, record: Record) -> bytes:
        """Its data.

        Raises:
            Refused: it was removed meanwhile.
        """
        return b"".join(self.pieces(record))

    def pieces(self, record: Record) -> Iterator[bytes]:
        """Its data piece by piece, also where the record is dropped before the last.

        Raises:
            Refused: it was removed meanwhile.
        """
        try:
            file = (self._folder / record.data).open("rb") if record.data else None
        except OSError:
            raise Refused(404, f"There is no such {record.kind}, or it waited too long.") from None

        def rest() -> Iterator[bytes]:
            with file or contextlib.nullcontext():
                while file and (piece := file.read(_PIECE)):
                    yield piece

        return rest()

    def drop(self, id: str) -> None:
        """Remove one now."""
        with self._lock, contextlib.suppress(OSError):
            if (found := self._records.pop(id, None)) is not None:
                (self._folder / f"{id}.json").unlink()
                if found.data:
                    (self._folder / found.data).unlink()

    def forget(self) -> None:
        """Remove those whose time has come."""
        with self._lock:
            now = time.time()
            for each in [each for each in self._records.values() if each.until is not None and each.until <= now]:
                self.drop(each.id)

    def close(self) -> None:
        """Leave the folder to the next server."""
        self._file_lock.release()


def forget_elsewhere(folder: Path, limits: Limits) -> None:
    """Remove what has expired in the folders beside a server's own, of servers that run no more."""
    with contextlib.suppress(OSError):
        for other in [each for each in os.scandir(folder.parent) if each.is_dir(follow_symlinks=False)]:
            if other.name != folder.name:
                with contextlib.suppress(RequestError):  # one that runs
                    Kept(Path(other.path), limits, wait=0).close()
