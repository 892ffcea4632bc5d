"""Translate segments with a loaded engine: prompt, greedy decoding, text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runtime.engines import Engine, Generation
from runtime.errors import RequestError
from runtime.text.pairs import Pair, planned_pair


@dataclass(frozen=True)
class Translation:
    """A segment's translation and what it took."""

    source: str
    text: str
    generation: Generation | None  # None where there was nothing to translate


def known_pair(engine: Engine) -> Pair:
    """The pair that the engine's model was cut for.

    Raises:
        RequestError: none, or several.
    """
    if pair := planned_pair(engine.pruned_for):
        return pair
    said = f"was cut for {engine.pruned_for}" if engine.pruned_for else "names no language pair"
    raise RequestError(f"The model {said}: say which one with --pair.", next_command="the same with --pair en-de")


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
