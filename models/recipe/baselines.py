"""What a translation has to beat without knowing a word: the source as it is, and a translation memory."""

import zlib

import numpy as np

from runtime.text.corpus import Segments

GRAM = 4  # characters
BUCKETS = 1 << 20


def _grams(text: str) -> np.ndarray:
    """The distinct character 4-grams of a text as bucket numbers."""
    padded = f" {text.lower()} "
    found = [zlib.crc32(padded[i : i + GRAM].encode()) % BUCKETS for i in range(len(padded) - GRAM + 1)]
    return np.unique(np.array(found, dtype=np.int64))


class TranslationMemory:
    """Answers with the target of the stored segment whose source is most like the one asked for.

    Likeness is the cosine of binary vectors over character 4-grams, each weighted by its inverse document frequency
    log(N / n) (Spärck Jones 1972).
    """

    def __init__(self, memory: Segments) -> None:
        self._targets = [target for _, target in memory]
        grams = [_grams(source) for source, _ in memory]
        flat = np.concatenate(grams)
        rows = np.repeat(np.arange(len(grams), dtype=np.int32), [len(each) for each in grams])
        self._rows = rows[np.argsort(flat, kind="stable")]  # of each bucket's grams, one bucket after the other
        count = np.bincount(flat, minlength=BUCKETS)
        self._starts = np.concatenate(([0], np.cumsum(count)))
        self._weight = np.log(len(grams) / np.maximum(count, 1)) ** 2
        self._length = np.sqrt(np.bincount(rows, self._weight[flat], len(grams)))

    def __call__(self, source: str) -> str:
        """The target of the most similar source; the first one where several are."""
        shared = np.zeros(len(self._targets))
        for gram in _grams(source):
            shared[self._rows[self._starts[gram] : self._starts[gram + 1]]] += self._weight[gram]
        return self._targets[int(np.argmax(shared / np.maximum(self._length, 1e-9)))]
