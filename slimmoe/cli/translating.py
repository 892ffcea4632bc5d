"""The verb that translates: text, text files or standard input, a line in and a line out."""

import contextlib
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import RequestError, WorkError, printable
from slimmoe.cli.device import ARTEFACT_HELP, KnownPair, Prompt, Threads, say

translating = typer.Typer()
NAMED = 5  # lines of each kind of trouble that are named one by one
_SUFFIXES = (".txt", ".tsv", ".md", ".gz")


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
        self.files = [Path(text) for text in texts if self._is_file(text)]
        for text in texts:
            if text.endswith(_SUFFIXES) and " " not in text and Path(text) not in self.files:
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

    def __iter__(self) -> Iterator[str]:
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


class Trouble:
    """Lines that were not translated well, told one by one while they are few, and counted."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def tell(self, kind: str, sentence: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= NAMED:
            print(printable(f"slimmoe: {sentence}"), file=sys.stderr)

    def conclude(self) -> None:
        """Say how many there were, where not all were named.

        Raises:
            WorkError: some lines were not translated.
        """
        refused, unfinished = self.counts.get("refused", 0), self.counts.get("unfinished", 0)
        if unfinished > NAMED:
            print(f"slimmoe: {unfinished} translations in all did not come to an end.", file=sys.stderr)
        if refused:
            lines = "1 line was" if refused == 1 else f"{refused} lines were"
            raise WorkError(
                f"{lines} too long and left empty; all others are translated.",
                next_command="the same command with these lines split into sentences",
            )


@translating.command()
def translate(
    artefact: Annotated[Path, typer.Argument(help=ARTEFACT_HELP)],
    pair: KnownPair = None,
    texts: Annotated[list[str] | None, typer.Argument(help="text, or text files; standard input when none")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a new file for the translation")] = None,
    threads: Threads = None,
    prompt: Prompt = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="let --output replace a file, which is never one that is translated")
    ] = False,
) -> None:
    """Translate text, line by line."""
    from runtime.engines import open_engine
    from runtime.formats.artefact import find_artefact
    from runtime.formats.files import new_file
    from runtime.translate.segments import Translation, known_pair, translate

    lines = Lines(texts or [])
    artefact = find_artefact(artefact)
    if output is not None:
        _check_output(output, artefact, lines.files, overwrite)
    trouble = Trouble()

    def translated(result: Translation) -> str:
        place = lines.next_place()
        if result.refused:
            trouble.tell("refused", f"{place} is left empty. {result.refused}")
        elif result.generation is not None and not result.generation.finished:
            count = len(result.generation.token_ids)
            trouble.tell("unfinished", f"the translation of {place} did not come to an end within {count} tokens.")
        return result.in_place

    with contextlib.closing(open_engine(artefact, threads, prompt=prompt)) as engine:
        pair = pair or known_pair(engine)
        if engine.pruned_for and str(pair) not in engine.pruned_for.split(" + "):
            note = f"slimmoe: {artefact} was cut for {engine.pruned_for}: its experts were not chosen for {pair}."
            print(printable(note), file=sys.stderr)
        with contextlib.closing(translate(engine, pair, lines)) as results:
            if output is None:
                obeys = sys.stdout.isatty()
                for line in map(translated, results):
                    print(printable(line) if obeys else line, flush=True)
            else:
                with new_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(f"{translated(result)}\n" for result in results)
                say(f"translation: {output}")
    trouble.conclude()


def _check_output(output: Path, artefact: Path, read: list[Path], overwrite: bool) -> None:
    """Refuse to write over what is read, and over any other file unless that is asked for.

    Raises:
        RequestError: it would be.
    """
    if not output.exists():
        return
    parts = [each for each in artefact.parent.glob("*.gguf")] if artefact.suffix == ".gguf" else []  # a split one's
    inside = artefact.is_dir() and output.resolve().is_relative_to(artefact.resolve())
    if inside or any(path.exists() and output.samefile(path) for path in (artefact, *parts, *read)):
        raise RequestError(f"{output} is read for this translation: choose another name with -o.")
    if not overwrite:
        raise RequestError(
            f"{output} exists and is kept as it is.",
            next_command=f"rm {output}   (or --overwrite, or another name with -o)",
        )
