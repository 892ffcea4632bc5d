"""Tokenise the corpus once: every direction's conversations as flat arrays, ready to be batched without delay.

``python -m models.recipe.prepare WORK`` trains the tokenizer first where there is none (about 2 minutes in all).
"""

import argparse
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from models.recipe.clean import LANGUAGES
from models.recipe.tokenizer import train_tokenizer
from runtime.corpus import Segments, read_tsv
from runtime.pairs import Pair
from runtime.prompts import ChatTemplate

DIRECTIONS = [pair for language in LANGUAGES for pair in (Pair("en", language), Pair(language, "en"))]
LONGEST = 128  # tokens of a conversation; longer ones (about 1 % of the rows) are left out


def _store(path: Path, prompts: list[list[int]], completions: list[list[int]]) -> int:
    """Write token ids (uint16), where each conversation starts, and how long its prompt is; returns the tokens kept."""
    kept = [(p, c) for p, c in zip(prompts, completions, strict=True) if len(p) + len(c) <= LONGEST]
    tokens = np.fromiter((token for p, c in kept for token in (*p, *c)), dtype=np.uint16)
    starts = np.cumsum([0] + [len(p) + len(c) for p, c in kept]).astype(np.int64)
    np.savez(path, tokens=tokens, starts=starts, prompt=np.array([len(p) for p, _ in kept], dtype=np.int16))
    return len(tokens)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def oriented(segments: Segments, pair: Pair) -> Segments:
    """(source, target) for ``pair`` from (English, other)."""
    return segments if pair.source == "en" else [(other, english) for english, other in segments]


def prepare(corpus: Path, folder: Path, output: Path, seed: int = 7) -> dict[str, int]:
    """Write ``output/<direction>.npz`` for each direction and ``plain.npz`` for text alone; returns tokens by name."""
    tokenizer, template = Tokenizer.from_file(str(folder / "tokenizer.json")), ChatTemplate.from_folder(folder)
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    plain: list[str] = []
    for pair in DIRECTIONS:
        other = pair.target if pair.source == "en" else pair.source
        segments = oriented(read_tsv(corpus / f"en-{other}.train.tsv"), pair)
        long = [target for _, target in segments if len(target) > 60]
        plain += random.Random(seed).sample(long, min(20_000, len(long)))
        prompts = _encode(tokenizer, [template.prompt(pair, source) for source, _ in segments])
        completions = _encode(tokenizer, [template.completion(pair, source, target) for source, target in segments])
        counts[str(pair)] = _store(output / f"{pair}.npz", prompts, completions)
    texts = _encode(tokenizer, [text + template.eos_token for text in plain])
    counts["plain"] = _store(output / "plain.npz", [[] for _ in texts], texts)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="where models.recipe.corpus wrote")
    work: Path = parser.parse_args().work
    if not (work / "model" / "tokenizer.json").exists():
        train_tokenizer(work / "corpus", work / "model")
    print(prepare(work / "corpus", work / "model", work / "tokens"))
