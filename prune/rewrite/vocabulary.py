"""A model with fewer tokens: the rows of its embedding and output layer, and every file or key that names a token's id."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.rewrite.pieces import Copy, Piece, Rows
from prune.tokenizer import SENTENCEPIECE
from prune.vocabulary.choose import ID_ENDS, is_id, rows_of
from prune.vocabulary.gguf import MERGES, TOKENS
from prune.vocabulary.selection import Selection, kept_ids
from prune.vocabulary.tokenizer_json import steps_of
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_names import split_layer
from runtime.formats.gguf_writer import encode
from runtime.formats.json_object import read_object
from runtime.formats.model_folder import TOKENIZER
from runtime.formats.provenance import Provenance

# tokenizer.json says the same, and transformers reads it first; those would keep the old ids.
LEFT_OUT = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "tekken.json",
    "tiktoken.model",
)
_KINDS = ("unk", "bos", "eos", "pad")  # of ids that SentencePiece's file names


def cut_rows(model: Checkpoint | GgufModel, pieces: list[Piece], keep: list[int]) -> list[Piece]:
    """The pieces of a cut with the rows ``keep`` alone of every tensor that has one for each token.

    Those are the tensors outside the layers whose first axis is as long as the vocabulary.

    Raises:
        RequestError: a tensor of the embedding or output layer is quantised in blocks that hold several tokens; ``keep``
            is of another model.
    """
    rows, is_gguf = rows_of(model), isinstance(model, GgufModel)
    if keep[-1] >= rows:
        raise RequestError(f"The vocabulary was chosen for another model: {model.source} has {rows} tokens.")
    outside = {piece.name for piece in pieces if _is_outside(model, piece.name)}
    by_token = {name for name in outside if model.tensors[name].shape[:1] == (rows,)}
    modules = tuple(name.rpartition(".")[0] + "." for name in by_token)
    across = [
        name
        for name in sorted(outside - by_token)
        if rows in model.tensors[name].shape or (modules and name.startswith(modules))
    ]
    if across or not by_token:
        raise RequestError(
            f"{across[0] if across else 'The embedding'} of {model.source} does not have one row for each of "
            f"{rows} tokens, so its vocabulary is not cut.",
            next_command=f"slimmoe prune {model.source} --plan plan.json -o {'FILE.gguf' if is_gguf else 'DIR'}   "
            "(its experts alone)",
        )
    return [
        Piece(piece.name, Rows(piece.content.source, keep, 0))
        if piece.name in by_token and isinstance(piece.content, Copy)
        else piece
        for piece in pieces
    ]


def _is_outside(model: Checkpoint | GgufModel, name: str) -> bool:
    """Whether a tensor may have a row for each token: those of layers have none, save where they predict by themselves."""
    if isinstance(model, GgufModel):
        layer, _ = split_layer(name)
        return layer is None or layer in model.draft_layers
    return model.split_layer(name)[0] < 0 and not name.startswith(model.family.beside or ("\0",))


def renumber_metadata(file: GgufFile, keep: list[int]) -> dict[str, bytes | None]:
    """Entries of a GGUF file's metadata that change with its tokens; None leaves one out."""
    numbers, tokens, entries = {old: new for new, old in enumerate(keep)}, file.get(TOKENS), {}
    kept = {tokens[old] for old in keep}
    for key, value in file.metadata.items():
        if key == MERGES:
            new = [merge for merge in file.get(key) if (parts := merge.split(" ")) and {*parts, "".join(parts)} <= kept]
        elif key.startswith("tokenizer.ggml.") and value.count == len(tokens):
            old = file.get(key)
            new = [old[number] for number in keep]
        elif key.endswith((*ID_ENDS, ".vocab_size")):
            new = renumber_config(file.get(key), numbers, len(tokens), key)
        else:
            continue
        entries[key] = None if new is None else encode(key, new, value)
    return entries | {key: None for key in file.metadata if key == "tokenizer.huggingface.json"}


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
    return len(numbers) if key.rpartition(".")[2].startswith("vocab_size") and values == rows else values


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
    if (folder / SENTENCEPIECE).exists():
        _cut_sentencepiece(folder / SENTENCEPIECE, numbers)
    for name, values in changed.items():
        (folder / name).write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _cut_sentencepiece(path: Path, numbers: Mapping[int, int]) -> None:
    """SentencePiece's own file, which llama.cpp's converter takes the scores from; what is none by that name is left out."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[reportAttributeAccessIssue]
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        model.Clear()
    if not model.pieces:
        path.unlink()
        return
    pieces = [piece for number, piece in enumerate(model.pieces) if number in numbers]
    del model.pieces[:]
    model.pieces.extend(pieces)
    spec = model.trainer_spec
    spec.vocab_size = len(pieces)
    for kind in _KINDS:
        setattr(spec, f"{kind}_id", numbers.get(getattr(spec, f"{kind}_id"), -1))
    path.write_bytes(model.SerializeToString())


def with_tokens(about: Provenance, selection: Selection | None, before: Provenance, source: Path) -> Provenance:
    """What a cut says of itself, with its tokens by their ids in the model that had all, also after a second cut.

    Args:
        about: of the experts; a cut of tokens alone was made for the pair of their text.
        before: of ``source``, which may have fewer tokens already.

    Raises:
        WorkError: what ``source`` says of that is damaged.
    """
    if not selection:
        return replace(about, vocabulary=before.vocabulary)
    if before.vocabulary:
        first = kept_ids(before.vocabulary, source)
        if len(first) <= selection.keep[-1]:
            raise WorkError(f"{source} is damaged: its record of the vocabulary is not that of the model.")
        selection = replace(selection, keep=[first[old] for old in selection.keep], before=before.vocabulary["before"])
    return replace(
        about, vocabulary=selection.to_dict(), pair=about.pair or selection.pair, model=about.model or str(source)
    )
