"""The vocabulary of a GGUF file, where it is of a kind that can be cut: BPE on bytes, or SentencePiece's."""

from collections.abc import Iterable
from typing import Any

from gguf.constants import GGUFValueType, TokenType
from tokenizers.pre_tokenizers import ByteLevel

from prune.vocabulary.tokenizer_json import BYTE_LEVEL_SPACE, BYTES, SENTENCEPIECE_SPACE
from prune.vocabulary.vocabulary import Vocabulary
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile

MODEL, TOKENS, TYPES, SCORES, MERGES = (
    f"tokenizer.ggml.{name}" for name in ("model", "tokens", "token_type", "scores", "merges")
)
# As llama.cpp calls the kinds: BPE on bytes; SentencePiece's BPE, whose merges follow from the scores, and with a list of them.
_BYTE_LEVEL, _SCORED, _LISTED = "gpt2", "llama", "gemma4"
_ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)


def _list(file: GgufFile, key: str, kinds: tuple[GGUFValueType, ...], count: int | None = None) -> list[Any]:
    value = file.metadata.get(key)
    if value is None or value.count is None or value.type not in kinds or count not in (None, value.count):
        raise WorkError(f"{file.parts[0]} is damaged: {key} is no list with one entry for each token.")
    return file.get(key)


def merges_of(scores: dict[str, float]) -> list[tuple[str, str]]:
    """All pairs of tokens that make another, in the order of what they make: SentencePiece's merges, highest score first."""
    best_first = sorted(scores, key=lambda token: -scores[token])
    pairs = ((token[:i], token[i:]) for token in best_first for i in range(1, len(token)))
    return [pair for pair in pairs if {*pair} <= scores.keys()]


def read_gguf_vocabulary(file: GgufFile) -> Vocabulary:
    """What the metadata of a GGUF file say; places that no token has are left out.

    Raises:
        RequestError: the file has no tokens, or of another kind.
        WorkError: the metadata are damaged.
    """
    path, kind = file.parts[0], file.get(MODEL)
    if kind not in (_BYTE_LEVEL, _SCORED, _LISTED):
        raise RequestError(
            f"The tokenizer of {path} is of the kind {kind or 'unknown'}, whose vocabulary is not cut: that of BPE on bytes is, "
            "and of SentencePiece.",
            next_command=f"slimmoe prune {path} --plan plan.json -o FILE.gguf   (its experts alone)",
        )
    tokens = _list(file, TOKENS, (GGUFValueType.STRING,))
    types = _list(file, TYPES, (GGUFValueType.INT32, GGUFValueType.UINT32), len(tokens))
    by_type = [*zip(tokens, types, range(len(tokens)))]
    added = {token: number for token, kind, number in by_type if kind in _ADDED}
    ids = {token: number for token, kind, number in by_type if kind in (TokenType.NORMAL, TokenType.BYTE)}
    needed = ByteLevel.alphabet() if kind == _BYTE_LEVEL else BYTES
    if missing := {*needed} - ids.keys():
        raise WorkError(f"{path} is damaged: {len(missing)} of the 256 bytes are no tokens.")
    merges: Iterable[Any]
    if kind == _SCORED:
        values = _list(file, SCORES, (GGUFValueType.FLOAT32,), len(tokens))
        merges = merges_of({token: values[number] for token, number in ids.items() if token not in BYTES})
    else:
        pairs = (each.split(" ") for each in _list(file, MERGES, (GGUFValueType.STRING,)))
        merges = (tuple(pair) for pair in pairs if len(pair) == 2)
    return Vocabulary(ids, added, merges, needed, BYTE_LEVEL_SPACE if kind == _BYTE_LEVEL else SENTENCEPIECE_SPACE)
