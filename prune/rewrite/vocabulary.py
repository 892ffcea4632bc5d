"""A checkpoint with fewer tokens: the rows of its embedding and output layer, and every file that names a token's id."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.rewrite.pieces import Copy, Piece, Rows
from prune.vocabulary.byte_level import steps_of
from prune.vocabulary.choose import Selection, from_ranges, is_id
from runtime.errors import RequestError, WorkError
from runtime.formats.json_object import read_object
from runtime.formats.model_folder import TOKENIZER
from runtime.formats.provenance import FILE

# tokenizer.json says the same, and transformers reads it first; those would keep the old ids.
LEFT_OUT = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "tekken.json",
    "tokenizer.model",
    "tiktoken.model",
)


def cut_rows(checkpoint: Checkpoint, pieces: list[Piece], keep: list[int]) -> list[Piece]:
    """The pieces of a cut with the rows ``keep`` alone of every tensor that has one for each token.

    Those are the tensors outside the layers whose first axis is as long as the vocabulary.

    Raises:
        RequestError: a tensor of the embedding or output layer is quantised in blocks that hold several tokens.
    """
    rows = checkpoint.config["vocab_size"]
    outside = {
        piece.name
        for piece in pieces
        if checkpoint.split_layer(piece.name)[0] < 0 and not piece.name.startswith(checkpoint.family.beside or ("\0",))
    }
    by_token = {name for name in outside if checkpoint.tensors[name].shape[:1] == (rows,)}
    modules = tuple(name.rpartition(".")[0] + "." for name in by_token)
    across = [
        name
        for name in sorted(outside - by_token)
        if rows in checkpoint.tensors[name].shape or (modules and name.startswith(modules))
    ]
    if across or not by_token:
        raise RequestError(
            f"{across[0] if across else 'The embedding'} of {checkpoint.folder} does not have one row for each of "
            f"{rows} tokens, so its vocabulary is not cut.",
            next_command=f"slimmoe prune {checkpoint.folder} --plan plan.json -o DIR   (its experts alone)",
        )
    return [
        Piece(piece.name, Rows(piece.content.source, keep, 0))
        if piece.name in by_token and isinstance(piece.content, Copy)
        else piece
        for piece in pieces
    ]


def renumber_config(values: Any, numbers: Mapping[int, int], rows: int, key: str = "") -> Any:
    """A config with the new ids of its tokens and the new ``vocab_size``, wherever it was ``rows``.

    An id that no token has, of a place in the embedding that was never used, becomes null.
    """
    if isinstance(values, dict):
        return {name: renumber_config(value, numbers, rows, name) for name, value in values.items()}
    if isinstance(values, list):
        found = [renumber_config(value, numbers, rows, key) for value in values]
        return [each for each in found if each is not None] if any(is_id(key, value) for value in values) else found
    if is_id(key, values):
        return values if values < 0 else numbers.get(values)
    return len(numbers) if key == "vocab_size" and values == rows else values


def renumber_tokenizer(stored: dict[str, Any], keep: list[int]) -> dict[str, Any]:
    """tokenizer.json with the tokens ``keep`` alone, by their places in it."""
    numbers = {old: new for new, old in enumerate(keep)}
    model = stored["model"]
    ids = {token: numbers[old] for token, old in model["vocab"].items() if old in numbers}

    def stays(merge: str | list[str]) -> bool:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        return {*parts, "".join(parts)} <= ids.keys()

    changed = copy.deepcopy(stored) | {
        "model": model | {"vocab": ids, "merges": [each for each in model["merges"] if stays(each)]},
        "added_tokens": [each | {"id": numbers[each["id"]]} for each in stored.get("added_tokens") or []],
    }
    if isinstance(stored.get("padding"), dict):
        changed["padding"] = stored["padding"] | {"pad_id": numbers.get(stored["padding"]["pad_id"], 0)}
    for step in steps_of(changed.get("post_processor"), "processors"):
        for end in ("sep", "cls"):
            if end in step:
                step[end] = [step[end][0], numbers[step[end][1]]]
        for token in (step.get("special_tokens") or {}).values():
            token["ids"] = [numbers[each] for each in token["ids"]]
    return changed


def renumber_files(folder: Path, keep: list[int], rows: int) -> None:
    """The files of a new checkpoint, rewritten where they lie; config.json is its writer's."""
    numbers = {old: new for new, old in enumerate(keep)}
    changed = {TOKENIZER: renumber_tokenizer(read_object(folder / TOKENIZER), keep)}
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).exists():
            changed[name] = renumber_config(read_object(folder / name), numbers, rows)
    if decoder := changed.get("tokenizer_config.json", {}).get("added_tokens_decoder"):
        new = {str(numbers[int(old)]): token for old, token in decoder.items() if int(old) in numbers}
        changed["tokenizer_config.json"]["added_tokens_decoder"] = new
    for name, values in changed.items():
        (folder / name).write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def record(selection: Selection, before: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What ``slimmoe.json`` says of the cut: ids of the model that had all its tokens, also after a second cut.

    Raises:
        WorkError: what it said of the first cut of ``folder`` is damaged.
    """
    if not before:
        return selection.to_dict()
    try:
        first = from_ranges(before["keep"])
        keep, tokens = [first[old] for old in selection.keep], int(before["before"])
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        raise WorkError(f"{folder / FILE} is damaged: its vocabulary is not that of the model.") from None
    return replace(selection, keep=keep, before=tokens).to_dict()
