"""Segments as the model sees them: whole conversations of token ids, prompt and reference translation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune.families import decoder_config
from prune.tokenizer import read_tokenizer
from runtime.errors import RequestError, warn_once
from runtime.formats.model_folder import read_config
from runtime.text.corpus import Segments
from runtime.text.lines import some_of
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate
from runtime.text.special_tokens import encode_all, special_of

LONGEST = 512  # tokens of a conversation; longer ones are left out
_AT_ONCE = 4096  # segments that are tokenised before the next are, should a limit be reached


@dataclass(frozen=True)
class Conversation:
    """Token ids of prompt and response; the first ``prompt`` of them are the prompt."""

    ids: list[int]
    prompt: int


def make_conversations(
    template: ChatTemplate,
    encode: Callable[[list[str]], list[list[int]]],
    segments: Segments,
    pair: Pair,
    longest: int = LONGEST,
    limit: int | None = None,
) -> list[Conversation]:
    """Render with a chat template and tokenise with ``encode``, which adds no special tokens of its own.

    Conversations of more than ``longest`` tokens are left out, with a warning. With a ``limit`` the first ones, until they
    have so many tokens; of a large corpus the rest is not tokenised.

    Raises:
        RequestError: all of them are.
    """
    found: list[Conversation] = []
    kept: list[Conversation] = []
    tokens = 0
    for start in range(0, len(segments), _AT_ONCE):
        some = segments[start : start + _AT_ONCE]
        prompts = encode([template.prompt(pair, a) for a, _ in some])
        responses = encode([template.completion(pair, a, b) for a, b in some])
        new = [Conversation(p + r, len(p)) for p, r in zip(prompts, responses, strict=True)]
        found += new
        short = [conversation for conversation in new if len(conversation.ids) <= longest]
        kept += short
        tokens += sum(len(conversation.ids) for conversation in short)
        if limit is not None and tokens >= limit:
            break
    if not kept:
        raise RequestError(f"No segment of the corpus fits into {longest} tokens.")
    if long := [number for number, conversation in enumerate(found, 1) if len(conversation.ids) > longest]:
        warn_once(
            f"{len(long)} of {len(found)} segments have more than {longest} tokens with their prompt and are left out: "
            f"segments {some_of(long)}."
        )
    return _up_to(limit, kept)


def read_conversations(
    folder: Path,
    segments: Segments,
    pair: Pair,
    longest: int = LONGEST,
    prompt: PromptTemplate | None = None,
    limit: int | None = None,
) -> list[Conversation]:
    """Render with the model's chat template and tokenise; ``longest`` and ``limit``: see ``make_conversations``.

    ``prompt`` says how the model is asked; by default the folder, or what is known of such a model.

    Raises:
        RequestError: the folder has no tokenizer or another model's, or nothing is short enough.
        WorkError: the tokenizer is damaged.
    """
    tokenizer = read_tokenizer(folder)

    special = special_of(tokenizer)

    def encode_batch(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def encode(texts: list[str]) -> list[list[int]]:
        return encode_all(texts, encode_batch, special)

    found = make_conversations(ChatTemplate.from_folder(folder, prompt), encode, segments, pair, longest, limit)
    highest = max(max(conversation.ids) for conversation in found)
    vocabulary = decoder_config(read_config(folder)).get("vocab_size", highest + 1)
    if highest >= vocabulary:
        raise RequestError(f"{folder} has a tokenizer with ids up to {highest}, but a vocabulary of {vocabulary}.")
    return found


def _up_to(limit: int | None, conversations: list[Conversation]) -> list[Conversation]:
    """The first conversations, until they have ``limit`` tokens; None: all."""
    total, kept = 0, []
    for conversation in conversations:
        if limit is not None and total >= limit:
            break
        kept.append(conversation)
        total += len(conversation.ids)
    return kept


def about_text(
    corpus: Path, segments: Segments, conversations: list[Conversation], asking: PromptTemplate
) -> dict[str, Any]:
    """What statistics tell of the text they were computed on, and of how the model was asked."""
    digest = hashlib.sha256()
    for number, (source, target) in enumerate(segments):
        digest.update((f"\n{source}\t{target}" if number else f"{source}\t{target}").encode())
    return {
        "corpus": str(corpus),
        "sha256": digest.hexdigest()[:16],
        "segments": len(conversations),
        "prompt_tokens": sum(c.prompt for c in conversations),
        "response_tokens": sum(len(c.ids) - c.prompt for c in conversations),
        "prompt": asking.to_dict(),
    }
