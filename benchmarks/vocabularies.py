"""Vocabularies of published sizes, cut for a pair: any text is still encoded, and llama.cpp gives the same ids.

    python -m benchmarks.vocabularies TEXT ... --corpus WORK/corpus/en-de.train.tsv [--kind qwen3_moe ...]

TEXT are files with lines in many scripts; Django's translations are (``--django FOLDER``, unpacked from PyPI). A tokenizer of
each kind is learnt from them: the pattern by which that family splits text, as many tokens, the same model. It stands in a
tiny model of the family, whose tokens are cut to what the corpus uses. Then ``--lines`` lines, as many of each script as there
are, go through both tokenizers and through llama.cpp, of the GGUF file of the cut checkpoint and of the cut GGUF file.

One row for each kind: tokens before and after, lines by script, those that do not come back as they were, those that have
other ids in llama.cpp, those that are in kept tokens alone and have the same ids as before, and those that should and have not.
"""

import argparse
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from benchmarks import work_folder
from export.gguf import export_gguf
from export.gguf.pre_tokenizers import PRE_TOKENIZERS
from export.gguf.tokenizer import compare
from prune.checkpoint import Checkpoint
from prune.rewrite import prune
from prune.tokenizer import read_tokenizer, write_tokenizer
from prune.vocabulary.choose import choose_vocabulary
from prune.vocabulary.selection import Amount
from runtime.text.pairs import Pair
from tests.published import gemma
from tests.tiny import DEFAULT, train_sentencepiece, write_tiny_checkpoint

PAIR = Pair("en", "de")
# How each family splits text (by llama.cpp's name of it), and how many tokens the published tokenizer has.
BYTE_LEVEL = {
    "qwen3_moe": ("qwen2", 151_936), "gpt_oss": ("gpt-4o", 201_088), "hy_v3": ("hunyuan", 120_832),
    "olmoe": ("olmo", 50_304), "granitemoe": ("starcoder", 49_152),
}  # fmt: skip
SENTENCEPIECE = {"mixtral": 32_000, "gemma4_text": 262_144}
FEWEST = 50  # lines of a script that counts as one
_PO = re.compile(r'^msgstr(?:\[\d+\])? "(.+)"$', re.MULTILINE)


def script_of(line: str) -> str:
    """The script that most of a line's letters are in, by the first word of their names; empty where it has none."""
    letters = Counter(unicodedata.name(each, "").partition(" ")[0] for each in line if each.isalpha())
    return letters.most_common(1)[0][0] if letters else ""


def django_lines(folder: Path) -> Iterator[str]:
    """What Django says in all its languages."""
    for path in sorted(folder.rglob("*.po")):
        for text in _PO.findall(path.read_text(encoding="utf-8")):
            yield text.replace('\\"', '"').replace("\\n", "\n")


def by_script(lines: Iterable[str], count: int) -> dict[str, list[str]]:
    """``count`` lines in all, as many of each script as there are."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in dict.fromkeys(lines):
        if script := script_of(line):
            found[script].append(line)
    found = {script: each for script, each in found.items() if len(each) >= FEWEST}
    chance, chosen, left = random.Random(0), dict[str, list[str]](), count
    for number, (script, each) in enumerate(sorted(found.items(), key=lambda item: len(item[1]))):
        share = min(len(each), left // (len(found) - number))
        chosen[script], left = chance.sample(each, share), left - share
    return chosen


def byte_level(folder: Path, name: str, tokens: int, text: list[str]) -> None:
    """Learn a byte-level BPE of ``tokens`` tokens, split as ``name`` says, with the default model's special tokens."""
    known = next(each for each in PRE_TOKENIZERS if each.name == name)
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC() if known.normalizer == "NFC" else None
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in known.splits]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [each["content"] for each in json.loads((DEFAULT / "tokenizer.json").read_text())["added_tokens"]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, show_progress=False, special_tokens=special, initial_alphabet=alphabet, max_token_length=24
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def write(kind: str, folder: Path, text: list[str]) -> Path:
    """A tiny model of a family with a tokenizer of its published size."""
    if kind in BYTE_LEVEL:
        name, tokens = BYTE_LEVEL[kind]
        model = write_tiny_checkpoint(folder, kind, vocab_size=tokens)
        byte_level(model, name, tokens, text)
        return model
    tokens = SENTENCEPIECE[kind]
    model = write_tiny_checkpoint(folder, kind, vocab_size=tokens)
    if kind == "mixtral":
        train_sentencepiece(model, text, tokens)
        write_tokenizer(model, model / "tokenizer.json")
        return model
    gemma.write_tokenizer(model, text, tokens)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(gemma.with_tokens(config, tokens)))
    return model


def measure(kind: str, text: list[str], lines: dict[str, list[str]], corpus: Path, amount: str) -> dict[str, Any]:
    """The row of a kind."""
    with work_folder(None) as work:
        whole = write(kind, work / "whole", text)
        chosen = choose_vocabulary(Checkpoint(whole), Amount.parse(amount), PAIR, corpus)
        small = prune(whole, None, work / "cut", vocabulary=chosen)
        # Said, not left to be recognised: llama.cpp's gpt-4o splits scripts with combining marks otherwise, which is told below.
        pre = BYTE_LEVEL[kind][0] if kind in BYTE_LEVEL else None
        files = [
            export_gguf(folder, str(work / f"{name}.gguf"), "BF16", pre=pre)
            for name, folder in (("whole", whole), ("cut", small))
        ]
        file = prune(files[0], None, work / "cut-file.gguf", vocabulary=chosen)
        before, after = read_tokenizer(whole), read_tokenizer(small)
        numbers = {old: new for new, old in enumerate(chosen.keep)}
        everything = [line for each in lines.values() for line in each]
        lost = changed = same = 0
        for line in everything:
            old, new = (each.encode(line, add_special_tokens=False).ids for each in (before, after))
            lost += after.decode(new) != before.decode(old)
            if {*old} <= numbers.keys():
                mapped = new == [numbers[each] for each in old]
                same, changed = same + mapped, changed + (not mapped)
        return {
            "kind": kind, "learnt": before.get_vocab_size(), "before": chosen.before, "after": len(chosen.keep),
            "lines": {script: len(each) for script, each in lines.items()}, "lost": lost, "same_ids": same,
            "other_ids": changed, "bytes": [each.stat().st_size for each in (files[0], file)],
            "llama_cpp_differs": {
                name: compare(each, folder, everything).different
                for name, each, folder in (("whole", files[0], whole), ("cut", files[1], small), ("cut file", file, small))
            },
        }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="*")
    parser.add_argument("--django", type=Path, help="a folder with .po files")
    parser.add_argument("--corpus", type=Path, required=True, help="of the pair en-de")
    parser.add_argument("--vocabulary", default="coverage=0.9999")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--kind", action="append", choices=[*BYTE_LEVEL, *SENTENCEPIECE])
    given = parser.parse_args()
    scripts = [*django_lines(given.django)] if given.django else []
    read = [line for path in given.text for line in path.read_text(encoding="utf-8").splitlines()]
    tried = by_script(scripts or read, given.lines)
    for each in given.kind or [*BYTE_LEVEL, *SENTENCEPIECE]:
        print(json.dumps(measure(each, [*read, *scripts], tried, given.corpus, given.vocabulary)), flush=True)
