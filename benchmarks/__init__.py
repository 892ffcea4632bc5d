"""Measurements that a person runs; each says how in its docstring."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def work_folder(parent: Path | None) -> Iterator[Path]:
    """A temporary folder, in ``parent`` where one is given, which is made if it is not there."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)
