"""An endless, resumable stream of batches: kinds of text and their parts by weight, rows of like length together."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Percent of the tokens. 87 are translation, most of them of the pairs that have everyday text; the rest is text in one
# language and source code, so that there are experts that translation can do without.
SHARES = {
    "en-de": 17.0, "de-en": 11.0, "en-fr": 10.5, "fr-en": 7.5, "en-pt": 11.5, "pt-en": 8.5, "en-es": 2.7, "es-en": 1.8,
    "en-it": 2.7, "it-en": 1.8, "en-nl": 2.4, "nl-en": 1.8, "en-pl": 2.6, "pl-en": 1.8, "en-ru": 2.6, "ru-en": 1.8,
    "mono-en": 1.0, "mono-de": 1.0, "mono-fr": 0.8, "mono-es": 0.6, "mono-it": 0.6, "mono-pt": 0.8, "mono-nl": 0.6,
    "mono-pl": 0.8, "mono-ru": 0.8,
    "code": 5.0,
}  # fmt: skip
# Of a direction's tokens by part, where there is such a part; the others share what is missing.
PART_SHARES = {"corpus": 34.0, "everyday": 44.0, "long": 19.0, "marked": 3.0}
POOL = 12_288  # rows drawn at a time and sorted by length
PROMPT_SHARE = 0.25  # of the prompt's tokens are predicted too: the source side is text of its language as well


class Source:
    """Rows of one file, gone through in a new random order each time."""

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


def _sources(folder: Path, rng: np.random.Generator) -> list[tuple[int, Source, float]]:
    """The files in ``folder``: place of their kind in SHARES, rows, percent of the tokens."""
    found = []
    for kind, (name, share) in enumerate(SHARES.items()):
        parts = {part: folder / f"{name}.{part}.npz" for part in PART_SHARES}
        present = {part: path for part, path in parts.items() if path.exists()}
        whole = sum(PART_SHARES[part] for part in present)
        found += [(kind, Source(path, rng), share * PART_SHARES[part] / whole) for part, path in present.items()]
        if not present:
            found.append((kind, Source(folder / f"{name}.npz", rng), share))
    return found


def batches(folder: Path, size: int, seed: int) -> Iterator[Batch]:
    """Batches of at most ``size`` tokens, padding included."""
    rng = np.random.default_rng(seed)
    sources = _sources(folder, rng)
    weights = np.array([share / source.mean_length for _, source, share in sources])
    while True:
        counts = rng.multinomial(POOL, weights / weights.sum())
        pool = [Row(*row, kind) for (kind, source, _), count in zip(sources, counts) for row in source.take(count)]
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


def ahead(stream: Iterator[Batch], count: int = 8) -> Iterator[Batch]:
    """The same batches, made by a thread while earlier ones are computed on: a GPU does not wait for them."""
    made: queue.Queue[Batch] = queue.Queue(count)

    def make() -> None:
        for batch in stream:
            made.put(batch)

    threading.Thread(target=make, daemon=True).start()
    while True:
        yield made.get()
