"""Greedy translation by a checkpoint itself, in batches: for a GPU, where no file of another format is wanted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from prune.checkpoint import Checkpoint
from prune.device import choose_dtype
from prune.loading import load_model
from prune.tokenizer import read_tokenizer
from runtime.engines import Generation
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from runtime.translate.segments import Translation, output_limit

BATCH = 64


def generate(
    folder: Path, pair: Pair, segments: list[str], device: torch.device, batch: int = BATCH
) -> Iterator[Translation]:
    """Translations in the order of ``segments``, ``batch`` at a time; each may take ``output_limit`` of its own prompt.

    Raises:
        RequestError: an unreadable model.
        WorkError: damaged weights.
    """
    checkpoint = Checkpoint(folder)
    model: Any = load_model(folder, device, choose_dtype(device, checkpoint)[0])
    tokenizer, template = read_tokenizer(folder), ChatTemplate.from_folder(folder)
    ends = _ends(model, tokenizer, template)
    for start in range(0, len(segments), batch):
        here = segments[start : start + batch]
        prompts = [tokenizer.encode(template.prompt(pair, text), add_special_tokens=False).ids for text in here]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        limits = [output_limit(len(prompt)) for prompt in prompts]
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=max(limits), do_sample=False, num_beams=1,
                eos_token_id=sorted(ends), pad_token_id=min(ends),
            )[:, longest:]  # fmt: skip
        for text, prompt, row, limit in zip(here, prompts, written.tolist(), limits, strict=True):
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            tokens = row[: min(end, limit)]
            finished = end < min(len(row), limit + 1)
            told = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            yield Translation(text, told, Generation(tuple(tokens), told, finished, len(prompt), 0.0, 0.0))


def _ends(model: Any, tokenizer: Tokenizer, template: ChatTemplate) -> set[int]:
    """Ids that end a turn: the generation config's, and the template's end of sequence."""
    told = model.generation_config.eos_token_id
    ends = set(told if isinstance(told, list) else [] if told is None else [told])
    if (end := tokenizer.token_to_id(template.eos_token)) is not None:
        ends.add(end)
    return ends
