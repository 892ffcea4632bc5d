"""Segments as the model sees them: whole conversations of token ids, prompt and reference translation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from runtime.corpus import Segments
from runtime.errors import RequestError
from runtime.pairs import Pair
from runtime.prompts import ChatTemplate


@dataclass(frozen=True)
class Conversation:
    """Token ids of prompt and response; the first ``prompt`` of them are the prompt."""

    ids: list[int]
    prompt: int


@dataclass(frozen=True)
class Batch:
    """Right-padded conversations: ``ids`` and ``mask`` [B, T] (int64), ``response`` [B, T] (bool)."""

    ids: torch.Tensor
    mask: torch.Tensor
    response: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.mask.to(device), self.response.to(device))


def read_conversations(folder: Path, segments: Segments, pair: Pair, longest: int = 512) -> list[Conversation]:
    """Render with the model's chat template and tokenise; conversations over ``longest`` tokens are left out.

    Raises:
        RequestError: the folder has no tokenizer.json or another model's, or nothing is short enough.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise RequestError(f"{folder} has no tokenizer.json.")
    tokenizer, template = Tokenizer.from_file(str(path)), ChatTemplate.from_folder(folder)
    prompts = tokenizer.encode_batch([template.prompt(pair, a) for a, _ in segments], add_special_tokens=False)
    responses = tokenizer.encode_batch([template.completion(pair, a, b) for a, b in segments], add_special_tokens=False)
    found = [Conversation(p.ids + r.ids, len(p.ids)) for p, r in zip(prompts, responses, strict=True)]
    found = [conversation for conversation in found if len(conversation.ids) <= longest]
    if not found:
        raise RequestError(f"No segment of the corpus fits into {longest} tokens.")
    highest = max(max(conversation.ids) for conversation in found)
    vocabulary = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size", highest + 1)
    if highest >= vocabulary:
        raise RequestError(f"{folder} has a tokenizer with ids up to {highest}, but a vocabulary of {vocabulary}.")
    return found


def batches(conversations: list[Conversation], tokens: int) -> Iterator[Batch]:
    """Batches of at most ``tokens`` ids, padding included, longest conversations first."""
    ordered = sorted(conversations, key=lambda conversation: -len(conversation.ids))
    while ordered:
        length = len(ordered[0].ids)
        count = max(1, tokens // length)
        rows, ordered = ordered[:count], ordered[count:]
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        mask, response = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            mask[i, : len(row.ids)] = 1
            response[i, row.prompt : len(row.ids)] = True
        yield Batch(ids, mask, response)
