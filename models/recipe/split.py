"""Hold out whole documents, the same ones in every language, and keep near-duplicates of them out of training."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from models.recipe.clean import MARKER, is_sentence, normalise
from models.recipe.extract import Row

# Share of documents held out of each source (per mille, for dev and for test alike), and the most test
# sentences a language takes from it. A source that is absent here is used for training only.
HELD_OUT = {
    "libreoffice": (15, 150),
    "descriptions": (25, 150),
    "linuxcnc": (30, 50),
    "dpkg": (30, 20),
    "installation-guide": (60, 40),
    "util-linux": (30, 20),
    "aptitude": (40, 20),
    "gettext": (40, 100),
    "dictionary": (10, 100),
}
UNSEEN = ("debian-edu-doc", "debian-handbook")  # never trained on
# Fingerprints of the segments that the first training's scores were measured on: they are held out first again, so
# that scores stay comparable while sources and languages are added.
PINNED = frozenset((Path(__file__).parent / "pinned.txt").read_text().split())


def fingerprint(row: Row) -> str:
    """Eight hexadecimal digits that stand for the row's two sides."""
    return hashlib.blake2b(f"{row.language}\t{row.english}\t{row.other}".encode(), digest_size=4).hexdigest()


def _order(row: Row) -> tuple[bool, bytes]:
    """Pinned rows first, then by English, so that the languages hold out the same sentences where they have them."""
    return fingerprint(row) not in PINNED, hashlib.blake2b(row.english.encode(), digest_size=8).digest()


def _bucket(key: str, size: int = 1000) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % size


def document_split(row: Row) -> str:
    """``train``, ``dev``, ``test`` or ``unseen``: a function of the document's name alone, so that it holds in all languages."""
    if row.source in UNSEEN:
        return "unseen"
    share = HELD_OUT.get(row.source, (0, 0))[0]
    bucket = _bucket(f"{row.source}/{row.document}")
    return "test" if bucket < share else "dev" if bucket < 2 * share else "train"


def _grams(words: list[str], size: int = 4) -> set[int]:
    return {hash(tuple(words[i : i + size])) for i in range(len(words) - size + 1)}


class NearDuplicates:
    """Whether a side of a row equals a held-out side, or shares half of the held-out side's word 4-grams.

    English is compared with the held-out English of all languages, since the corpora are multi-parallel.
    """

    def __init__(self) -> None:
        self._exact: set[tuple[str, str]] = set()
        self._where: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    @staticmethod
    def _sides(row: Row) -> list[tuple[str, str]]:
        english, other = (normalise(MARKER.sub(" ", side)) for side in (row.english, row.other))
        return [("en", english), (row.language, other)]

    def add(self, row: Row) -> None:
        for side in self._sides(row):
            if side in self._exact:
                continue
            self._exact.add(side)
            grams = _grams(side[1].split())
            for gram in grams:
                self._where[side[0], gram].append(len(self._sizes))
            self._sizes.append(len(grams))

    def __contains__(self, row: Row) -> bool:
        for language, text in self._sides(row):
            if (language, text) in self._exact:
                return True
            grams = _grams(text.split())
            shared = Counter(held for gram in grams for held in self._where.get((language, gram), ()))
            if any(count >= 0.5 * min(len(grams), self._sizes[held]) for held, count in shared.items()):
                return True
        return False


def split(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by split. ``train`` holds at most two variants of a side; the others hold full sentences, unique ones."""
    parts: dict[str, list[Row]] = {"train": [], "dev": [], "test": [], "unseen": []}
    for row in rows:
        parts[document_split(row)].append(row)
    held_out = NearDuplicates()
    for name in ("test", "dev", "unseen"):
        candidates = [
            row
            for row in parts[name]
            if is_sentence(row.english) and is_sentence(row.other) and not MARKER.search(row.english)
        ]
        candidates.sort(key=_order)
        taken: Counter[tuple[str, str]] = Counter()
        chosen: list[Row] = []
        own = {language: NearDuplicates() for language in {row.language for row in candidates}}
        for row in candidates:
            quota = HELD_OUT.get(row.source, (0, 300))[1]
            if taken[row.language, row.source] < quota and row not in own[row.language]:
                taken[row.language, row.source] += 1
                own[row.language].add(row)
                chosen.append(row)
        for row in chosen:
            held_out.add(row)
        parts[name] = sorted(chosen)
    variants: Counter[tuple[str, str, str]] = Counter()
    train = []
    for row in parts["train"]:
        sides = [(row.language, side, normalise(text)) for side, text in (("en", row.english), ("xx", row.other))]
        if all(variants[side] < 2 for side in sides) and row not in held_out:
            variants.update(sides)
            train.append(row)
    parts["train"] = train
    return parts
