"""The verb that translates: documents in their formats; text, other files and standard input a line in and a line out."""

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import RequestError, printable
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.translate.documents import FORMATS
from slimmoe.cli.device import ARTEFACT_HELP, Beam, KnownPair, Prompt, Threads, say

if TYPE_CHECKING:  # loaded by what translates
    from runtime.translate.glossary import Glossary
    from runtime.translate.memory import TranslationMemory
    from runtime.translate.paragraphs import Memory, ParagraphTranslator

translating = typer.Typer()


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


@translating.command()
def translate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [TEXT|FILE|FOLDER]",
            help=f"the model: {ARTEFACT_HELP}; without, the stored one for the pair. Then "
            "documents, folders of them, or text; standard input when none",
        ),
    ] = None,
    pair: KnownPair = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="LANGUAGE", help="instead of --pair; the source is found by the text")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="the model, where the first word shall not be taken for one")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="a new file or folder; of documents default: beside each (letter.de.docx)"),
    ] = None,
    threads: Threads = None,
    prompt: Prompt = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="let --output replace a file, which is never one that is translated")
    ] = False,
    memory: Annotated[
        bool, typer.Option(help="keep translated sentences of documents, so that a run goes on where it was stopped")
    ] = True,
    tmx: Annotated[
        list[Path] | None, typer.Option("--tmx", help="translations to use for the same sentences of documents")
    ] = None,
    glossary: Annotated[
        Path | None,
        typer.Option("--glossary", help="terms to translate in one way only (.tsv, .csv, .tbx)", metavar="FILE"),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="one sentence at a time: its translation never depends on its neighbours")
    ] = False,
    beam: Beam = 1,
) -> None:
    """Translate documents (Word, HTML, Markdown, subtitles ...), or text line by line."""
    from runtime.translate.files import found_documents, jobs_for
    from slimmoe.cli.choosing import model_and_pair, split_model

    artefact, texts = split_model(words or [], model)
    found = [found_documents(text) for text in texts]
    if documents := [each for each in found if each is not None]:
        from runtime.translate.memory import GivenTranslations
        from slimmoe.cli.documents import only_documents, readable, sample_of, translate_all

        only_documents(texts, found)
        paths = [path for each in documents for path in each]
        artefact, chosen = model_and_pair(artefact, pair, to, lambda: sample_of(paths))
        terms = _terms(glossary, chosen)
        jobs = jobs_for(texts, documents, chosen, output)
        for job in jobs:
            if job.target is not None and job.target.exists():
                _check_output(job.target, artefact, [each.source for each in jobs], True)
        good, sentences = readable(jobs, chosen, overwrite)
        given = _given(tmx or [], chosen)
        with _translator(artefact, chosen, threads, prompt, exact, terms, beam) as translator:
            kept = _memory(artefact, chosen, prompt, exact, terms, beam) if memory else None
            with contextlib.closing(kept) if kept else contextlib.nullcontext():
                translate_all(good, sentences, chosen, translator, GivenTranslations(given, kept))
        return
    if tmx:
        raise RequestError("--tmx is for documents.", next_command="the same command with a file")
    lines = Lines(texts)
    artefact, chosen = model_and_pair(artefact, pair, to, lambda: "\n".join(lines.sample()))
    if output is not None:
        _check_output(output, artefact, lines.files, overwrite)
    with _translator(artefact, chosen, threads, prompt, exact, _terms(glossary, chosen), beam) as translator:
        _translate_lines(lines, output, translator(None))


def _given(files: list[Path], pair: Pair) -> dict[str, str]:
    """The translations of TMX files, of the same sentence those of the last.

    Raises:
        RequestError: one is not there, damaged, or of another pair.
    """
    from runtime.translate.documents.exchange import tmx_translations

    found = {}
    for file in files:
        if not file.is_file():
            raise RequestError(f"There is no file {file}.", next_command="ls")
        found |= tmx_translations(file.read_bytes(), str(file), pair)
    return found


def _terms(file: Path | None, pair: Pair) -> "Glossary | None":
    from runtime.translate.glossary import read_glossary

    return read_glossary(file, pair) if file else None


def _memory(
    artefact: Path, pair: Pair, prompt: PromptTemplate | None, exact: bool, glossary: "Glossary | None", beam: int
) -> "TranslationMemory":
    from runtime.translate.memory import TranslationMemory, cache_folder, model_key

    asked = (str(pair), repr(prompt), *(["exact"] if exact else []), *([repr(list(glossary))] if glossary else []))
    asked += (f"beam {beam}",) if beam > 1 else ()
    return TranslationMemory(cache_folder() / "translations.sqlite", model_key(artefact, *asked))


@contextlib.contextmanager
def _translator(
    artefact: Path,
    pair: Pair,
    threads: int | None,
    prompt: PromptTemplate | None,
    exact: bool,
    glossary: "Glossary | None",
    beam: int,
) -> "Iterator[Callable[[Memory | None], ParagraphTranslator]]":
    """A function that gives a translator by a loaded model; the pair that the model was not cut for is noted."""
    from runtime.engines import open_engine
    from runtime.translate.checked import translate_checked
    from runtime.translate.paragraphs import ParagraphTranslator, room

    with contextlib.closing(open_engine(artefact, threads, prompt=prompt)) as engine:
        if engine.pruned_for and str(pair) not in engine.pruned_for.split(" + "):
            note = f"slimmoe: {artefact} was cut for {engine.pruned_for}: its experts were not chosen for {pair}."
            print(printable(note), file=sys.stderr)

        translated = partial(translate_checked, engine, pair, exact=exact, glossary=glossary, beam=beam)
        yield lambda memory: ParagraphTranslator(translated, pair.source, room(engine, pair), memory)


def _translate_lines(lines: Lines, output: Path | None, translator: "ParagraphTranslator") -> None:
    """A line in, a line out, each as soon as it is there."""
    from runtime.formats.files import new_file
    from runtime.text.lines import one_line
    from runtime.text.markup import plain
    from slimmoe.cli.documents import Trouble

    trouble = Trouble()
    paragraphs = translator.translate((line,) for line in lines)

    def translated() -> Iterator[str]:
        for paragraph in paragraphs:
            trouble.tell(lines.next_place(), paragraph)
            yield one_line(plain(paragraph.marked))

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
        from slimmoe.cli.documents import kept_as_it_is

        raise kept_as_it_is(output)
