"""Hashes of the files that stages read and write (slimmoe/stages.py)."""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import WorkError
from runtime.formats.files import new_file
from runtime.formats.json_object import read_object


@dataclass(frozen=True)
class Files:
    """Something that was given, as the files that are read of it, in a fixed order; ``name`` where it has none."""

    files: tuple[Path, ...]
    name: str = ""


class Hashes:
    """SHA-256 of files, remembered by inode, size and times in a file of the run, so that large models are read once.

    Args:
        memory: where they are kept; it is written by ``save``.
        check: trust nothing, read everything.
    """

    def __init__(self, memory: Path, check: bool = False) -> None:
        self._memory, self.check = memory, check
        self._known: dict[str, list] = {}
        self._read: dict[str, str] = {}  # in this process
        if memory.exists() and not check:
            with contextlib.suppress(WorkError):  # they are read anew
                self._known = read_object(memory)

    def of(self, path: Path) -> str:
        """Of one file.

        Raises:
            OSError: it cannot be read.
        """
        about = path.stat()
        name = str(path.absolute())
        # The time of the last change of the inode goes with it: unlike the other, no program can set it back.
        stamp = [about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        known = self._known.get(name)
        if isinstance(known, list) and known[:-1] == stamp and (not self.check or name in self._read):
            return known[-1]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[name], self._read[name] = [*stamp, digest], digest
        return digest

    def of_files(self, given: Files) -> str:
        """Of everything that was given, with the files' names."""
        lines = [given.name, *(f"{path.name} {self.of(path)}" for path in given.files)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Keep them for the next run."""
        with new_file(self._memory) as temporary:
            temporary.write_text(json.dumps(self._known) + "\n", encoding="utf-8")
