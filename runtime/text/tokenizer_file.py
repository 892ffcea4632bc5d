"""tokenizer.json as the tokenizers library reads it: whatever is wrong with one is a sentence."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.json_object import read_object
from runtime.formats.model_folder import own_file

_PREFIXED = re.compile(rb'"continuing_subword_prefix"\s*:\s*"[^"]')


def load_tokenizer(path: Path) -> Any:
    """The ``tokenizers.Tokenizer`` in a file.

    Raises:
        WorkError: it is damaged or not there, no file, or a link out of its folder; or the library is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise WorkError(f"Reading {path} needs {error.name}.", next_command=f"pip install {error.name}") from None
    anew = f"cp DIR/{path.name} {path.parent}   (DIR: the checkpoint it was written from)"
    if own_file(path.parent, path.name) is None:
        raise WorkError(f"There is no {path}.", next_command=anew)
    try:
        _check_merges(path)
        with _without_panics():
            return Tokenizer.from_file(str(path))
    except BaseException as error:  # a panic of the library's Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WorkError(f"{path} is damaged: {reason.rstrip('.')}.", next_command=anew) from None


def _check_merges(path: Path) -> None:
    """Refuse merges of which tokenizers 0.23 makes half characters, and ends the process when it tells of them.

    It cuts off as many bytes as ``continuing_subword_prefix`` has, whatever is there.

    Raises:
        ValueError: there is one.
    """
    if not _PREFIXED.search(path.read_bytes()):
        return
    model = read_object(path).get("model")
    prefix, merges = (
        (model.get(key) for key in ("continuing_subword_prefix", "merges")) if isinstance(model, dict) else (0, 0)
    )
    if not isinstance(merges, list) or not isinstance(prefix, str):
        return  # which the library refuses itself
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or not parts or not str(parts[-1]).startswith(prefix):
            raise ValueError(f"the merge {str(merge)[:40]!r} does not go on with the prefix {prefix[:40]!r}")


@contextlib.contextmanager
def _without_panics() -> Iterator[None]:
    """Within it, nothing is written to the process's standard errors: a panic is told there before Python hears of it."""
    try:
        kept = os.dup(2)
    except OSError:  # there are none
        yield
        return
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silence)
