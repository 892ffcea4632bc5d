"""The vocabulary of a GGUF file, where it is of a kind that can be cut: BPE on bytes."""

from gguf.constants import GGUFValueType, TokenType
from tokenizers.pre_tokenizers import ByteLevel

from prune.vocabulary.tokenizer_json import BYTE_LEVEL_SPACE
from prune.vocabulary.vocabulary import Vocabulary
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile

MODEL, TOKENS, TYPES, MERGES = (f"tokenizer.ggml.{name}" for name in ("model", "tokens", "token_type", "merges"))
_BYTE_LEVEL = "gpt2"  # as llama.cpp calls the kind
_ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)


def _list(file: GgufFile, key: str, kinds: tuple[GGUFValueType, ...], count: int | None = None) -> list:
    value = file.metadata.get(key)
    if value is None or value.count is None or value.type not in kinds or count not in (None, value.count):
        raise WorkError(f"{file.parts[0]} is damaged: {key} is no list with one entry for each token.")
    return file.get(key)


def read_gguf_vocabulary(file: GgufFile) -> Vocabulary:
    """What the metadata of a GGUF file say; places that no token has are left out.

    Raises:
        RequestError: the file has no tokens, or of another kind than byte-level BPE.
        WorkError: the metadata are damaged.
    """
    path, kind = file.parts[0], file.get(MODEL)
    if kind != _BYTE_LEVEL:
        raise RequestError(
            f"The tokenizer of {path} is of another kind ({kind or 'unknown'}) than BPE on bytes ({_BYTE_LEVEL}), the only "
            "one whose vocabulary is cut.",
            next_command=f"slimmoe prune {path} --plan plan.json -o FILE.gguf   (its experts alone)",
        )
    tokens = _list(file, TOKENS, (GGUFValueType.STRING,))
    types = _list(file, TYPES, (GGUFValueType.INT32, GGUFValueType.UINT32), len(tokens))
    by_type = [*zip(tokens, types, range(len(tokens)))]
    added = {token: number for token, kind, number in by_type if kind in _ADDED}
    ids = {token: number for token, kind, number in by_type if kind in (TokenType.NORMAL, TokenType.BYTE)}
    pairs = (each.split(" ") for each in _list(file, MERGES, (GGUFValueType.STRING,)))
    if missing := {*ByteLevel.alphabet()} - ids.keys():
        raise WorkError(f"{path} is damaged: {len(missing)} of the 256 bytes are no tokens.")
    merges = (tuple(pair) for pair in pairs if len(pair) == 2)
    return Vocabulary(ids, added, merges, ByteLevel.alphabet(), BYTE_LEVEL_SPACE)
