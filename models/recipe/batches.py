"""An endless, resumable stream of batches: kinds of text by weight, rows of like length together."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


class Row(NamedTuple):
    """One conversation or piece of text; ``kind`` is the place of its kind in SHARES."""

    ids: np.ndarray
    prompt: int
    kind: int


class Batch(NamedTuple):
    """``tokens`` [B, T]; of each of the N places of the flat size its next id, loss weight, whether a token is there, kind."""

    tokens: Tensor
    labels: Tensor
    weights: Tensor
    real: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(part.to(device) for part in self))


def _batch(rows: list[Row], length: int, size: int, rng: np.random.Generator) -> Batch:
    tokens, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
    real, kinds = np.zeros((len(rows), length), bool), np.zeros((len(rows), length), np.int64)
    for i, (ids, prompt, kind) in enumerate(rows):
        tokens[i, : len(ids)] = ids
        real[i, : len(ids)] = True
        kinds[i] = kind
        weights[i, : len(ids) - 1] = 1.0
        if prompt > 1:
            weights[i, : prompt - 1] = rng.random(prompt - 1) < PROMPT_SHARE
    labels = np.zeros_like(tokens)
    labels[:, :-1] = tokens[:, 1:]
    pad = (0, size - tokens.size)
    flat = (np.pad(array.reshape(-1), pad) for array in (labels, weights, real, kinds))
    return Batch(torch.from_numpy(tokens), *map(torch.from_numpy, flat))


def batches(folder: Path, size: int, seed: int) -> Iterator[Batch]:
    """Batches of at most ``size`` tokens, padding included."""
    rng = np.random.default_rng(seed)
    kinds = {name: Kind(folder / f"{name}.npz", rng) for name in SHARES}
    weights = np.array([share / kinds[name].mean_length for name, share in SHARES.items()])
    while True:
        counts = rng.multinomial(POOL, weights / weights.sum())
        pool = [
            Row(*row, number)
            for number, (name, count) in enumerate(zip(SHARES, counts))
            for row in kinds[name].take(count)
        ]
        pool.sort(key=lambda row: len(row.ids))
        made = []
        while pool:
            length = -(-len(pool[-1].ids) // 8) * 8
            rows = pool[-(size // length) :]
            del pool[-(size // length) :]
            made.append((rows, length))
        for i in rng.permutation(len(made)):
            rows, length = made[i]
            yield _batch(rows, length, size, rng)
