"""What ``slimmoe translate`` does with documents: progress, the translation memory, what is told at the end."""

import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import RequestError, SlimmoeError, WorkError, printable
from runtime.text.pairs import Pair
from runtime.translate.files import Done, Job, count_sentences, read_job, translate_documents
from runtime.translate.paragraphs import Paragraph, ParagraphTranslator
from runtime.translate.segments import SAID
from slimmoe.cli.device import say

NAMED = 5  # sentences of each kind of trouble that are named one by one
_KEPT = ("refused", "empty")  # whose source stays
_LOST = {"values": "a value", "terms": "a term"}


class Trouble:
    """Sentences that were not translated well, told one by one while they are few, and counted."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def tell(self, place: str, paragraph: Paragraph) -> None:
        """Say what went wrong in a paragraph."""
        for result in paragraph.troubles:
            kind = result.trouble
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if self.counts[kind] <= NAMED:
                source = result.source if len(result.source) <= 60 else f"{result.source[:57]}..."
                kept = " and stays as it is" if kind in _KEPT else ""
                self._print(f"the translation of {place} {result.said}{kept}: {source!r}")

    @staticmethod
    def _print(sentence: str) -> None:
        from tqdm import tqdm

        tqdm.write(printable(f"slimmoe: {sentence}"), file=sys.stderr)

    def conclude(self) -> None:
        """Say how many there were, where not all were named.

        Raises:
            WorkError: some sentences were not translated.
        """
        for kind, count in self.counts.items():
            if count > NAMED and kind not in _KEPT:
                self._print(
                    f"{count} translations in all are marked so: each {SAID[kind].format(lost=_LOST.get(kind, ''))}."
                )
        kept = sum(self.counts.get(kind, 0) for kind in _KEPT)
        if kept:
            sentences = "1 sentence is" if kept == 1 else f"{kept} sentences are"
            raise WorkError(f"{sentences} not translated and stay as they were; all others are.")


def kept_as_it_is(output: Path) -> RequestError:
    """The sentence for a file that a translation would replace unasked."""
    return RequestError(
        f"{output} exists and is kept as it is.",
        next_command=f"rm {output}   (or --overwrite, or another name with -o)",
    )


def readable(jobs: Sequence[Job], pair: Pair, overwrite: bool) -> tuple[list[Job], int]:
    """The jobs that can be done, and their sentences; what is wrong with others is told.

    Raises:
        RequestError: there is none.
    """
    good, sentences, failures = list[Job](), 0, list[SlimmoeError]()
    for job in jobs:
        try:
            if job.target is not None and job.target.is_dir():
                raise RequestError(f"{job.target} is a folder; a file name is needed.")
            if job.target is not None and job.target.exists() and not overwrite:
                raise kept_as_it_is(job.target)
            sentences += count_sentences(read_job(job, pair), pair.source)
            good.append(job)
        except SlimmoeError as error:
            failures.append(error)
    if not good and len(failures) == 1:
        raise failures[0]
    for failure in failures[:NAMED]:
        print(printable(f"slimmoe: {failure.sentence}"), file=sys.stderr)
    if len(failures) > NAMED:
        print(
            f"slimmoe: and {len(failures) - NAMED} more of {len(jobs)} documents are not translated.", file=sys.stderr
        )
    if not good:
        raise RequestError(f"None of {len(jobs)} documents is translated.", next_command="the same with --overwrite")
    return good, sentences


def sample_of(paths: Sequence[Path], length: int = 5000) -> str:
    """Some text of documents, to see which language it is in."""
    from runtime.text.markup import plain

    found = ""
    for path in paths:
        try:
            for unit in read_job(Job(path, None), Pair("", "")).units:
                found += plain(unit.marked) + "\n"
                if len(found) > length:
                    return found
        except SlimmoeError:
            continue
    return found


def translate_all(
    jobs: Sequence[Job],
    sentences: int,
    pair: Pair,
    translator: ParagraphTranslator,
    apart: bool = False,
) -> None:
    """Translate documents, with sentences done and time left on a terminal; ``apart`` as of ``translate_documents``.

    Raises:
        WorkError: some document could not be written, or some sentence was not translated.
    """
    from tqdm import tqdm

    trouble, failures = Trouble(), list[Done]()
    shown = None if sys.stderr.isatty() else True
    with tqdm(
        total=sentences, unit=" sentences", disable=shown, leave=False, dynamic_ncols=True, smoothing=0.05
    ) as bar:

        def on_paragraph(job: Job, paragraph: Paragraph) -> None:
            bar.update(paragraph.sentences)
            trouble.tell(f"a sentence of {job.source}", paragraph)

        for done in translate_documents(jobs, pair, translator, on_paragraph, apart):
            if done.failure:
                failures.append(done)
                tqdm.write(printable(f"slimmoe: {done.failure.sentence}"), file=sys.stderr)
            elif done.job.target is None:
                sys.stdout.buffer.write(done.data)
                sys.stdout.buffer.flush()
            else:
                with tqdm.external_write_mode():
                    say(f"translation: {done.job.target}")
    if failures:
        raise WorkError(f"{len(failures)} of {len(jobs)} documents could not be written; all others are.")
    trouble.conclude()


def only_documents(words: Sequence[str], found: Sequence[list[Path] | None]) -> None:
    """Refuse text beside documents.

    Raises:
        RequestError: some of the words are no documents.
    """
    other = next((word for word, documents in zip(words, found) if documents is None), None)
    if other is not None:
        raise RequestError(f"{other} is no document, and documents are translated on their own.", next_command="ls")
