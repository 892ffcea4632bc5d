"""The vocabulary of a tokenizer.json, where it is of a kind that can be cut: BPE on bytes, or SentencePiece's, which falls back
to them."""

from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from prune.vocabulary.vocabulary import Vocabulary
from runtime.errors import RequestError
from runtime.formats.model_folder import TOKENIZER, read_own_object

BYTE_LEVEL_SPACE, SENTENCEPIECE_SPACE = "Ġ", "▁"
BYTES = dict.fromkeys(f"<0x{value:02X}>" for value in range(256))  # as SentencePiece spells them
_PROCESSORS = ("ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence")


def steps_of(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """A pre-tokenizer or post-processor, and all that a sequence of them has ``inside``."""
    return [] if step is None else [step, *(each for part in step.get(inside, []) for each in steps_of(part, inside))]


def read_vocabulary(folder: Path) -> Vocabulary:
    """What stands in ``folder/tokenizer.json``.

    Raises:
        RequestError: there is none, or it is of another kind than BPE on bytes or SentencePiece's BPE.
        WorkError: the file is damaged.
    """
    stored = read_own_object(folder, TOKENIZER)
    if not stored:
        raise RequestError(
            f"{folder} has no {TOKENIZER}, and a vocabulary is cut there.",
            next_command=f"cp ORIGINAL/{TOKENIZER} {folder}/",
        )
    again = f"slimmoe prune {folder} --plan plan.json -o DIR   (its experts alone)"
    model = stored.get("model") or {}
    ids = model.get("vocab")
    splits = {each.get("type") for each in steps_of(stored.get("pre_tokenizer"), "pretokenizers")}
    on_bytes = "ByteLevel" in splits and not model.get("byte_fallback")
    needed = ByteLevel.alphabet() if on_bytes else [*BYTES]
    others = any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
    known = model.get("type") == "BPE" and (on_bytes or model.get("byte_fallback")) and not others
    if not known or not isinstance(ids, dict) or not {*needed} <= ids.keys():
        raise RequestError(
            f"The tokenizer of {folder} is of the kind {model.get('type') or 'unknown'}, whose vocabulary is not cut: that of "
            "BPE that has all bytes is.",
            next_command=again,
        )
    processors = {each.get("type") for each in steps_of(stored.get("post_processor"), "processors")}
    if unknown := processors - {*_PROCESSORS}:
        raise RequestError(
            f"The tokenizer of {folder} has a post-processor {sorted(map(str, unknown))[0]}, whose token ids are not known.",
            next_command=again,
        )
    added = {each["content"]: int(each["id"]) for each in stored.get("added_tokens") or []}
    pairs = (each.split(" ") if isinstance(each, str) else each for each in model.get("merges") or [])
    if model.get("unk_token") in ids:
        needed = [*needed, model["unk_token"]]
    space = BYTE_LEVEL_SPACE if on_bytes else SENTENCEPIECE_SPACE
    return Vocabulary(ids, added, ((a, b) for a, b in pairs), needed, space)
