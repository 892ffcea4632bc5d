"""The tokenizer of a checkpoint's folder: tokenizer.json, or what transformers makes of the older files."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from runtime.errors import RequestError, WorkError
from runtime.formats.model_folder import TOKENIZER, own_file
from runtime.processes import ends_with_us
from runtime.text.tokenizer_file import load_tokenizer

SENTENCEPIECE, TIKTOKEN = "tokenizer.model", "tiktoken.model"
_OLDER = (SENTENCEPIECE, "vocab.json", "vocab.txt")  # which transformers turns into a tokenizer.json
_PROCESS = Path(__file__).with_name("tokenizer_process.py")


def _is_tiktoken(folder: Path) -> bool:
    """Whether the only tokenizer is a list of tiktoken's, lines of base64 and a number, under whatever name."""
    path = own_file(folder, TIKTOKEN) or own_file(folder, SENTENCEPIECE)
    if path is None:
        return False
    with path.open("rb") as file:
        word, _, number = file.readline(1024).strip().partition(b" ")
    return bool(word) and number.isdigit()


def write_tokenizer(folder: Path, path: Path) -> None:
    """Write tokenizer.json of a folder that has an older kind alone (SentencePiece, vocab and merges).

    Raises:
        RequestError: there is no tokenizer, or one whose rules are in its publisher's code (tiktoken).
        WorkError: transformers cannot read it.
    """
    if not any(own_file(folder, name) for name in (*_OLDER, TIKTOKEN)):
        raise RequestError(f"{folder} has no tokenizer.json.", next_command=f"cp ORIGINAL/{TOKENIZER} {folder}/")
    if _is_tiktoken(folder):
        raise RequestError(
            f"The tokenizer of {folder} is a list of tiktoken's, and how text is split before it is looked up stands only "
            "in its publisher's code, which is not run: a tokenizer.json is needed.",
            next_command=f"cp CONVERTED/{TOKENIZER} {folder}/   (many publishers have one beside it)",
        )
    with tempfile.TemporaryDirectory(prefix="slimmoe.") as name:
        command = [sys.executable, str(_PROCESS), str(folder.absolute()), name]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        quiet: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True} | ends_with_us()
        done = subprocess.run(command, env=environment, **quiet)
        made = Path(name) / TOKENIZER
        if done.returncode or not made.exists():
            reason = (done.stderr.strip().splitlines() or ["it wrote none"])[-1]
            raise WorkError(f"transformers cannot read the tokenizer of {folder}: {reason[:200]}")
        path.write_bytes(made.read_bytes())


def read_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer, as transformers has it.

    Raises:
        RequestError: there is none, or one that needs its publisher's code.
        WorkError: it is damaged.
    """
    if path := own_file(folder, TOKENIZER):
        return load_tokenizer(path)
    with tempfile.TemporaryDirectory(prefix="slimmoe.") as name:
        path = Path(name) / TOKENIZER
        write_tokenizer(folder, path)
        return load_tokenizer(path)


def check_tokenizer(folder: Path) -> None:
    """Refuse a damaged tokenizer.json, before work that needs it at its end. None at all is no fault here.

    Raises:
        WorkError: it is damaged.
    """
    if path := own_file(folder, TOKENIZER):
        load_tokenizer(path)


def highest_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The highest id of its vocabulary proper, and of all with the tokens that were added; -1 where there are none."""
    proper = tokenizer.get_vocab(with_added_tokens=False).values()
    return max(proper, default=-1), max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)


def tokens_past(folder: Path, rows: int | None) -> set[int]:
    """Ids of added tokens that an embedding of so many rows has none for.

    Raises:
        RequestError: the tokenizer's own ids go past it: it is another model's.
        WorkError: the tokenizer is damaged.
    """
    if rows is None or own_file(folder, TOKENIZER) is None:
        return set()
    proper, highest = highest_ids(read_tokenizer(folder))
    if proper >= rows:
        raise RequestError(
            f"{folder} has a tokenizer with ids up to {proper}, and an embedding of {rows} rows: it is another model's."
        )
    return {*range(rows, highest + 1)}
