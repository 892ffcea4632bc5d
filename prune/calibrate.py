"""Calibration: one pass over whole conversations, summing what each expert was given and what it answered."""

import hashlib
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from prune.checkpoint import Checkpoint
from prune.conversations import Batch, batches, read_conversations
from prune.model import choose_device, load_model
from prune.stats import LayerStats, Stats
from runtime.corpus import read_segments
from runtime.pairs import Pair

BATCH_TOKENS = 8192


class Observer:
    """Replaces the forward of each layer's experts by one that also measures them.

    The module is called once for each of the top-k choices with a gate weight of 1, which gives every chosen expert's
    own output f_j(t) at the cost of the usual call, for any family whose experts take (hidden, index, weights).
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Checkpoint) -> None:
        self.sums = {i: torch.zeros(4, 2, n, dtype=torch.float64) for i, n in checkpoint.moe_layers.items()}
        self._role = torch.empty(0)  # of each token of the batch: 0 prompt, 1 response, 2 padding
        for i in checkpoint.moe_layers:
            module: Any = model.get_submodule(checkpoint.module("experts", i))
            module.forward = self._wrap(module.forward, i)

    def begin(self, batch: Batch) -> None:
        """Tell which tokens the next forward pass will bring."""
        self._role = torch.where(batch.mask.bool(), batch.response.long(), 2).reshape(-1)

    def _wrap(self, original: Any, layer: int) -> Any:
        def forward(hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            ones, total = torch.ones_like(weights[:, :1]), torch.zeros_like(hidden)
            for choice in range(index.shape[1]):
                chosen, gate = index[:, choice], weights[:, choice].float()
                output = original(hidden, index[:, choice : choice + 1], ones)
                self._add(layer, chosen, gate, output.float().norm(dim=-1))
                total += output * weights[:, choice : choice + 1]
            return total

        return forward

    def _add(self, layer: int, chosen: torch.Tensor, gate: torch.Tensor, norm: torch.Tensor) -> None:
        experts = self.sums[layer].shape[2]
        place = self._role * experts + chosen
        values = torch.stack((torch.ones_like(gate), gate, norm, gate * norm)).double()
        sums = torch.zeros(4, 3 * experts, dtype=torch.float64, device=gate.device)
        sums.index_add_(1, place, values)
        self.sums[layer] += sums.cpu().view(4, 3, experts)[:, :2]


def calibrate(
    folder: Path, pair: Pair, corpus: Path, limit: int | None = None, quiet: bool = False
) -> tuple[Stats, str]:
    """Statistics of the model in ``folder`` on a corpus, and the device with the reason for it.

    Args:
        limit: stop after this many tokens; None: the whole corpus.

    Raises:
        RequestError: an unreadable corpus or model folder.
    """
    started = time.perf_counter()
    checkpoint = Checkpoint(folder)
    segments = read_segments(corpus, pair)
    conversations = read_conversations(folder, segments, pair)
    if limit is not None:
        total, kept = 0, []
        for conversation in conversations:
            if total >= limit:
                break
            kept.append(conversation)
            total += len(conversation.ids)
        conversations = kept
    device, reason = choose_device()
    model = load_model(folder, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    observer = Observer(model, checkpoint)
    work = list(batches(conversations, BATCH_TOKENS))
    with torch.inference_mode():
        for batch in tqdm(work, "calibrate", unit="batch", disable=quiet or None):
            here = batch.to(device)
            observer.begin(here)
            model.base_model(input_ids=here.ids, attention_mask=here.mask, use_cache=False)
    text = "\n".join(f"{a}\t{b}" for a, b in segments)
    calibration = {
        "corpus": str(corpus),
        "sha256": hashlib.sha256(text.encode()).hexdigest()[:16],
        "segments": len(conversations),
        "prompt_tokens": sum(c.prompt for c in conversations),
        "response_tokens": sum(len(c.ids) - c.prompt for c in conversations),
        "device": str(device),
        "seconds": round(time.perf_counter() - started, 2),
    }
    layers = {i: LayerStats(*sums.numpy()) for i, sums in observer.sums.items()}
    stats = Stats(layers, str(folder), checkpoint.fingerprint, str(pair), checkpoint.top_k, calibration)
    return stats, f"{device.type} ({reason})"
