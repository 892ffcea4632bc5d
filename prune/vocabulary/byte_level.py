"""A tokenizer.json of byte-level BPE: its tokens, what each is merged of, and those that no text can do without."""

import math
import string
from collections import defaultdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from runtime.errors import RequestError
from runtime.formats.model_folder import TOKENIZER, read_own_object

SPACE = "Ġ"  # as byte-level BPE writes it
_PROCESSORS = ("ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence")


def steps_of(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """A pre-tokenizer or post-processor, and all that a sequence of them has ``inside``."""
    return [] if step is None else [step, *(each for part in step.get(inside, []) for each in steps_of(part, inside))]


class ByteLevelVocabulary:
    """What stands in ``folder/tokenizer.json``, by token and id.

    Raises:
        RequestError: there is none, or it is of another kind than byte-level BPE.
        WorkError: the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        stored = read_own_object(folder, TOKENIZER)
        self.ids, self.merges = _vocabulary(stored, folder)
        self.added = {each["content"]: int(each["id"]) for each in stored.get("added_tokens") or []}
        self.tokens = {number: token for token, number in (self.ids | self.added).items()}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _ways(self) -> dict[str, list[tuple[str, str]]]:
        """All merges that make a token; those made from tiktoken's lists have several."""
        ways = defaultdict(list)
        for pair in self.merges:
            ways["".join(pair)].append(pair)
        return ways

    @cached_property
    def merged(self) -> list[int]:
        """Ids of the tokens that merges make, in the order of the merges: about that of their frequency in general text."""
        return [self.ids[token] for token in self._ways if token in self.ids]

    @cached_property
    def always(self) -> set[int]:
        """Added tokens, the 256 bytes, numbers of ASCII digits, and its punctuation, with a space before it or without."""
        kept = {*self.added.values()} | {self.ids[byte] for byte in ByteLevel.alphabet()}
        for token, number in self.ids.items():
            bare = token.removeprefix(SPACE)
            if bare.isascii() and (bare.isdigit() or (len(bare) == 1 and bare in string.punctuation)):
                kept.add(number)
        return self.closed(kept)

    def closed(self, ids: set[int]) -> set[int]:
        """With all that is merged on the way to them, so that text that is split into ``ids`` still is.

        How a token comes about does not depend on its surroundings: no merge reaches over the ends of what becomes one.
        """
        found, waiting = {*ids}, [*ids]
        while waiting:
            parts = {self.ids[part] for part in self._parts(self.tokens[waiting.pop()])} - found
            found |= parts
            waiting += parts
        return found

    def _parts(self, token: str) -> tuple[str, ...]:
        """The two tokens that are merged last into this one; none where no merges make it."""
        ways = self._ways.get(token, [])
        if len(ways) < 2 or token not in self.ids:
            return ways[0] if ways and token in self.ids else ()
        symbols = [*token]
        while len(symbols) > 1:
            pairs = [*pairwise(symbols)]
            at = min(range(len(pairs)), key=lambda i: self._ranks.get(pairs[i], math.inf))
            if pairs[at] not in self._ranks:
                return ()
            if len(symbols) == 2:
                return pairs[at]
            symbols[at : at + 2] = ["".join(pairs[at])]
        return ()


def _vocabulary(stored: dict[str, Any], folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = stored.get("model") or {}
    if not stored:
        raise RequestError(
            f"{folder} has no {TOKENIZER}, and a vocabulary is cut there.",
            next_command=f"cp ORIGINAL/{TOKENIZER} {folder}/",
        )
    splits = {each.get("type") for each in steps_of(stored.get("pre_tokenizer"), "pretokenizers")}
    others = ("byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix")
    ids = model.get("vocab")
    fits = model.get("type") == "BPE" and "ByteLevel" in splits and not any(model.get(key) for key in others)
    if not fits or not isinstance(ids, dict) or not {*ByteLevel.alphabet()} <= ids.keys():
        kind = (
            f"{model.get('type') or 'unknown'}{', with bytes for what it lacks' if model.get('byte_fallback') else ''}"
        )
        raise RequestError(
            f"The tokenizer of {folder} is of another kind ({kind}) than BPE on bytes, the only one whose vocabulary is cut.",
            next_command=f"slimmoe prune {folder} --plan plan.json -o DIR   (its experts alone)",
        )
    processors = {each.get("type") for each in steps_of(stored.get("post_processor"), "processors")}
    if unknown := processors - {*_PROCESSORS}:
        raise RequestError(
            f"The tokenizer of {folder} has a post-processor {sorted(map(str, unknown))[0]}, whose token ids are not known.",
            next_command=f"slimmoe prune {folder} --plan plan.json -o DIR   (its experts alone)",
        )
    merges = (each.split(" ") if isinstance(each, str) else each for each in model.get("merges") or [])
    return ids, [(a, b) for a, b in merges if {a, b, a + b} <= ids.keys()]
