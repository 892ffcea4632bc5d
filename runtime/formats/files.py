"""Files that appear whole or not at all: outputs are written beside their place and moved there when complete."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.errors import RequestError, WorkError


def _nearest_folder(path: Path) -> Path:
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def require_space(path: Path, size: int) -> None:
    """Refuse before any work is done where ``size`` bytes do not fit beside ``path``."""
    free = shutil.disk_usage(_nearest_folder(path)).free
    if free < size:
        raise WorkError(
            f"Not enough disk space for {path}: {size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free.",
            next_command="df -h .   (then choose another place with -o or OUT=...)",
        )


@contextlib.contextmanager
def _full_disk_is_a_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # ENOSPC, EDQUOT; safetensors has an error of its own, with the system's words in it
        if getattr(error, "errno", None) in (28, 122) or "No space left" in str(error):
            raise WorkError(
                f"The disk is full; {path} was not written.",
                next_command="df -h .   (then choose another place with -o or OUT=...)",
            ) from error
        raise


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends, and vanishes when it fails."""
    path = Path(path)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; a file name is needed.")
    with _full_disk_is_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def require_replaceable(path: Path, kind: str, is_such: Callable[[Path], bool]) -> None:
    """Refuse to write over a file that something else wrote, a model for instance: before work as well as after it.

    Args:
        kind: what is to be written, for the sentence.
        is_such: whether an existing file is of that kind.

    Raises:
        RequestError: ``path`` is a folder, or a file of another kind.
    """
    path = Path(path)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; a file name is needed.")
    if path.exists() and path.stat().st_size and not is_such(path):
        raise RequestError(f"{path} exists, is not {kind}, and is kept as it is: choose another name with -o.")


def require_new(path: Path) -> None:
    """Refuse a folder that is there already, unless it is empty: before long work as well as when it is written.

    Raises:
        RequestError: ``path`` exists and holds something.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RequestError(
            f"{path} exists already and is kept as it is.", next_command=f"rm -r {path}   (or another -o)"
        )


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Like ``new_file`` for a folder. An existing folder is replaced only if it is empty.

    Raises:
        RequestError: ``path`` exists and holds something.
    """
    path = Path(path)
    require_new(path)
    with _full_disk_is_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into ``folder`` when the block ends, and vanish when it fails.

    They move in the reverse of their names' order, so that ``a`` comes after ``a_data``, on which it depends.
    """
    folder = Path(folder)
    with _full_disk_is_a_sentence(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder))
        try:
            yield temporary
            for file in sorted(temporary.iterdir(), reverse=True):
                file.chmod(0o666 & ~_umask())
                _sync(file)
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
