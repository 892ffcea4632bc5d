"""Translated documents that wait to be fetched: in a private folder, by names that cannot be guessed, for an hour."""

import contextlib
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from slimmoe.server.asked import Limits, Refused


@dataclass(frozen=True)
class Document:
    """One of them; ``name`` is what the client may call it."""

    name: str
    path: Path
    size: int
    until: float


class Kept:
    """Documents by tokens: nothing that a client sends becomes part of a path."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="slimmoe-serve-"))  # for this user alone
        self._documents: dict[str, Document] = {}

    def put(self, name: str, data: bytes) -> str:
        """Keep a document; returns its token.

        Raises:
            Refused: too many wait already.
        """
        with self._lock:
            self._forget()
            if sum(each.size for each in self._documents.values()) + len(data) > self._limits.kept:
                raise Refused(429, "Too many translated documents wait to be fetched: try again later.", 60)
            token = secrets.token_urlsafe(24)
            path = self._folder / token
            path.write_bytes(data)
            until = time.monotonic() + self._limits.kept_seconds
            self._documents[token] = Document(name, path, len(data), until)
        return token

    def get(self, token: str) -> tuple[str, bytes]:
        """Its name and content.

        Raises:
            Refused: there is none.
        """
        with self._lock:
            self._forget()
            if (found := self._documents.get(token)) is None:
                raise Refused(404, "There is no such document, or it waited too long.")
            return found.name, found.path.read_bytes()

    def drop(self, token: str) -> None:
        """Remove it now."""
        with self._lock:
            self._remove(token)

    def _forget(self) -> None:
        now = time.monotonic()
        for token in [token for token, each in self._documents.items() if each.until < now]:
            self._remove(token)

    def _remove(self, token: str) -> None:
        if (found := self._documents.pop(token, None)) is not None:
            with contextlib.suppress(OSError):
                found.path.unlink()

    def close(self) -> None:
        """Remove all."""
        with self._lock:
            self._documents.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
