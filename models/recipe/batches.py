"""An endless, resumable stream of batches: directions by weight, rows of like length together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Relative share of conversations. German, the pair of the project's examples, is trained most.
WEIGHTS = {
    "en-de": 24, "de-en": 13,
    "en-fr": 8, "fr-en": 5, "en-es": 7, "es-en": 5, "en-it": 7, "it-en": 5,
    "en-pt": 7, "pt-en": 4, "en-nl": 7, "nl-en": 4,
    "plain": 4,
}  # fmt: skip
POOL = 12_288  # conversations drawn at a time and sorted by length
PROMPT_SHARE = 0.25  # of the prompt's tokens are predicted too: the source side is text of its language as well


class Direction:
    """Conversations of one direction, gone through in a new random order each time."""

    def __init__(self, path: Path, rng: np.random.Generator) -> None:
        data = np.load(path)
        self.tokens, self.starts, self.prompt = data["tokens"].astype(np.int64), data["starts"], data["prompt"]
        self._rng, self._order, self._next = rng, np.empty(0, dtype=np.int64), 0

    def take(self, count: int) -> list[tuple[np.ndarray, int]]:
        """The next ``count`` conversations as (token ids, prompt length)."""
        taken = []
        while len(taken) < count:
            if self._next == len(self._order):
                self._order, self._next = self._rng.permutation(len(self.prompt)), 0
            row = self._order[self._next]
            self._next += 1
            taken.append((self.tokens[self.starts[row] : self.starts[row + 1]], int(self.prompt[row])))
        return taken


def _batch(rows: list[tuple[np.ndarray, int]], length: int, size: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """tokens [B, T], next ids [size], loss weights [size], real-token mask [size]."""
    tokens, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
    real = np.zeros((len(rows), length), bool)
    for i, (ids, prompt) in enumerate(rows):
        tokens[i, : len(ids)] = ids
        real[i, : len(ids)] = True
        weights[i, : len(ids) - 1] = 1.0
        if prompt > 1:
            weights[i, : prompt - 1] = rng.random(prompt - 1) < PROMPT_SHARE
    labels = np.zeros_like(tokens)
    labels[:, :-1] = tokens[:, 1:]
    pad = (0, size - tokens.size)
    flat = (np.pad(array.reshape(-1), pad) for array in (labels, weights, real))
    return torch.from_numpy(tokens), *map(torch.from_numpy, flat)


def batches(folder: Path, size: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches of at most ``size`` tokens, padding included; see ``_batch`` for their parts."""
    rng = np.random.default_rng(seed)
    directions = {name: Direction(folder / f"{name}.npz", rng) for name in WEIGHTS}
    shares = np.array([*WEIGHTS.values()], float)
    while True:
        counts = rng.multinomial(POOL, shares / shares.sum())
        pool = [row for name, count in zip(WEIGHTS, counts) for row in directions[name].take(count)]
        pool.sort(key=lambda row: len(row[0]))
        made = []
        while pool:
            length = -(-len(pool[-1][0]) // 8) * 8
            rows = pool[-(size // length) :]
            del pool[-(size // length) :]
            made.append((rows, length))
        for i in rng.permutation(len(made)):
            rows, length = made[i]
            yield _batch(rows, length, size, rng)
