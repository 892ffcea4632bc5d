"""Files and folders of documents: which are translated, what their translations are called, and the work itself."""

import glob
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RequestError, SlimmoeError
from runtime.formats.files import new_file
from runtime.text.languages import base_language
from runtime.text.lines import is_gzip
from runtime.text.markup import Marked
from runtime.text.pairs import Pair
from runtime.translate.documents import is_document, open_document
from runtime.translate.documents.base import Document
from runtime.translate.paragraphs import Paragraph, ParagraphTranslator, sentences_of

LARGEST = 1 << 30  # bytes of a document's file


@dataclass(frozen=True)
class Job:
    """A document and where its translation goes; None: nowhere, its bytes are wanted."""

    source: Path
    target: Path | None


def found_documents(text: str) -> list[Path] | None:
    """The documents that a word of a command names: a file by its suffix, all in a folder, what a pattern matches.

    None where it names none, so that it is text or another file.
    """
    path = Path(text)
    try:
        if path.is_dir():
            return [each for each in sorted(path.rglob("*")) if _is_plain(each, path)]
        if path.is_file():
            return [path] if is_document(path) and not is_gzip(path) else None
        if re.search(r"[*?]", text) and is_document(path) and " " not in text:  # of a shell that leaves patterns alone
            return [each for each in map(Path, sorted(glob.glob(text, recursive=True))) if each.is_file()] or None
    except (OSError, ValueError):  # too long for a name, or no name at all
        pass
    return None


def _is_plain(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return is_document(path) and not hidden and path.is_file() and not is_gzip(path)


def translated_name(path: Path, pair: Pair, beside: bool = True) -> str:
    """``letter.de.docx`` of ``letter.docx``, ``app_de.properties`` of ``app_en.properties``, ``de.json`` of ``en.json``.

    Args:
        beside: it goes beside its source, and needs another name; else only a language in it changes.
    """
    suffix = ".po" if path.suffix == ".pot" else path.suffix
    source = rf"(^|[._-]){re.escape(base_language(pair.source))}(?:([-_])[A-Za-z]{{2,4}})?$"
    if match := re.search(source, path.stem, re.IGNORECASE):
        target = pair.target.replace("-", match[2] or "-")
        return f"{path.stem[: match.end(1)]}{target}{suffix}"
    return f"{path.stem}.{pair.target}{suffix}" if beside else f"{path.stem}{suffix}"


def jobs_for(words: Sequence[str], found: Sequence[Sequence[Path]], pair: Pair, output: Path | None) -> list[Job]:
    """What is to be translated, and where to.

    Args:
        words: as they were typed; ``found`` are the documents of each.
        output: a file for a single document, a folder for others, ``-`` for standard output; None: beside each document.

    Raises:
        RequestError: there is nothing, one name for several, or a document would be replaced by its translation.
    """
    single = len(words) == 1 and len(found[0]) == 1 and not Path(words[0]).is_dir()
    if output == Path("-") and single:
        return [Job(found[0][0], None)]
    jobs: list[Job] = []
    for word, paths in zip(words, found):
        for path in paths:
            if output is None:
                # of an earlier run of the same command
                if len(paths) > 1 and path.stem.lower().endswith(f".{pair.target.lower()}"):
                    continue
                jobs.append(Job(path, path.with_name(translated_name(path, pair))))
            elif single and not output.is_dir():
                jobs.append(Job(path, output))
            else:
                of_folder = Path(word).is_dir()
                inside = path.relative_to(word).parent if of_folder else Path()
                if not (
                    of_folder and path.resolve().is_relative_to(output.resolve())
                ):  # an earlier run's, in the folder
                    jobs.append(Job(path, output / inside / translated_name(path, pair, False)))
    if not jobs:
        raise RequestError(f"{words[0]} holds no documents that are to be translated.", next_command=f"ls {words[0]}")
    targets = [job.target for job in jobs]
    if twice := next((job for job in jobs if targets.count(job.target) > 1), None):
        raise RequestError(f"Several documents would become {twice.target}: translate them one by one with -o.")
    for job in jobs:
        if job.target is not None and job.target.exists() and job.target.samefile(job.source):
            raise RequestError(f"{job.source} is read for this translation: choose another name with -o.")
    return jobs


def read_job(job: Job, pair: Pair) -> Document:
    """Open a job's document.

    Raises:
        RequestError: it is damaged, or too large.
    """
    if job.source.stat().st_size > LARGEST:
        raise RequestError(f"{job.source} has more than {LARGEST >> 30} GiB.")
    return open_document(job.source, job.source.read_bytes(), pair)


def count_sentences(document: Document, language: str) -> int:
    """How many sentences of a document have text."""
    return sum(bool(each.core) for unit in document.units for each in sentences_of(unit.marked, language))


@dataclass
class Done:
    """A document that is translated; ``failure`` is why it could not be written."""

    job: Job
    data: bytes
    failure: SlimmoeError | None = None


def translate_documents(
    jobs: Sequence[Job],
    pair: Pair,
    translator: ParagraphTranslator,
    on_paragraph: Callable[[Job, Paragraph], None],
    apart: bool = False,
) -> Iterator[Done]:
    """Translate documents in one stream, and write each whole as soon as its last paragraph is there.

    Args:
        on_paragraph: is told of each, in order.
        apart: each in a stream of its own, so that none is context of another.
    """
    if apart:
        for job in jobs:
            yield from translate_documents([job], pair, translator, on_paragraph)
        return
    opened: deque[tuple[Job, Document, int]] = deque()

    def paragraphs() -> Iterator[Marked]:
        for job in jobs:
            document = read_job(job, pair)
            units = [unit.marked for unit in document.units]
            opened.append((job, document, len(units)))
            yield from units

    got: list[Marked] = []

    def finished() -> Iterator[Done]:
        while opened and len(got) == opened[0][2]:
            job, document, _ = opened.popleft()
            yield _written(job, document, got)
            got.clear()

    for paragraph in translator.translate(paragraphs()):
        yield from finished()  # those without text come before its document
        got.append(paragraph.marked)
        on_paragraph(opened[0][0], paragraph)
        yield from finished()
    yield from finished()


def _written(job: Job, document: Document, translations: Sequence[Marked]) -> Done:
    try:
        data = document.render(translations)
        if job.target is not None:
            with new_file(job.target) as temporary:
                temporary.write_bytes(data)
    except SlimmoeError as error:
        return Done(job, b"", error)
    return Done(job, data)
