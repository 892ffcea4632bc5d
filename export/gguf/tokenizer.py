"""Which of llama.cpp's pre-tokenisations a tokenizer.json asks for, and whether both really give the same token ids."""

import ast
import contextlib
import ctypes
import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from export.gguf.pre_tokenizers import GPT2, NAMES, PRE_TOKENIZERS, PUNCTUATION, PreTokenizer
from prune.tokenizer import SENTENCEPIECE, read_tokenizer
from runtime import llama_paths
from runtime.engines import llama_library
from runtime.errors import RequestError, WorkError
from runtime.formats.model_folder import TOKENIZER, own_file, read_own_object
from runtime.processes import ends_with_us

# What tells pre-tokenisations apart, whatever the pair: contractions, digits, runs of spaces, scripts, emoji.
SAMPLE = (
    "I'm sure we'LL see; they've said it's 'quoted' and \"doubly so\".",
    "On 12/03/2024 it cost 1234567.89 EUR (3 33 333 3333 33333), or 50% of £9.",
    "  two  spaces,\ttab,\n\nblank line\r\nand    more \n  indented\n",
    "snake_case camelCase HTTPServer x=a+b; if(x!=y){return [1,2];} // #~^`|",
    "Größe, naïve, œuvre, çeşit, Ελληνικά, Привет мир, 123ألف مرحبا, हिन्दी में, 你好世界 2024年, こんにちは, 한국어 문장",
    "\u2026 \u2014 \u201cquotes\u201d \u00abguillemets\u00bb !? ... ---- \U0001f600\U0001f1e9\U0001f1ea \u00bd \u2167",
)


@dataclass(frozen=True)
class Agreement:
    """Of so many texts, so many whose token ids differ, and one of those."""

    texts: int
    different: int
    example: str = ""


def _split_of(step: dict[str, Any]) -> list[str] | None:
    """The regular expressions that one step of a pre_tokenizer splits by; None where it is no step that we know."""
    kind = step.get("type")
    if kind == "Sequence":
        found = [_split_of(each) for each in step.get("pretokenizers", [])]
        return None if None in found else [split for splits in found for split in splits or []]
    if kind == "ByteLevel":
        return None if step.get("add_prefix_space") else [GPT2] if step.get("use_regex", True) else []
    if kind == "Digits":
        return [r"\p{N}" if step.get("individual_digits") else r"\p{N}+"]
    if kind == "Punctuation" and step.get("behavior") == "Contiguous":
        return [PUNCTUATION]
    regex = (step.get("pattern") or {}).get("Regex")
    # to keep each match, or to remove what lies between matches: these patterns leave nothing between
    if (
        kind == "Split"
        and regex
        and (step.get("behavior"), bool(step.get("invert"))) in (("Isolated", False), ("Removed", True))
    ):
        return [regex.replace("\r", r"\r").replace("\n", r"\n")]
    return None


def _normalizer_of(tokenizer: dict[str, Any]) -> str | None:
    """``NFC``, None where nothing is changed, ``other`` for what llama.cpp cannot do."""
    steps = tokenizer.get("normalizer") or {}
    steps = steps.get("normalizers", []) if steps.get("type") == "Sequence" else [steps] if steps else []
    kinds = {step.get("type") for step in steps}
    return None if not kinds else "NFC" if kinds == {"NFC"} else "other"


def recognise(folder: Path) -> str | None:
    """llama.cpp's name of the pre-tokenisation that a folder's tokenizer.json describes; None where it is none of them.

    Of names that split alike, the one that agrees in most of the rest.
    """
    tokenizer = read_own_object(folder, TOKENIZER)
    if not tokenizer:
        return None
    model, normalizer = tokenizer["model"], _normalizer_of(tokenizer)
    step = tokenizer.get("pre_tokenizer") or {}
    splits = _split_of(step)
    byte_level = "ByteLevel" in [each.get("type") for each in [step, *step.get("pretokenizers", [])]]
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("dropout") or not byte_level:
        return None
    if splits is None or normalizer == "other":
        return None
    settings = read_own_object(folder, "tokenizer_config.json")
    merges, cleans = not model.get("ignore_merges"), bool(settings.get("clean_up_tokenization_spaces"))

    def misfits(known: PreTokenizer) -> tuple[bool, ...]:
        return known.merges != merges, known.normalizer != normalizer, known.cleans != cleans

    alike = [known for known in PRE_TOKENIZERS if known.splits == tuple(splits)]
    return min(alike, key=misfits).name if alike else None


def require_known(folder: Path) -> None:
    """Refuse, from the tokenizer's files alone, what llama.cpp's converter will not know.

    It knows vocabularies by a hash of the ids of one sample text (``get_vocab_base_pre`` in conversion/base.py).

    Raises:
        RequestError: why the tokenizer has no place in a GGUF file.
        WorkError: tokenizer.json is damaged.
    """
    path = own_file(folder, TOKENIZER)
    if path is None:
        if own_file(folder, SENTENCEPIECE) is None:
            raise RequestError(f"{folder} has neither a {TOKENIZER} nor a {SENTENCEPIECE}.")
        return
    tokenizer = read_tokenizer(folder)
    model = read_own_object(folder, TOKENIZER)["model"]
    if is_sentencepiece(model) or own_file(folder, SENTENCEPIECE) or recognise(folder):
        return
    if model.get("type") != "BPE":
        raise RequestError(
            f"The tokenizer of {folder} is of the kind {model.get('type')}, which llama.cpp does not have."
        )
    code = llama_paths.HOME / "source" / "conversion" / "base.py"
    if not code.is_file():  # not built yet: the converter will tell
        return
    source = code.read_text(encoding="utf-8")
    if sample := re.search(r"^ *chktxt = ('.*')$", source, re.MULTILINE):
        text = ast.literal_eval(sample[1])
        hashes = (hashlib.sha256(ids.encode()).hexdigest() for ids in _sample_ids(tokenizer, folder, text))
        if not any(each in source for each in hashes):
            raise unknown_tokenizer(folder)


def _sample_ids(tokenizer: Tokenizer, folder: Path, text: str) -> Iterator[str]:
    """Ids of a text as Python prints them: by the file alone, and by transformers, which changes some tokenizers."""
    yield str(tokenizer.encode(text).ids)
    code = (
        "import sys; from transformers import AutoTokenizer; "
        "print(AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=False).encode(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(folder.absolute()), text]
    done = subprocess.run(
        command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, **ends_with_us()
    )
    yield (done.stdout.strip().splitlines() or [""])[-1]


def is_sentencepiece(model: dict[str, Any]) -> bool:
    """Whether the model of a tokenizer.json is one of SentencePiece's that llama.cpp has: BPE that falls back to bytes."""
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def unknown_tokenizer(folder: Path) -> RequestError:
    return RequestError(
        f"The tokenizer of {folder} is unknown to llama.cpp, and it splits text in none of the ways that slimmoe can tell. "
        "If you know llama.cpp's name of its way, give it with --pre; token ids are then compared.",
        next_command=f"slimmoe gguf {folder} --pre NAME -o FILE.gguf",
    )


def require_name(name: str) -> None:
    """Refuse what is not one of llama.cpp's names.

    Raises:
        RequestError: it is not.
    """
    if name not in NAMES:
        raise RequestError(
            f"llama.cpp has no pre-tokenisation {name!r}; it knows {', '.join(sorted(NAMES))}.",
            next_command="slimmoe gguf DIR --pre qwen2 -o FILE.gguf",
        )


@contextlib.contextmanager
def _vocabulary(path: Path) -> Iterator[tuple[Any, Any]]:
    """llama.cpp's library and the vocabulary of a GGUF file, loaded without the weights."""
    library = llama_library.library()
    params = library.llama_model_default_params()
    params.vocab_only = True
    llama_library.use_devices(params)
    model = library.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise WorkError("llama.cpp cannot load the vocabulary that its converter wrote.")
    try:
        yield library, library.llama_model_get_vocab(model)
    finally:
        library.llama_model_free(model)


def adds_bos(path: Path) -> bool:
    """Whether programs on llama.cpp put the beginning-of-sequence token before every prompt by themselves."""
    with _vocabulary(path) as (library, vocabulary):
        return bool(library.llama_vocab_get_add_bos(vocabulary))


def compare(path: Path, folder: Path, texts: Iterable[str]) -> Agreement:
    """Token ids of llama.cpp with the GGUF file's vocabulary, against those of the folder's own tokenizer.

    Text is composed (NFC) before: many tokenizers do that, llama.cpp never does.

    Raises:
        WorkError: llama.cpp cannot load the file.
    """
    tokenizer = read_tokenizer(folder)
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    expected = [encoding.ids for encoding in tokenizer.encode_batch(composed, add_special_tokens=False)]
    different, example = 0, ""
    with _vocabulary(path) as (library, vocabulary):
        for text, ids in zip(composed, expected, strict=True):
            data = text.encode()
            buffer = (ctypes.c_int32 * (len(data) + 8))()
            count = library.llama_tokenize(vocabulary, data, len(data), buffer, len(buffer), False, True)
            if buffer[: max(count, 0)] != ids:
                different, example = different + 1, example or text
    return Agreement(len(composed), different, example)
