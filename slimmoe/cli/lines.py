"""Text that ``slimmoe translate`` reads line by line, and what it writes for each line."""

import contextlib
import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import RequestError, printable
from runtime.translate.documents import FORMATS
from slimmoe.cli.device import say

if TYPE_CHECKING:  # loaded by what translates
    from runtime.text.markup import Marked
    from runtime.translate.paragraphs import ParagraphTranslator

MOST = 16  # alternatives


class Lines:
    """The lines to translate, in order, and where each is from.

    Args:
        texts: texts and names of files; standard input when none.

    Raises:
        RequestError: one is the name of a text file that is not there, or no text.
    """

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self._places: deque[str] = deque()
        self._lines, self._ahead = self._read(), list[str]()
        self.files = [Path(text) for text in texts if self._is_file(text)]
        for text in texts:
            if text.endswith((*FORMATS, ".tsv", ".gz")) and " " not in text and Path(text) not in self.files:
                raise RequestError(f"There is no text file {text}.", next_command="ls")
            try:
                text.encode()
            except UnicodeEncodeError:
                if Path(text) not in self.files:
                    raise RequestError(
                        "A text is not UTF-8.", next_command="the same command in a UTF-8 terminal, or with a file"
                    ) from None

    @staticmethod
    def _is_file(text: str) -> bool:
        """A pipe too, as the shell's ``<(...)`` is one."""
        try:
            return Path(text).is_file() or Path(text).is_fifo()
        except (OSError, ValueError):  # too long for a name, or no name at all
            return False

    def sample(self, most: int = 50) -> list[str]:
        """The first lines, to see which language they are in; they are given again."""
        self._ahead = list(islice(self._lines, most))
        return self._ahead

    def __iter__(self) -> Iterator[str]:
        return chain(self._ahead, self._lines)

    def _read(self) -> Iterator[str]:
        from runtime.text.lines import BOM, read_stream, split_lines

        if not self._texts and sys.stdin is not None:
            yield from self._placed(read_stream(sys.stdin.buffer, "standard input"), "")
        for text in self._texts:
            if Path(text) in self.files:
                with open(text, "rb") as file:
                    yield from self._placed(read_stream(file, text), f" of {text}")
            else:
                yield from self._placed(split_lines(text.lstrip(BOM)), "")

    def _placed(self, lines: Iterator[str] | list[str], where: str) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            self._places.append(f"line {number}{where}")
            yield line

    def next_place(self) -> str:
        """Where the next of the lines that were given is from; to be asked for once for each."""
        return self._places.popleft()


def translate_lines(
    lines: Lines, output: Path | None, translators: "Sequence[ParagraphTranslator]", as_json: bool
) -> None:
    """A line in, a line out, each as soon as it is there; alternatives stand below it.

    Args:
        translators: of the best translation, then of alternatives.
        as_json: a line out is an object.
    """
    from runtime.formats.files import new_file
    from runtime.text.lines import one_line
    from runtime.text.markup import plain
    from runtime.translate.alternatives import distinct, with_alternatives
    from slimmoe.cli.documents import Trouble

    trouble = Trouble()
    sources = deque[str]()

    def read() -> "Iterator[Marked]":
        for line in lines:
            sources.append(line)
            yield (line,)

    paragraphs = with_alternatives(translators, read())

    def translated() -> Iterator[str]:
        for best, *others in paragraphs:
            trouble.tell(lines.next_place(), best)
            source, text = sources.popleft(), one_line(plain(best.marked))
            found = distinct(text, (None if each.troubles else one_line(plain(each.marked)) for each in others))
            if as_json:
                yield json.dumps({"source": source, "translation": text, "alternatives": found}, ensure_ascii=False)
            else:
                yield text
                yield from (f"  {number}. {each.strip()}" for number, each in enumerate(found, 1))

    with contextlib.closing(paragraphs):
        if output is None:
            obeys = sys.stdout.isatty()
            for line in translated():
                print(printable(line) if obeys else line, flush=True)
        else:
            with new_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in translated())
            say(f"translation: {output}")
    trouble.conclude()
