"""Train the default model's tokenizer: byte-level BPE behind Qwen2's pre-tokenisation, which llama.cpp knows."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from models.recipe.clean import LANGUAGES
from runtime.text.corpus import read_tsv
from runtime.text.pairs import Pair
from runtime.text.prompts import instruction

VOCABULARY = 12_288
# The pattern of Qwen2's tokenizer.json. llama.cpp calls it "qwen2"; any other spelling would tokenise differently there.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ '<|user|>' + message['content'] }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def _texts(corpus: Path, lines_per_language: int, seed: int = 7) -> Iterator[str]:
    """English and other text in equal shares, code, and the instructions often enough to become whole tokens."""
    for language in LANGUAGES:
        files = [corpus / f"en-{language}.{kind}.tsv" for kind in ("train", "everyday", "taught")]
        pairs = [pair for path in files if path.exists() for pair in read_tsv(path)]
        random.Random(seed).shuffle(pairs)
        yield from itertools.chain.from_iterable(pairs[:lines_per_language])
        for pair in (Pair("en", language), Pair(language, "en")):
            yield from itertools.repeat(instruction(pair, ""), lines_per_language // 50)
    with open(corpus / "code.train.jsonl", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    random.Random(seed).shuffle(records)
    yield from (record["text"] for record in records[: lines_per_language // 20])


def train_tokenizer(corpus: Path, folder: Path, lines_per_language: int = 60_000) -> Tokenizer:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja`` into ``folder``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus, lines_per_language), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "bos_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE + "\n")
    return tokenizer
