"""What is trained on, by part: ``corpus`` (software), ``everyday`` (given by folder, and what a teacher translated),
``long`` (neighbouring sentences joined) and ``marked`` (with tags and placeholders)."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from models.recipe.clean import MARKER
from models.recipe.overlap import TestText
from runtime.text.corpus import Segments

JOINED = (2, 6)  # sentences of a row of the long part
PASSAGE = 4_000  # characters of text in one language that are joined before they are cut into rows
Rows = list[list[str]]  # English, other side, source, document


class TrainingText(NamedTuple):
    """Text of English and another language: pairs (English, other) by part, text in one language, rows left out."""

    parts: dict[str, Segments]
    passages: dict[str, list[str]]
    in_test_sets: int


def passages(rows: Rows, column: int) -> Iterator[str]:
    """Neighbouring sentences of a document joined; columns are English, other side, source, document."""
    for _, neighbours in itertools.groupby(rows, key=lambda row: row[2:4]):
        passage = ""
        for row in neighbours:
            if len(passage) + len(row[column]) > PASSAGE:
                yield passage
                passage = ""
            passage += (" " if passage else "") + row[column]
        yield passage


def joined(rows: Rows, rng: random.Random) -> Segments:
    """Neighbouring sentences of a document joined on both sides, a random number of JOINED at a time."""
    long = []
    for _, neighbours in itertools.groupby(rows, key=lambda row: row[2:4]):
        sentences = [row for row in neighbours if all(side[-1] in ".!?" for side in row[:2])]
        while len(sentences) >= JOINED[0]:
            count = rng.randint(*JOINED)
            long.append((" ".join(row[0] for row in sentences[:count]), " ".join(row[1] for row in sentences[:count])))
            sentences = sentences[count:]
    return long


def read_rows(path: Path) -> Rows:
    """The rows of one of the corpus's files; none where there is no such file."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def training_text(corpus: Path, language: str, held_out: TestText, seed: int = 7) -> TrainingText:
    """All text of ``language`` that repeats no test segment."""
    left_out = 0

    def read(kind: str) -> Rows:
        nonlocal left_out
        rows = read_rows(corpus / f"en-{language}.{kind}.tsv")
        clear = [row for row in rows if not held_out.overlaps("en", row[0]) and not held_out.overlaps(language, row[1])]
        left_out += len(rows) - len(clear)
        return clear

    rng = random.Random(seed)
    packages, everyday = read("train"), read("everyday") + read("taught")
    marked = [row for row in packages if MARKER.search(row[0])]
    software = [row for row in packages if not MARKER.search(row[0])]
    pairs = {"corpus": software, "everyday": everyday, "marked": marked}
    parts: dict[str, Segments] = {part: [(row[0], row[1]) for row in rows] for part, rows in pairs.items()}
    parts["long"] = joined(software, rng) + joined(everyday, rng)
    mono = {side: [*passages(software + everyday, side != "en")] for side in ("en", language)}
    return TrainingText(parts, mono, left_out)
