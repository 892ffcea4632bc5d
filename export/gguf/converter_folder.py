"""The folder that llama.cpp's converter is given: the checkpoint's own, or one of links where it would read it otherwise.

It takes every file whose name begins with "model" where there is no index, prefers an index to model.safetensors, and
asks for tensors and index to agree; transformers does none of that. And it wants no token whose id is past the embedding,
where transformers has no use for one.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.tokenizer import tokens_past
from runtime.formats.model_folder import INDEX, SINGLE, TOKENIZER, own_file, read_index, read_own_object

_NAMED = ("tokenizer_config.json", "special_tokens_map.json")


def _reads_the_same(checkpoint: Checkpoint) -> bool:
    """Whether the converter takes the weights from where transformers does."""
    folder, shards = checkpoint.folder, {tensor.path for tensor in checkpoint.tensors.values()}
    if own_file(folder, INDEX):
        return read_index(folder) == {
            name: tensor.path.relative_to(folder).as_posix() for name, tensor in checkpoint.tensors.items()
        }
    return shards == {folder / SINGLE} == {*folder.glob("model*.safetensors")}


def tokens_past_embedding(checkpoint: Checkpoint) -> set[int]:
    """Ids of added tokens that the embedding has no row for.

    Raises:
        RequestError: the tokenizer's own ids go past it: it is another model's.
        WorkError: the tokenizer is damaged.
    """
    return tokens_past(checkpoint.folder, checkpoint.config.get("vocab_size"))


def _without(ids: set[int], folder: Path, target: Path) -> None:
    """Write the files of a tokenizer without some of the added tokens."""
    tokenizer = read_own_object(folder, TOKENIZER)
    gone = {each["content"] for each in tokenizer["added_tokens"] if each["id"] in ids}
    tokenizer["added_tokens"] = [each for each in tokenizer["added_tokens"] if each["id"] not in ids]
    _write(target / TOKENIZER, tokenizer)

    def names_one(value: Any) -> bool:
        return isinstance(value, str | dict) and (value["content"] if isinstance(value, dict) else value) in gone

    for name in _NAMED:
        if values := read_own_object(folder, name):
            decoder = values.get("added_tokens_decoder") or {}
            kept = {number: each for number, each in decoder.items() if not (number.isdigit() and int(number) in ids)}
            values = {key: value for key, value in values.items() if not (key.endswith("_token") and names_one(value))}
            for key in ("additional_special_tokens", "extra_special_tokens"):
                if isinstance(values.get(key), list):
                    values[key] = [each for each in values[key] if not names_one(each)]
            _write(target / name, values | ({"added_tokens_decoder": kept} if decoder else {}))
    if added := read_own_object(folder, "added_tokens.json"):
        _write(target / "added_tokens.json", {text: number for text, number in added.items() if text not in gone})


def _write(path: Path, value: dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@contextlib.contextmanager
def converter_folder(checkpoint: Checkpoint) -> Iterator[Path]:
    """A folder that the converter reads as transformers reads the checkpoint's."""
    past, same = tokens_past_embedding(checkpoint), _reads_the_same(checkpoint)
    if same and not past:
        yield checkpoint.folder
        return
    with tempfile.TemporaryDirectory(prefix="slimmoe.") as name:
        target = Path(name) / checkpoint.folder.absolute().name  # by which the converter names the model
        target.mkdir()
        for path in checkpoint.folder.iterdir():
            if path.is_file() and (same or (path.suffix != ".safetensors" and path.name != INDEX)):
                (target / path.name).symlink_to(path.absolute())
        if not same:
            _link_weights(checkpoint, target)
        if past:
            _without(past, checkpoint.folder, target)
        yield target


def _link_weights(checkpoint: Checkpoint, target: Path) -> None:
    shards = sorted({tensor.path for tensor in checkpoint.tensors.values()})
    names = {
        path: SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        for number, path in enumerate(shards, 1)
    }
    for path, name in names.items():
        (target / name).symlink_to(path.absolute())
    if len(shards) > 1:
        _write(target / INDEX, {"weight_map": {key: names[each.path] for key, each in checkpoint.tensors.items()}})
