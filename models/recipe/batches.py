"""An endless, resumable stream of batches: kinds of text by weight, rows of like length together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Percent of the tokens. 70 are translation, of them 22 English to German, the pair of the project's examples;
# the rest is text in one language and source code, so that there are experts that translation can do without.
SHARES = {
    "en-de": 22.0, "de-en": 10.0, "en-fr": 3.5, "fr-en": 2.2, "en-es": 3.4, "es-en": 2.2, "en-it": 3.4, "it-en": 2.2,
    "en-pt": 3.3, "pt-en": 2.0, "en-nl": 3.0, "nl-en": 2.0, "en-pl": 3.2, "pl-en": 2.0, "en-ru": 3.6, "ru-en": 2.0,
    "mono-en": 3.0, "mono-de": 2.0, "mono-fr": 1.5, "mono-es": 1.4, "mono-it": 1.5, "mono-pt": 1.3, "mono-nl": 1.3,
    "mono-pl": 1.4, "mono-ru": 1.6,
    "code": 15.0,
}  # fmt: skip
POOL = 12_288  # rows drawn at a time and sorted by length
PROMPT_SHARE = 0.25  # of the prompt's tokens are predicted too: the source side is text of its language as well


class Kind:
    """Rows of one kind of text, gone through in a new random order each time."""

    def __init__(self, path: Path, rng: np.random.Generator) -> None:
        data = np.load(path)
        self.tokens, self.starts, self.prompt = data["tokens"], data["starts"], data["prompt"]
        self.mean_length = len(self.tokens) / len(self.prompt)
        self._rng, self._order, self._next = rng, np.empty(0, dtype=np.int64), 0

    def take(self, count: int) -> list[tuple[np.ndarray, int]]:
        """The next ``count`` rows as (token ids, prompt length)."""
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
    kinds = {name: Kind(folder / f"{name}.npz", rng) for name in SHARES}
    weights = np.array([share / kinds[name].mean_length for name, share in SHARES.items()])
    while True:
        counts = rng.multinomial(POOL, weights / weights.sum())
        pool = [row for name, count in zip(SHARES, counts) for row in kinds[name].take(count)]
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
