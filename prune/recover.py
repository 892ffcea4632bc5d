"""Recovery: a short supervised fine-tuning of the pruned model on the pair's own text, router and experts included."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from prune.checkpoint import Checkpoint
from prune.conversations import Batch, Conversation, batches, read_conversations
from prune.model import choose_device, load_model
from runtime.corpus import read_segments
from runtime.errors import RequestError, WorkError
from runtime.files import new_folder, require_space
from runtime.pairs import Pair

BATCH_TOKENS = 2048  # of a step, padding included
CHECKS = 5  # times in a run that the dev loss is measured; the best weights are kept
RATE, WARM_UP = 3e-4, 0.1


def response_loss(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy of the response tokens (nats), and how many there are."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[:, :-1]
    wanted = batch.response[:, 1:]
    loss = F.cross_entropy(logits[wanted].float(), batch.ids[:, 1:][wanted], reduction="sum")
    return loss, int(wanted.sum())


@torch.inference_mode()
def mean_loss(model: PreTrainedModel, conversations: list[Conversation], device: torch.device) -> float:
    """Mean cross-entropy per response token."""
    total = count = 0.0
    for batch in batches(conversations, 4 * BATCH_TOKENS):
        loss, tokens = response_loss(model, batch.to(device))
        total, count = total + loss.item(), count + tokens
    return total / count


def _steps(conversations: list[Conversation], steps: int, seed: int) -> Any:
    """``steps`` batches, each epoch in a new order; conversations of like length are batched together."""
    rng, made = np.random.default_rng(seed), 0
    while True:
        epoch = list(batches(conversations, BATCH_TOKENS))
        for i in rng.permutation(len(epoch)):
            if made == steps:
                return
            made += 1
            yield epoch[i]


def recover(
    folder: Path,
    pair: Pair,
    corpus: Path,
    dev: Path,
    output: Path,
    steps: int = 100,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tune the checkpoint in ``folder`` and write the weights with the lowest dev loss to ``output``.

    Returns:
        what is added to ``slimmoe.json``: corpus, steps, dev losses before and after (nats per response token).

    Raises:
        RequestError: unreadable corpus or folder, or ``output`` holds something already.
        WorkError: the loss is not a number.
    """
    started = time.perf_counter()
    checkpoint = Checkpoint(folder)
    if output.exists() and any(output.iterdir()):
        raise RequestError(
            f"{output} exists already and is kept as it is.", next_command=f"rm -r {output}   (or another -o)"
        )
    require_space(output, sum(path.stat().st_size for path in folder.iterdir()))
    train = read_conversations(folder, read_segments(corpus, pair), pair)
    held_out = read_conversations(folder, read_segments(dev, pair), pair)
    device, _ = choose_device()
    model = load_model(folder, device, torch.float32)
    first = best = mean_loss(model, held_out, device)
    best_step, best_weights = 0, {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    every = max(1, steps // CHECKS)
    for step, batch in enumerate(tqdm(_steps(train, steps, seed), "recover", total=steps, disable=quiet or None), 1):
        rising, falling = step / (WARM_UP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps)
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, rising) * falling
        loss, tokens = response_loss(model, batch.to(device))
        if not torch.isfinite(loss):
            raise WorkError(f"The loss is not a number at step {step}; {folder} may hold damaged weights.")
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % every == 0 or step == steps:
            now = mean_loss(model, held_out, device)
            if now < best:
                best, best_step = now, step
                best_weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.load_state_dict(best_weights, strict=False)
    about = {
        "corpus": str(corpus),
        "segments": len(train),
        "steps": steps,
        "best_step": best_step,
        "dev": str(dev),
        "dev_loss_before": round(first, 4),
        "dev_loss_after": round(best, 4),
        "seconds": round(time.perf_counter() - started, 1),
    }
    with new_folder(output) as temporary:
        dtype = getattr(torch, str(checkpoint.config.get("dtype", checkpoint.config.get("torch_dtype", "bfloat16"))))
        model.to(dtype).save_pretrained(temporary, max_shard_size="45MB")
        for path in folder.iterdir():
            weights = path.suffix == ".safetensors" or path.name == "model.safetensors.index.json"
            if path.is_file() and not weights and not (temporary / path.name).exists():
                shutil.copyfile(path, temporary / path.name)
        plan = temporary / "slimmoe.json"
        known = json.loads(plan.read_text(encoding="utf-8")) if plan.exists() else {}
        plan.write_text(json.dumps(known | {"recovery": about}, indent=1) + "\n", encoding="utf-8")
    return about
