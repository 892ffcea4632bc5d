"""A translation memory: sentences that a model has translated, so that a run that was stopped goes on where it was."""

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from runtime.errors import warn_once

_SCHEMA = "CREATE TABLE IF NOT EXISTS sentences (asked TEXT, source TEXT, target TEXT, PRIMARY KEY (asked, source)) WITHOUT ROWID"


def cache_folder() -> Path:
    """Where the platform has programs keep what they can make again; ``SLIMMOE_CACHE`` names another place."""
    if chosen := os.environ.get("SLIMMOE_CACHE"):
        return Path(chosen)
    return user_cache_path("slimmoe", appauthor=False, opinion=False)


def model_key(artefact: Path, *asked: str) -> str:
    """What a translation depends on beside its source: the model's files, by name, size and time, and how it is asked."""
    artefact = artefact.resolve()
    files = sorted(each for each in artefact.rglob("*") if each.is_file()) if artefact.is_dir() else [artefact]
    parts = [f"{file}:{(stat := file.stat()).st_size}:{stat.st_mtime_ns}" for file in files]
    return hashlib.sha256("\0".join([*parts, *asked]).encode("utf-8", "surrogateescape")).hexdigest()


class GivenTranslations:
    """Translations that somebody gives, before those that are remembered.

    Args:
        given: translations by their sentences.
        rest: is asked for all others, and keeps them.
    """

    def __init__(self, given: Mapping[str, str], rest: "TranslationMemory | None") -> None:
        self._given, self._rest = given, rest

    def get(self, source: str) -> str | None:
        """The translation of a sentence, or None."""
        return self._given.get(source) or (self._rest.get(source) if self._rest else None)

    def put(self, source: str, translation: str) -> None:
        """Keep a translation."""
        if self._rest:
            self._rest.put(source, translation)


class TranslationMemory:
    """Sentences and their translations by one model, asked in one way, in an SQLite file that is only this user's.

    A file that is damaged is put aside, and one that cannot be written costs a warning: a run never fails for it.
    """

    def __init__(self, path: Path, asked: str) -> None:
        self._asked, self._lock = asked, threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            try:
                self._connection = self._opened(path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                path.replace(path.with_suffix(".damaged"))
                self._connection = self._opened(path)
        except (OSError, sqlite3.Error) as error:
            warn_once(f"{path} cannot be used ({error}): nothing is remembered of this run.")

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        # A thread that reads ahead asks, too. Each sentence is a transaction, so that no other process waits for long; a
        # power cut costs the last ones and no more.
        connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", _SCHEMA):
            connection.execute(statement)
        return connection

    def get(self, source: str) -> str | None:
        """The translation of a sentence, or None."""
        asked = "SELECT target FROM sentences WHERE asked = ? AND source = ?"
        with self._lock, self._failing_softly():
            row = self._connection.execute(asked, (self._asked, source)).fetchone() if self._connection else None
            return row[0] if row else None
        return None

    def put(self, source: str, translation: str) -> None:
        """Keep a translation."""
        with self._lock, self._failing_softly():
            if self._connection:
                row = (self._asked, source, translation)
                self._connection.execute("INSERT OR REPLACE INTO sentences VALUES (?, ?, ?)", row)

    @contextlib.contextmanager
    def _failing_softly(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError:  # half a character, which SQLite cannot keep
            pass
        except sqlite3.Error as error:  # a full disk
            warn_once(f"The translation memory cannot be used ({error}): nothing more is remembered of this run.")
            self._connection = None

    def close(self) -> None:
        """Free the file."""
        with self._lock, self._failing_softly():
            if self._connection:
                self._connection.close()
                self._connection = None
