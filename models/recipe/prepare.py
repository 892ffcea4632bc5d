"""Tokenise the corpus once: every kind of text as flat arrays, ready to be batched without delay.

``python -m models.recipe.prepare WORK`` trains the tokenizer first where there is none (about 20 minutes in all).
"""

import argparse
import itertools
import json
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from models.recipe.clean import LANGUAGES
from models.recipe.noise import roughen
from models.recipe.overlap import TestText, test_text
from models.recipe.parts import training_text
from models.recipe.tokenizer import train_tokenizer
from runtime.errors import RequestError
from runtime.text.corpus import Segments, read_tsv
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate

DIRECTIONS = [pair for language in LANGUAGES for pair in (Pair("en", language), Pair(language, "en"))]
LONGEST = 256  # tokens of a row; longer conversations are left out, longer texts are cut


def _store(path: Path, rows: list[list[int]], prompts: list[int]) -> int:
    """Write token ids (uint16), where each row starts, and how long its prompt is; returns the number of tokens."""
    tokens = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint16)
    starts = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    np.savez(path, tokens=tokens, starts=starts, prompt=np.array(prompts, dtype=np.int16))
    return len(tokens)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def conversations(path: Path, tokenizer: Tokenizer, template: ChatTemplate, pair: Pair, segments: Segments) -> int:
    """Store prompts and completions; the template is rendered once, for it puts every segment in as it is."""
    head, tail = template.prompt(pair, "\0").split("\0")
    end = template.completion(pair, "\0", "\0").removeprefix("\0")
    prompts = _encode(tokenizer, [head + source + tail for source, _ in segments])
    answers = _encode(tokenizer, [target + end for _, target in segments])
    kept = [(p, a) for p, a in zip(prompts, answers, strict=True) if len(p) + len(a) <= LONGEST]
    return _store(path, [p + a for p, a in kept], [len(p) for p, _ in kept])


def _cut(path: Path, tokenizer: Tokenizer, texts: list[str]) -> int:
    """Rows of at most LONGEST tokens, wherever they begin: text without a prompt."""
    encoded = _encode(tokenizer, texts)
    rows = [ids[start : start + LONGEST] for ids in encoded for start in range(0, len(ids), LONGEST)]
    rows = [row for row in rows if len(row) > 8]
    return _store(path, rows, [0] * len(rows))


def corpus_file(corpus: Path, pair: Pair, split: str) -> Path:
    """Where a split of ``pair``'s text is, which it shares with the other direction."""
    return corpus / f"en-{pair.target if pair.source == 'en' else pair.source}.{split}.tsv"


def corpus_segments(corpus: Path, pair: Pair, split: str) -> Segments:
    """A split of the corpus as (source, target) for ``pair``; files have (English, other).

    Raises:
        RequestError: the corpus is not built.
    """
    path = corpus_file(corpus, pair, split)
    if not path.exists():
        raise RequestError(
            f"{path} is not there: the corpus of the default model is not built.",
            next_command=f"python -m models.recipe.corpus {corpus.parent}   (the first step of make model)",
        )
    segments = read_tsv(path)
    return segments if pair.source == "en" else [(other, english) for english, other in segments]


def _language(corpus: Path, folder: Path, output: Path, held_out: TestText, language: str) -> dict[str, int]:
    """Write the files of one language; returns tokens by file."""
    tokenizer, template = Tokenizer.from_file(str(folder / "tokenizer.json")), ChatTemplate.from_folder(folder)
    text = training_text(corpus, language, held_out)
    counts = {f"rows left out, {language}": text.in_test_sets}
    for part, segments in text.parts.items():
        for pair in (Pair("en", language), Pair(language, "en")):
            ordered = segments if pair.source == "en" else [(other, english) for english, other in segments]
            rng = random.Random(7)
            rough = [roughen(*segment, rng) for segment in ordered]
            if rough:
                path = output / f"{pair}.{part}.npz"
                counts[f"{pair}.{part}"] = conversations(path, tokenizer, template, pair, rough)
    for side, texts in text.passages.items():
        if side == language or language == "de":  # English is that of the pair with the most text
            ended = [passage + template.eos_token for passage in texts]
            counts[f"mono-{side}"] = _cut(output / f"mono-{side}.npz", tokenizer, ended)
    return counts


def prepare(corpus: Path, folder: Path, output: Path, held_out: TestText, workers: int = 1) -> dict[str, int]:
    """Write ``output/<direction>.<part>.npz``, ``mono-<language>.npz`` and ``code.npz``; returns tokens by file."""
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_language, corpus, folder, output, held_out, language) for language in LANGUAGES]
        for job in jobs:
            counts |= job.result()
    tokenizer, template = Tokenizer.from_file(str(folder / "tokenizer.json")), ChatTemplate.from_folder(folder)
    with open(corpus / "code.train.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] + template.eos_token for line in file]
    counts["code"] = _cut(output / "code.npz", tokenizer, texts)
    (output / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="where models.recipe.corpus wrote")
    parser.add_argument("--held-out", type=Path, metavar="FOLDER", help="NAME.XX files of test sets")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    work: Path = chosen.work
    if not (work / "model" / "tokenizer.json").exists():
        train_tokenizer(work / "corpus", work / "model")
    print(prepare(work / "corpus", work / "model", work / "tokens", test_text(chosen.held_out), chosen.workers))
