"""Everyday text that is given by folder: ``python -m models.recipe.extra WORK --extra FOLDER --held-out TESTS``.

Reads ``FOLDER/en-XX.tsv.xz`` (English TAB other side), and writes ``WORK/corpus/en-XX.everyday.tsv`` in the corpus's
four columns. Without a folder the recipe goes on with what the packages have: software, for the most part.
"""

import argparse
import collections
import json
import lzma
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.recipe.clean import LANGUAGES, clean_text, is_translation
from models.recipe.overlap import TestText, test_text
from runtime.text.corpus import split_lines

TEMPLATE = 3  # first words of an English sentence that make it one of a template
LARGEST_TEMPLATE = 50  # "Tom is a ..." may not rule


def templates_capped(pairs: Iterable[tuple[str, str]], most: int = LARGEST_TEMPLATE) -> Iterator[tuple[str, str]]:
    """At most so many pairs whose English begins with the same three words, in the order given."""
    taken: collections.Counter[tuple[str, ...]] = collections.Counter()
    for english, other in pairs:
        start = tuple(english.lower().split()[:TEMPLATE])
        taken[start] += 1
        if taken[start] <= most:
            yield english, other


def read_extra(path: Path, language: str, held_out: TestText, seed: int = 7) -> tuple[list[tuple[str, str]], dict]:
    """The file's clean, varied pairs in random order, and how many there were at each step."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        lines = split_lines(file.read())
    counts = {"pairs": len(lines)}
    pairs = [(clean_text(a), clean_text(b)) for a, b in (line.split("\t")[:2] for line in lines)]
    pairs = [pair for pair in dict.fromkeys(pairs) if is_translation(*pair, language)]
    counts["clean"] = len(pairs)
    pairs = [(a, b) for a, b in pairs if not held_out.overlaps("en", a) and not held_out.overlaps(language, b)]
    counts["clear_of_test_sets"] = len(pairs)
    random.Random(seed).shuffle(pairs)
    pairs = list(templates_capped(pairs))
    counts["kept"] = len(pairs)
    return pairs, counts


def build(work: Path, folder: Path | None, held_out: Path | None) -> dict[str, dict[str, int]]:
    """Write the everyday part of the corpus; returns the counts by language."""
    told = "everyday text (folder with en-XX.tsv.xz, make model EXTRA=FOLDER)"
    if not folder:
        print(f"No {told}: the model will speak software only.", flush=True)
    if not held_out:
        print("No test sets but the project's own are kept out of training (make model HELD_OUT=FOLDER).", flush=True)
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    tests, counts = test_text(held_out), {}
    for language in LANGUAGES:
        source, target = (folder or work) / f"en-{language}.tsv.xz", work / "corpus" / f"en-{language}.everyday.tsv"
        if folder and source.exists():
            pairs, counts[language] = read_extra(source, language, tests)
            lines = (f"{a}\t{b}\t{folder.resolve().name}\t{i // 40}\n" for i, (a, b) in enumerate(pairs))
            target.write_text("".join(lines), encoding="utf-8")
    (work / "corpus" / "everyday.json").write_text(json.dumps(counts, indent=1) + "\n")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--extra", type=Path, metavar="FOLDER")
    parser.add_argument("--held-out", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    print(build(chosen.work, chosen.extra, chosen.held_out))
