"""Files that appear whole or not at all: outputs are written beside their place and moved there when complete.

What is being written is hidden, named ``.<output>.<8 random characters>.part`` and locked. What a killed run left has no
lock any more, and the next one that writes the same output removes it.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.errors import RequestError, WorkError

_ELSEWHERE = "df -h .   (then choose another place with -o, OUT=... or SLIMMOE_MODELS=...)"


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
            next_command=_ELSEWHERE,
        )


@contextlib.contextmanager
def full_disk_is_a_sentence(path: Path) -> Iterator[None]:
    """Within it, a full disk is a ``WorkError`` that names ``path``."""
    try:
        yield
    except Exception as error:
        # ENOSPC, EDQUOT; safetensors has an error of its own, with the system's words in it
        if getattr(error, "errno", None) in (28, 122) or "No space left" in str(error):
            raise WorkError(
                f"The disk is full; {path} was not written.",
                next_command=_ELSEWHERE,
            ) from error
        raise


def _lock(handle: int, wait: bool = False) -> bool:
    """Lock an open file or folder until it is closed; whether that was to be had. The system frees it with the process.

    Args:
        wait: until another one has closed it.
    """
    if sys.platform == "win32":
        return False  # nothing is taken for a leftover there
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held, or a file system without locks
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path, stem: str) -> None:
    """Remove what a killed run left of the same output; what another process is writing is locked."""
    pattern = re.compile(rf"\.{re.escape(stem)}[a-z0-9_]{{8}}\.part")
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name) and not entry.is_symlink()]
    for path in found:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                if _lock(handle):
                    _remove(path)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _temporary(folder: Path, stem: str, is_folder: bool) -> Iterator[Path]:
    """A new hidden file or folder that is gone when the block ends, unless it was moved."""
    _remove_leftovers(folder, stem)
    while True:
        if is_folder:
            path = Path(tempfile.mkdtemp(prefix=f".{stem}", suffix=".part", dir=folder))
            try:
                handle = os.open(path, os.O_RDONLY) if sys.platform != "win32" else -1
            except FileNotFoundError:  # as below
                continue
        else:
            handle, name = tempfile.mkstemp(prefix=f".{stem}", suffix=".part", dir=folder)
            path = Path(name)
        _lock(handle, wait=True)  # another process may have it, which takes it for a leftover
        if path.exists():  # else that one has removed it
            break
        os.close(handle)
    try:
        yield path
    finally:
        _remove(path)
        if handle >= 0:
            os.close(handle)


@contextlib.contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A hidden folder beside ``output`` for files that are large and in the way, gone when the block ends."""
    with full_disk_is_a_sentence(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(output.parent, f"{output.name}.work.", True) as folder:
            yield folder


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block ends, and vanishes when it fails."""
    path = Path(path)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; a file name is needed.")
    with full_disk_is_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent, f"{path.name}.", False) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)


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
        RequestError: ``path`` exists and holds something, or is a link.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise RequestError(
            f"{path} exists already and is kept as it is.",
            next_command=f"rm -r {shlex.quote(str(path))}   (or another -o)",
        )


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Like ``new_file`` for a folder. An existing folder is replaced only if it is empty.

    Raises:
        RequestError: ``path`` exists and holds something.
    """
    path = Path(path)
    require_new(path)
    with full_disk_is_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent, f"{path.name}.", True) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            sync_files(temporary)
            temporary.replace(path)


@contextlib.contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into ``folder`` when the block ends, and vanish when it fails.

    They move in the reverse of their names' order, so that ``a`` comes after ``a_data``, on which it depends.
    """
    folder = Path(folder)
    with full_disk_is_a_sentence(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder, "", True) as temporary:
            yield temporary
            for file in sorted(temporary.iterdir(), reverse=True):
                file.chmod(0o666 & ~_umask())
                _sync(file)
                file.replace(folder / file.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_files(folder: Path) -> None:
    """Have every file of a folder on the disk, before the folder gets its name."""
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
