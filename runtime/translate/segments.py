"""Translate segments with a loaded engine: prompt, greedy decoding, text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runtime.engines import Engine, Generation
from runtime.text.pairs import Pair


@dataclass(frozen=True)
class Translation:
    """A segment's translation and what it took."""

    source: str
    text: str
    generation: Generation | None  # None where there was nothing to translate


def output_limit(prompt_tokens: int) -> int:
    """Tokens a translation may take: twice its prompt and a little, which stops loops and cuts no honest translation."""
    return 2 * prompt_tokens + 16


def translate(engine: Engine, pair: Pair, segments: Iterable[str]) -> Iterator[Translation]:
    """Translate one segment after another; empty segments stay empty."""
    for segment in segments:
        source = segment.strip()
        if not source:
            yield Translation(segment, "", None)
            continue
        ids = engine.encode(engine.template.prompt(pair, source))
        generation = engine.generate(ids, output_limit(len(ids)))
        yield Translation(segment, generation.text.strip(), generation)
