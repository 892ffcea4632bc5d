"""The vocabulary of a tokenizer.json, where it is of a kind that can be cut: BPE on bytes."""

from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from prune.vocabulary.vocabulary import Vocabulary
from runtime.errors import RequestError
from runtime.formats.model_folder import TOKENIZER, read_own_object

BYTE_LEVEL_SPACE = "Ġ"
_PROCESSORS = ("ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence")


def steps_of(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """A pre-tokenizer or post-processor, and all that a sequence of them has ``inside``."""
    return [] if step is None else [step, *(each for part in step.get(inside, []) for each in steps_of(part, inside))]


def read_vocabulary(folder: Path) -> Vocabulary:
    """What stands in ``folder/tokenizer.json``.

    Raises:
        RequestError: there is none, or it is of another kind than byte-level BPE.
        WorkError: the file is damaged.
    """
    stored = read_own_object(folder, TOKENIZER)
    if not stored:
        raise RequestError(
            f"{folder} has no {TOKENIZER}, and a vocabulary is cut there.",
            next_command=f"cp ORIGINAL/{TOKENIZER} {folder}/",
        )
    model = stored.get("model") or {}
    splits = {each.get("type") for each in steps_of(stored.get("pre_tokenizer"), "pretokenizers")}
    others = ("byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix")
    ids = model.get("vocab")
    fits = model.get("type") == "BPE" and "ByteLevel" in splits and not any(model.get(key) for key in others)
    if not fits or not isinstance(ids, dict) or not {*ByteLevel.alphabet()} <= ids.keys():
        kind = (
            f"{model.get('type') or 'unknown'}{', with bytes for what it lacks' if model.get('byte_fallback') else ''}"
        )
        raise RequestError(
            f"The tokenizer of {folder} is of another kind ({kind}) than BPE on bytes, the only one whose vocabulary is cut.",
            next_command=f"slimmoe prune {folder} --plan plan.json -o DIR   (its experts alone)",
        )
    processors = {each.get("type") for each in steps_of(stored.get("post_processor"), "processors")}
    if unknown := processors - {*_PROCESSORS}:
        raise RequestError(
            f"The tokenizer of {folder} has a post-processor {sorted(map(str, unknown))[0]}, whose token ids are not known.",
            next_command=f"slimmoe prune {folder} --plan plan.json -o DIR   (its experts alone)",
        )
    added = {each["content"]: int(each["id"]) for each in stored.get("added_tokens") or []}
    pairs = (each.split(" ") if isinstance(each, str) else each for each in model.get("merges") or [])
    return Vocabulary(ids, added, ((a, b) for a, b in pairs), ByteLevel.alphabet(), BYTE_LEVEL_SPACE)
