"""The part of ``import slimmoe`` that runs an artefact on a device: open, translate, show the prompt, evaluate, bench."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompt_templates import PromptTemplate, parse_prompt

if TYPE_CHECKING:  # the rooms behind these names are loaded by the function that is called
    from runtime.engines.base import Engine
    from runtime.engines.split import Count
    from runtime.measure.evaluate import Evaluation
    from runtime.text.asked import Asked
    from runtime.translate.glossary import Glossary

AnyPath = str | Path
AnyPair = str | Pair
AnyPrompt = str | PromptTemplate
AnyGlossary = str | Path | Mapping[str, str]  # a file (docs/documents.md), or translations by their terms
TEST = "data/test"


def as_pair(pair: AnyPair) -> Pair:
    """A pair as it may be given."""
    return pair if isinstance(pair, Pair) else parse_pair(pair)


def as_bytes(memory: int | str) -> int:
    """A size of memory as it may be given: bytes, or a text such as ``8GiB``."""
    from runtime.measure.memory import parse_memory

    return memory if isinstance(memory, int) else parse_memory(memory, "slimmoe.fit(MODEL, '8GiB')")


def as_prompt(prompt: AnyPrompt | None) -> PromptTemplate | None:
    """A prompt as it may be given: a text, a file's name, or None for the model's own."""
    return parse_prompt(prompt) if isinstance(prompt, str) else prompt


def as_glossary(glossary: AnyGlossary | None, pair: Pair) -> "Glossary | None":
    """A glossary as it may be given.

    Raises:
        RequestError: the file is not there, damaged, or has no term of the pair.
    """
    from runtime.translate.glossary import Glossary, Term, read_glossary

    if isinstance(glossary, str | Path):
        return read_glossary(Path(glossary), pair)
    return Glossary(Term(*each) for each in glossary.items()) if glossary else None


def open_engine(
    artefact: AnyPath,
    threads: int | None = None,
    context: int | None = None,
    prompt: AnyPrompt | None = None,
    *,
    device: str = "auto",
    gpu_layers: "Count" = "auto",
    cpu_experts: "Count" = "auto",
) -> "Engine":
    """Load a GGUF file, an ONNX folder, what a run's folder holds, or a stored model; ``contextlib.closing`` frees it.

    Args:
        threads: default: by the model's size and by what is free.
        context: tokens of prompt and translation together; default: as many as the model knows, with caches that grow.
        prompt: how the model is asked, a text with ``{text}`` or a file; default: as the artefact says.
        device: where, ``auto``, ``cpu`` or a name that ``slimmoe devices`` prints (docs/gpu.md).
        gpu_layers: of a GGUF file on the device: a number, ``all`` or ``auto``.
        cpu_experts: layers whose experts stay in the machine's memory: a number, ``all`` or ``auto``.

    Raises:
        RequestError: there is no such artefact, or no such device for it.
        WorkError: it is damaged, or the engine's library is missing.
    """
    from runtime.engines import Offload
    from runtime.engines import open_engine as load
    from runtime.formats.artefact import find_artefact

    offload = Offload.parse(device, str(gpu_layers), str(cpu_experts))
    return load(find_artefact(Path(artefact)), threads, context, prompt=as_prompt(prompt), offload=offload)


def translate(
    engine: "Engine | AnyPath",
    texts: Iterable[str],
    pair: AnyPair | None = None,
    *,
    exact: bool = False,
    glossary: AnyGlossary | None = None,
    beam: int = 1,
) -> Iterator[str]:
    """Translations in order, in the white space of their sources; empty text, or one too long for the context, is empty.

    Texts are decoded in batches; ``slimmoe.Translator`` does the same for several callers, and streams. One that fails
    or loses a number, URL, e-mail address or code is tried again (docs/documents.md); where that does not help, a warning
    says so.

    Args:
        engine: one that is open, or an artefact to be opened.
        texts: segments, one sentence or so each; read in another thread, a few ahead.
        pair: default: the one that the model was cut for.
        exact: one text in each batch: its translation is then the same whatever is translated beside it.
        glossary: terms to translate in one way only.
        beam: partial translations that are followed of each text; 1: greedy.

    Raises:
        RequestError: no such artefact, no pair is given and none is known, or the glossary cannot be read.
    """
    from runtime.translate.checked import in_places, translate_checked
    from runtime.translate.segments import known_pair

    if isinstance(engine, str | Path):
        with contextlib.closing(open_engine(engine)) as opened:
            yield from translate(opened, texts, pair, exact=exact, glossary=glossary, beam=beam)
        return
    chosen = as_pair(pair) if pair is not None else known_pair(engine)
    terms = as_glossary(glossary, chosen)
    translated = translate_checked(engine, chosen, texts, exact=exact, glossary=terms, beam=beam)
    with contextlib.closing(translated) as done:
        yield from in_places(done)


def prompt(model: AnyPath, text: str, pair: AnyPair = "en-de", prompt: AnyPrompt | None = None) -> "Asked":
    """What a checkpoint, GGUF file or ONNX folder is sent for ``text`` (``.prompt``), and where it is stopped (``.stops``).

    Args:
        prompt: how it is asked; default: as the model says, or as is known of it.

    Raises:
        RequestError: there is no such model.
        WorkError: its chat template cannot be rendered.
    """
    from runtime.formats.artefact import find_artefact
    from runtime.text.asked import read_asked

    return read_asked(find_artefact(Path(model), checkpoint=True), as_pair(pair), text, as_prompt(prompt))


def evaluate(
    artefact: AnyPath,
    pair: AnyPair,
    test: AnyPath = TEST,
    threads: int | None = None,
    prompt: AnyPrompt | None = None,
    beam: int = 1,
    device: str = "auto",
) -> "Evaluation":
    """chrF++, BLEU and failures of an artefact on a test set, with their signatures.

    Raises:
        RequestError: no such artefact or test set.
    """
    from runtime.measure.evaluate import evaluate as run
    from runtime.text.corpus import read_segments

    segments = read_segments(Path(test), as_pair(pair))
    with contextlib.closing(open_engine(artefact, threads, prompt=prompt, device=device)) as engine:
        return run(engine, as_pair(pair), segments, beam=beam)


def bench(
    artefact: AnyPath,
    pair: AnyPair = "en-de",
    test: AnyPath | None = None,
    threads: int | None = None,
    prompt: AnyPrompt | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Speed, memory and size of an artefact in processes of its own, and with ``test`` its quality: a row of bench.jsonl.

    Raises:
        WorkError: it cannot be measured.
    """
    from runtime.engines import Offload
    from runtime.formats.artefact import find_artefact
    from runtime.measure.bench import bench as run

    where, artefact = None if test is None else Path(test), find_artefact(Path(artefact))
    return dict(run(artefact, as_pair(pair), where, threads, prompt=as_prompt(prompt), offload=Offload(device)))
