"""Conversations as batches of padded tensors, for models in torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from prune.conversations import Conversation


@dataclass(frozen=True)
class Batch:
    """Right-padded conversations: ``ids`` and ``mask`` [B, T] (int64), ``response`` [B, T] (bool)."""

    ids: torch.Tensor
    mask: torch.Tensor
    response: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.mask.to(device), self.response.to(device))


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
