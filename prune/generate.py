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
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate, turn_end_ids
from runtime.text.special_tokens import encode_all, special_of
from runtime.text.thinking import without_thoughts
from runtime.translate.segments import Translation, output_limit

BATCH = 64


def generate(
    folder: Path,
    pair: Pair,
    segments: list[str],
    device: torch.device,
    batch: int = BATCH,
    prompt: PromptTemplate | None = None,
) -> Iterator[Translation]:
    """Translations in the order of ``segments``, ``batch`` at a time; each may take ``output_limit`` of its own prompt.

    Raises:
        RequestError: an unreadable model.
        WorkError: damaged weights.
    """
    checkpoint = Checkpoint(folder)
    model: Any = load_model(folder, device, choose_dtype(device, checkpoint)[0])
    tokenizer, template = read_tokenizer(folder), ChatTemplate.from_folder(folder, prompt)
    special = special_of(tokenizer)

    def encode(texts: list[str]) -> list[list[int]]:
        return [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]

    ends = _ends(model, tokenizer, template)
    for start in range(0, len(segments), batch):
        here = segments[start : start + batch]
        prompts = encode_all([template.prompt(pair, text) for text in here], encode, special)
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(each)) + each for each in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=device)
        limits = [output_limit(len(each)) for each in prompts]
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=max(limits), do_sample=False, num_beams=1,
                eos_token_id=sorted(ends), pad_token_id=min(ends),
            )[:, longest:]  # fmt: skip
        for text, asked, row, limit in zip(here, prompts, written.tolist(), limits, strict=True):
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            tokens = row[: min(end, limit)]
            finished = end < min(len(row), limit + 1)
            shown = without_thoughts(tokenizer.decode(tokens, skip_special_tokens=False), text)
            told = (special.sub("", shown) if special else shown).strip()
            yield Translation(text, told, Generation(tuple(tokens), told, finished, len(asked), 0.0, 0.0))


def _ends(model: Any, tokenizer: Tokenizer, template: ChatTemplate) -> set[int]:
    """Ids that end a turn: the generation config's, and the template's."""
    told = model.generation_config.eos_token_id
    return {*(told if isinstance(told, list) else [] if told is None else [told]), *turn_end_ids(template, tokenizer)}
