"""Copy byte ranges between files, without bringing them into this process where that is quicker."""

import errno
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from runtime.errors import WorkError

CHUNK = 1 << 20  # bytes; the most that is held in memory
READ_AHEAD = 32 << 20  # bytes that the system is asked to have ready
_PIECE = 8 << 20  # bytes of one such request
_ASK = 1 << 30  # bytes; the most that is asked of the system in one call


def write_all(target: BinaryIO, data: bytes | memoryview) -> None:
    """Append all of ``data`` to a file, of which an unbuffered one may take less at a time than it is given.

    Raises:
        OSError: the target cannot be written.
    """
    left = memoryview(data)
    while left:
        left = left[target.write(left) :]


def _by_kernel(source: BinaryIO, target: BinaryIO, start: int, size: int) -> int:
    return os.copy_file_range(source.fileno(), target.fileno(), min(size, _ASK), offset_src=start)


def _by_sendfile(source: BinaryIO, target: BinaryIO, start: int, size: int) -> int:
    return os.sendfile(target.fileno(), source.fileno(), start, min(size, _ASK))


def _by_hand(source: BinaryIO, target: BinaryIO, start: int, size: int) -> int:
    data = os.pread(source.fileno(), min(size, CHUNK), start)
    write_all(target, data)
    return len(data)


# Ways to copy that this system may have, the fastest first; the last always works.
WAYS: tuple[Callable[[BinaryIO, BinaryIO, int, int], int], ...] = (
    *((_by_kernel,) if hasattr(os, "copy_file_range") else ()),
    *((_by_sendfile,) if hasattr(os, "sendfile") else ()),
    _by_hand,
)


def copy_range(
    source: BinaryIO, target: BinaryIO, start: int, stop: int, ways: Sequence[Callable] | None = None
) -> None:
    """Append bytes ``start`` to ``stop`` of an unbuffered file to another.

    Args:
        ways: those to try, each where the one before it fails; None: all, or by hand where pages of the source do not fall
            on pages of the target, for the kernel then copies page by page, each into two (a third slower on ext4).

    Raises:
        WorkError: the source ends before ``stop``.
        OSError: the target cannot be written.
    """
    if ways is None:
        ways = WAYS if (start - target.tell()) % mmap.PAGESIZE == 0 else WAYS[-1:]
    way = 0
    while start < stop:
        try:
            copied = ways[way](source, target, start, stop - start)
        except OSError as error:
            # Some pairs of file systems refuse the fast ways; a full disk is refused by all of them.
            if way + 1 == len(ways) or error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            copied = 0
        if copied == 0:
            way += 1
        if way == len(ways):
            raise WorkError(f"{source.name} is cut short: it ended at byte {start}, where {stop} were expected.")
        start += copied


Step = bytes | tuple[BinaryIO, int, int]  # bytes as they are, or those of a file from start to stop


def copy_all(steps: Iterable[Step], target: BinaryIO) -> None:
    """Append ``steps`` one after the other to an unbuffered file, the next ones being read while one is written.

    Raises:
        As ``copy_range``.
    """
    for step in _read_ahead(_small(joined(steps))):
        if isinstance(step, bytes):
            write_all(target, step)
        else:
            source, start, stop = step
            copy_range(source, target, start, stop)


def joined(steps: Iterable[Step]) -> Iterator[Step]:
    """The same bytes in fewer steps: a range that begins where the one before it ends is joined to it."""
    last: Step = b""
    for step in steps:
        if isinstance(step, bytes):
            if not step:
                continue
        elif not isinstance(last, bytes) and last[0] is step[0] and last[2] == step[1]:
            last = (step[0], last[1], step[2])
            continue
        if last:
            yield last
        last = step
    if last:
        yield last


def _small(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, bytes):
            yield step
        else:
            source, start, stop = step
            yield from ((source, at, min(at + _PIECE, stop)) for at in range(start, stop, _PIECE))


def _read_ahead(steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps; the system is asked for what is READ_AHEAD bytes ahead, and not for what lies in between."""
    waiting: deque[Step] = deque()
    told: set[int] = set()
    size = 0
    for step in steps:
        waiting.append(step)
        if not isinstance(step, bytes):
            source, start, stop = step
            size += stop - start
            if hasattr(os, "posix_fadvise"):
                if source.fileno() not in told:
                    told.add(source.fileno())
                    os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                os.posix_fadvise(source.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)
        while size > READ_AHEAD:
            first = waiting.popleft()
            size -= 0 if isinstance(first, bytes) else first[2] - first[1]
            yield first
    yield from waiting
