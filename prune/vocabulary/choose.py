"""Which tokens of a model stay, by how often a pair's text has each: whole conversations, as the model is asked."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, make_conversations, read_conversations
from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.vocabulary.gguf import read_gguf_vocabulary
from prune.vocabulary.selection import Amount, Selection
from prune.vocabulary.tokenizer_json import read_vocabulary
from prune.vocabulary.vocabulary import Vocabulary
from runtime.engines.llama import BATCH, LlamaEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.artefact import pair_of
from runtime.formats.gguf_names import EMBEDDING
from runtime.formats.model_folder import read_own_object
from runtime.text.corpus import Segments, read_segments
from runtime.text.pairs import Pair, planned_pair
from runtime.text.prompt_templates import PromptTemplate

# The count of tokens becomes a multiple of this, by tokens that would be next: matrix kernels take rows of the output layer
# in groups (llama.cpp's repacked Q4_K of 8, those of GPUs of 64 to 256). K-quants themselves need a width of 256, not rows.
MULTIPLE = 256
ID_ENDS = ("_token_id", "_token_ids", "_token_index", "suppress_tokens", "bad_words_ids")  # of a config's keys


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


def choose(source: Path, amount: str, corpus: Path, pair: Pair | None = None, plan: Plan | None = None) -> Selection:
    """``choose_vocabulary`` for a checkpoint's folder or a GGUF file.

    Args:
        amount: as ``Amount.parse`` reads it.
        pair: of ``corpus``; None: the first that ``plan`` or the model was made for.
        plan: of the experts, by which the model is asked.

    Raises:
        RequestError: see ``choose_vocabulary``; the model was made for no pair and none is given.
    """
    size, is_gguf = Amount.parse(amount), source.suffix == ".gguf"
    known = pair or planned_pair(plan.pair if plan else pair_of(source))
    if known is None:
        raise RequestError(
            f"{source} was cut for no pair, so the pair of the text must be given.",
            next_command=f"slimmoe prune {source} --vocabulary {amount} --corpus {corpus} --pair en-de -o "
            f"{'FILE.gguf' if is_gguf else 'DIR'}",
        )
    asked = plan.calibration.get("prompt") if plan else None
    prompt = PromptTemplate.from_dict(asked) if asked else None
    return choose_vocabulary(GgufModel(source) if is_gguf else Checkpoint(source), size, known, corpus, prompt)


def add_vocabulary(plan: Plan, source: Path, amount: str, corpus: Path) -> Plan:
    """The plan with the tokens that stay of its model, ``source``. See ``choose``."""
    return replace(plan, vocabulary=choose(source, amount, corpus, None, plan).to_dict())
