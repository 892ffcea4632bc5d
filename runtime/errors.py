"""The two ways in which slimmoe gives up: the request was wrong, or the work failed.

Both carry one sentence and, where there is one, the next command to type. Anything else that is raised is a
programmer's mistake and keeps its traceback.
"""

import contextlib
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path


class SlimmoeError(Exception):
    """A failure that the user can understand; ``exit_status`` is the process's."""

    exit_status = 1

    def __init__(self, sentence: str, *, next_command: str | None = None) -> None:
        sentence = re.sub(r"\s*[\r\n]+\s*", " ", sentence)  # of what a file holds and the sentence quotes
        super().__init__(sentence if next_command is None else f"{sentence}\n  next: {next_command}")
        self.sentence = sentence
        self.next_command = next_command


class RequestError(SlimmoeError):
    """The request was wrong: an unknown pair, a ratio out of range, a file that is not there (exit status 2)."""

    exit_status = 2


class WorkError(SlimmoeError):
    """The work failed: no disk space, a broken file, a failed check (exit status 1)."""


@contextlib.contextmanager
def naming(shown: Path, instead_of: Path) -> Iterator[None]:
    """Within it, what fails speaks of the path ``shown``, and not of one that nobody knows and that is gone afterwards."""
    try:
        yield
    except SlimmoeError as error:
        sentence, command = error.sentence, error.next_command or ""
        told = [each.replace(str(instead_of), str(shown)) for each in (sentence, command)]
        if told == [sentence, command]:
            raise
        raise type(error)(told[0], next_command=told[1] or None) from error


# Control characters but TAB and LF, marks that reorder text, and halves of characters.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text with ``?`` for what a terminal would obey instead of showing it: names from a model's file may hold it."""
    return _OBEYED.sub("?", text)


def as_typed(text: str) -> str:
    """Printable ``text``, with ``next: slimmoe ...`` as this shell finds the command: by its path where PATH lacks it."""
    text = printable(text)
    script = Path(sys.executable).with_name("slimmoe")  # not resolved: in an environment, python is a link
    if shutil.which("slimmoe") or not script.is_file():
        return text
    near = os.path.relpath(script)
    command = shlex.quote(str(script) if near.startswith("..") else near)
    return text.replace("next: slimmoe ", f"next: {command} ")


@cache
def warn_once(sentence: str) -> None:
    """A warning that is the same however often the same thing is read in one process."""
    logging.getLogger("slimmoe").warning(sentence)
