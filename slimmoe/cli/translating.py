"""The verb that translates: documents in their formats; text, other files and standard input a line in and a line out."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import RequestError, printable
from runtime.machine import usable_cores
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from slimmoe.cli.device import ARTEFACT_HELP, AsJson, Beam, KnownPair, Prompt, Threads
from slimmoe.cli.lines import MOST, Lines, translate_lines
from slimmoe.cli.offloading import AllCpuExperts, CpuExperts, DeviceName, GpuLayers, tell_where

if TYPE_CHECKING:  # loaded by what translates
    from runtime.engines import Offload
    from runtime.translate.glossary import Glossary
    from runtime.translate.memory import TranslationMemory
    from runtime.translate.paragraphs import Memory, ParagraphTranslator

translating = typer.Typer()
MOST_BEFORE = 16  # of --context


@dataclass(frozen=True)
class _Way:
    """How a translation is asked for; see the options of those names."""

    threads: int | None
    prompt: PromptTemplate | None
    exact: bool
    beam: int
    context: int
    offload: "Offload"


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
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
    beam: Beam = 1,
    context: Annotated[
        int,
        typer.Option(
            "--context",
            min=0,
            max=MOST_BEFORE,
            help="so many sentences before each that the model reads with it; slower, one at a time",
        ),
    ] = 0,
    alternatives: Annotated[
        int, typer.Option("--alternatives", min=0, max=MOST, help="of each line so many others, numbered below it")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Translate documents (Word, HTML, Markdown, subtitles ...), or text line by line."""
    from runtime.engines import Offload
    from runtime.translate.files import found_documents, jobs_for
    from slimmoe.cli.choosing import model_and_pair, split_model

    artefact, texts = split_model(words or [], model)
    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    if context and alternatives:
        raise RequestError("--alternatives are of sentences without context.", next_command="one of them alone")
    way = _Way(threads, prompt, exact, beam, context, offload)
    found = [found_documents(text) for text in texts]
    if documents := [each for each in found if each is not None]:
        from runtime.translate.memory import GivenTranslations
        from slimmoe.cli.documents import only_documents, readable, sample_of, translate_all

        only_documents(texts, found)
        if alternatives or as_json:
            said = "--alternatives" if alternatives else "--json"
            raise RequestError(f"{said} is for text.", next_command="the same command without it")
        paths = [path for each in documents for path in each]
        artefact, chosen = model_and_pair(artefact, pair, to, lambda: sample_of(paths))
        terms = _terms(glossary, chosen)
        jobs = jobs_for(texts, documents, chosen, output)
        for job in jobs:
            if job.target is not None and job.target.exists():
                _check_output(job.target, artefact, [each.source for each in jobs], True)
        good, sentences = readable(jobs, chosen, overwrite)
        given = _given(tmx or [], chosen)
        with _translator(artefact, chosen, terms, way) as translator:
            kept = _memory(artefact, chosen, terms, way) if memory else None
            with contextlib.closing(kept) if kept else contextlib.nullcontext():
                translate_all(good, sentences, chosen, translator(GivenTranslations(given, kept), 0), apart=context > 0)
        return
    if tmx:
        raise RequestError("--tmx is for documents.", next_command="the same command with a file")
    lines = Lines(texts)
    artefact, chosen = model_and_pair(artefact, pair, to, lambda: "\n".join(lines.sample()))
    if output is not None:
        _check_output(output, artefact, lines.files, overwrite)
    terms = _terms(glossary, chosen)
    with _translator(artefact, chosen, terms, way) as translator:
        ways = [translator(None, rank) for rank in range(alternatives + 1)]
        translate_lines(lines, output, ways, as_json)


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


def _memory(artefact: Path, pair: Pair, glossary: "Glossary | None", way: _Way) -> "TranslationMemory":
    from runtime.translate.memory import TranslationMemory, cache_folder, model_key

    told = [*(["exact"] if way.exact else []), *([f"beam {way.beam}"] if way.beam > 1 else [])]
    told += [f"context {way.context}"] if way.context else []
    asked = (str(pair), repr(way.prompt), *told, *([repr(list(glossary))] if glossary else []))
    return TranslationMemory(cache_folder() / "translations.sqlite", model_key(artefact, *asked))


@contextlib.contextmanager
def _translator(
    artefact: Path, pair: Pair, glossary: "Glossary | None", way: _Way
) -> "Iterator[Callable[[Memory | None, int], ParagraphTranslator]]":
    """A function that gives a translator by a loaded model, of alternatives with a rank above 0.

    The pair that the model was not cut for is noted.
    """
    from runtime.engines import open_engine
    from runtime.engines.scheduler import Scheduler
    from runtime.translate.alternatives import tries_of
    from runtime.translate.checked import CheckedTranslator
    from runtime.translate.paragraphs import ParagraphTranslator, room
    from runtime.translate.segments import SegmentTranslator

    # A sentence that waits for the one before it has all threads to itself.
    alone = way.exact or way.context > 0
    threads = way.threads or (usable_cores() if way.context else None)
    with contextlib.closing(open_engine(artefact, threads, prompt=way.prompt, offload=way.offload)) as engine:
        tell_where(engine)
        if engine.pruned_for and str(pair) not in engine.pruned_for.split(" + "):
            note = f"slimmoe: {artefact} was cut for {engine.pruned_for}: its experts were not chosen for {pair}."
            print(printable(note), file=sys.stderr)

        with contextlib.closing(Scheduler(engine, places=1 if alone else None)) as scheduler:
            segments, limit = SegmentTranslator(engine, pair, scheduler, way.exact, way.beam), room(engine, pair)

            def translator(memory: "Memory | None", rank: int) -> ParagraphTranslator:
                checked = CheckedTranslator(segments, tries_of(engine, pair, glossary, rank))
                translate = (
                    partial(checked.translate_in_context, count=way.context) if way.context else checked.translate
                )
                return ParagraphTranslator(translate, pair.source, limit, memory)

            yield translator


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
