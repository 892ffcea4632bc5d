"""Which tokens of a model stay, by how often a pair's text has each: whole conversations, as the model is asked."""

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, make_conversations, read_conversations
from prune.gguf_model import GgufModel
from prune.vocabulary.gguf import read_gguf_vocabulary
from prune.vocabulary.tokenizer_json import read_vocabulary
from prune.vocabulary.vocabulary import Vocabulary
from runtime.engines.llama import BATCH, LlamaEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.artefact import provenance_of
from runtime.formats.gguf_names import EMBEDDING
from runtime.formats.model_folder import read_own_object
from runtime.text.corpus import Segments, read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate

# The count of tokens becomes a multiple of this, by tokens that would be next: matrix kernels take rows of the output layer
# in groups (llama.cpp's repacked Q4_K of 8, those of GPUs of 64 to 256). K-quants themselves need a width of 256, not rows.
MULTIPLE = 256
ID_ENDS = ("_token_id", "_token_ids", "_token_index", "suppress_tokens", "bad_words_ids")  # of a config's keys
_EXAMPLE = "--vocabulary coverage=0.9999   (or a number of tokens, 8192, or a share of them, 0.25)"


@dataclass(frozen=True)
class Amount:
    """How many tokens stay: a number of them, a share of them, or those that cover a share of the text.

    Attributes:
        coverage: 1 keeps every token that the text has.
    """

    text: str
    tokens: int | None = None
    share: float | None = None
    coverage: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Amount":
        """Read ``--vocabulary``.

        Raises:
            RequestError: it is none of the three.
        """
        name, _, value = text.rpartition("=")
        try:
            if not name and value.isdecimal() and int(value) > 1:
                return cls(text, tokens=int(value))
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number <= 1 or name not in ("", "coverage"):
            raise RequestError(f"{text!r} is no size of a vocabulary.", next_command=f"the same with {_EXAMPLE}")
        return cls(text, coverage=number) if name else cls(text, share=number)


@dataclass(frozen=True)
class Selection:
    """The tokens of a model that stay.

    Attributes:
        keep: their ids in the source, sorted; a token's place in it is its new id.
        before: how many the tokenizer had.
        used: how many different ones the text has.
        covered: share of the text's tokens that stay, 0 to 1.
        expected: the same of other text like it, without the tokens that are in this one once and need not stay otherwise:
            as many will be new there (the estimate of Good and Turing).
        sha256: of the text, its first 16 digits.
    """

    keep: list[int]
    before: int
    used: int
    covered: float
    expected: float
    amount: str
    pair: str
    corpus: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As ``slimmoe.json`` has it: ``keep`` as ranges, ``0-259 262 270-301``."""
        return asdict(self) | {"keep": as_ranges(self.keep), "after": len(self.keep)}


def as_ranges(ids: Iterable[int]) -> str:
    """Sorted numbers as text, neighbours by the first and the last of them."""
    runs: list[list[int]] = []
    for number in ids:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def from_ranges(text: str) -> list[int]:
    """The inverse of ``as_ranges``."""
    ends = (part.partition("-") for part in text.split())
    return [number for a, _, b in ends for number in range(int(a), int(b or a) + 1)]


def kept_ids(record: Mapping[str, Any], source: Path) -> list[int]:
    """The ids in the first model of the tokens of ``source``, by its record of them (``Selection.to_dict``).

    Raises:
        WorkError: the record is damaged.
    """
    try:
        ids = from_ranges(record["keep"])
        if ids != sorted({*ids}) or not 0 < len(ids) == record["after"] <= record["before"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WorkError(f"{source} is damaged: its record of the vocabulary is not that of the model.") from None
    return ids


def kept_of(artefact: Path, source: Path) -> list[int] | None:
    """The ids in ``source`` of the tokens of what was made from it; None where it has them all, or none is known to be lost.

    Raises:
        RequestError: ``source`` lacks some of them.
        WorkError: a record is damaged.
    """
    mine, others = provenance_of(artefact).vocabulary, provenance_of(source).vocabulary
    if not mine or mine.get("keep") == others.get("keep"):
        return None
    ids = kept_ids(mine, artefact)
    places = {first: number for number, first in enumerate(kept_ids(others, source))} if others else None
    if places is None:
        return ids
    if lost := {*ids} - places.keys():
        raise RequestError(f"{artefact} has {len(lost)} tokens that {source} lacks, so it was not made from that.")
    return [places[first] for first in ids]


def named_ids(values: Any, key: str = "") -> set[int]:
    """Ids of tokens that a config names: ``eos_token_id``, ``suppress_tokens`` and the like, at any depth."""
    if isinstance(values, Mapping):
        return {number for name, value in values.items() for number in named_ids(value, str(name))}
    if isinstance(values, list):
        return {number for value in values for number in named_ids(value, key)}
    return {values} if is_id(key, values) else set()


def is_id(key: str, value: Any) -> bool:
    """Whether a value that a config has under ``key`` is the id of a token."""
    return isinstance(value, int) and not isinstance(value, bool) and key.endswith(ID_ENDS)


def select(vocabulary: Vocabulary, counts: Counter[int], amount: Amount, needed: set[int]) -> list[int]:
    """Sorted ids of the tokens that stay, closed under merges, so that any text can still be encoded.

    What every text needs (``Vocabulary.always``) and ``needed`` stay; then the most frequent, then, where the
    text has no more, those that were merged first.

    Raises:
        RequestError: more tokens must stay than ``amount`` allows.
    """
    kept = vocabulary.always | vocabulary.closed(needed)
    if amount.coverage is None:
        wanted = amount.tokens or round((amount.share or 0) * len(vocabulary.tokens))
        if wanted < len(kept):
            raise RequestError(
                f"{len(kept)} tokens must stay (added ones, bytes, numbers, punctuation), and --vocabulary {amount.text} leaves "
                f"{wanted}.",
                next_command=f"the same with --vocabulary {_whole(len(kept))}",
            )
    else:
        wanted, covered = 0, sum(counts[each] for each in kept)
        for number, _ in counts.most_common():
            if covered >= amount.coverage * counts.total():
                break
            for each in vocabulary.closed({number}) - kept:
                kept.add(each)
                covered += counts[each]
    order = [*dict.fromkeys([*(number for number, _ in counts.most_common()), *vocabulary.merged])]
    target = _whole(max(wanted, len(kept)))
    while len(kept) < target:
        before = len(kept)
        for number in order:
            if number in kept:
                continue
            more = vocabulary.closed({number}) - kept
            if len(kept) + len(more) <= target:
                kept |= more
        if len(kept) == before:  # there are no more
            break
    return sorted(kept)


def _whole(count: int) -> int:
    return -(-count // MULTIPLE) * MULTIPLE


def choose_vocabulary(
    model: Checkpoint | GgufModel, amount: Amount, pair: Pair, corpus: Path, prompt: PromptTemplate | None = None
) -> Selection:
    """Count the tokens of a parallel corpus with its prompts, and choose. Of a GGUF file without torch.

    Args:
        prompt: how the model is asked; by default as the folder or file says.

    Raises:
        RequestError: the tokenizer is of a kind whose vocabulary is not cut, or goes past the embedding; the corpus cannot
            be read; more tokens must stay than ``amount`` allows.
        WorkError: the tokenizer is damaged.
    """
    vocabulary, named = _facts(model)
    if (highest := max(vocabulary.tokens)) >= (rows := rows_of(model)):
        raise RequestError(
            f"The tokenizer of {model.source} has ids up to {highest}, and the embedding {rows} rows: such a vocabulary is "
            "not cut."
        )
    segments = read_segments(corpus, pair)
    counts: Counter[int] = Counter()
    for conversation in _conversations(model, segments, pair, prompt):
        counts.update(conversation.ids)
    keep = select(vocabulary, counts, amount, named & vocabulary.tokens.keys())
    covered = sum(counts[each] for each in keep)
    seen_once = sum(counts[each] == 1 for each in {*keep} - vocabulary.always)
    return Selection(
        keep=keep,
        before=len(vocabulary.tokens),
        used=len(counts),
        covered=covered / counts.total(),
        expected=(covered - seen_once) / counts.total(),
        amount=amount.text,
        pair=str(pair),
        corpus=str(corpus),
        sha256=hashlib.sha256("\n".join(f"{a}\t{b}" for a, b in segments).encode()).hexdigest()[:16],
    )


def rows_of(model: Checkpoint | GgufModel) -> int:
    """How many tokens the embedding has room for.

    Raises:
        WorkError: a GGUF file has no embedding.
    """
    if isinstance(model, Checkpoint):
        return model.config.get("vocab_size") or 0
    if (embedding := model.tensors.get(EMBEDDING)) is None:
        raise WorkError(f"{model.source} is damaged: it has no {EMBEDDING}.")
    return embedding.shape[0]


def _facts(model: Checkpoint | GgufModel) -> tuple[Vocabulary, set[int]]:
    """The tokens, and the ids that the model's settings name."""
    if isinstance(model, GgufModel):
        settings = {key: model.file.get(key) for key in model.file.metadata if key.endswith(ID_ENDS)}
        return read_gguf_vocabulary(model.file), named_ids(settings)
    named = named_ids(model.stored_config) | named_ids(read_own_object(model.folder, "generation_config.json"))
    return read_vocabulary(model.folder), named


def _conversations(
    model: Checkpoint | GgufModel, segments: Segments, pair: Pair, prompt: PromptTemplate | None
) -> list[Conversation]:
    """Of any length: none is run."""
    longest = 1 << 30
    if isinstance(model, Checkpoint):
        return read_conversations(model.folder, segments, pair, longest, prompt)
    with contextlib.closing(LlamaEngine(model.source, context=BATCH, mapped=True)) as engine:
        template = engine.template.asked(prompt)
        return make_conversations(template, lambda texts: [*map(engine.encode, texts)], segments, pair, longest)
