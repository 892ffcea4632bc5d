"""A Hugging Face model folder that others wrote: which files are its own, and which of them hold its weights.

One rule for every verb, the one that transformers follows (``_get_resolved_checkpoint_files`` in modeling_utils.py): the
file that config.json names as ``transformers_weights``, else model.safetensors, else the shards that
model.safetensors.index.json names, in the folder itself or below it. Consolidated files, other formats and sub-folders
that the index does not name are left aside.
"""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from runtime.errors import RequestError, WorkError
from runtime.formats.json_object import LONGEST, read_object
from runtime.formats.safetensors import SafetensorsTensor, read_header

CONFIG = "config.json"
SINGLE = "model.safetensors"  # of a checkpoint that is not sharded
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
# What transformers and llama.cpp's converter read beside the weights, as objects of JSON and as text.
OBJECTS = (
    "tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
TEXTS = (TOKENIZER, "chat_template.jinja", "tokenizer.model", "tiktoken.model", "vocab.json", "merges.txt", "vocab.txt")
_MOST_BYTES = LONGEST  # of a file beside the weights


def own_file(folder: Path, name: str) -> Path | None:
    """A file of the folder, by its name or by a path below the folder; None where there is none.

    Links may lead to other files of the folder, and to the blobs of Hugging Face's cache, whose snapshots consist of them.

    Raises:
        WorkError: the path or a link leads out of the folder, to nothing, or to what is no regular file.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or {*"\\\0"} & {*name}:
        raise WorkError(f"{folder} is damaged: {name!r} is not the name of a file in it.")
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        real, home = path.resolve(strict=True), folder.resolve()
        kind = real.stat().st_mode
    except FileNotFoundError:
        raise WorkError(f"{path} is a link to a file that is not there: was the download stopped?") from None
    except (OSError, RuntimeError):  # a link to itself; of a folder that may not be read
        raise WorkError(f"{path} cannot be read.") from None
    # Of the repository, and of the whole cache, where huggingface_hub keeps what several repositories share.
    blobs = [each / "blobs" for each in home.parents[1:3]] if home.parent.name == "snapshots" else []
    if not any(real.is_relative_to(place) for place in (home, *blobs)):
        raise WorkError(
            f"{path} is a link to {real}, out of the folder; a model's files lie in its folder.",
            next_command=f"cp --remove-destination {real} {path}   (if you trust that file)",
        )
    if not stat.S_ISREG(kind):
        raise WorkError(f"{path} is not a file.")
    return path


def read_own_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the folder; {} where there is none.

    Raises:
        WorkError: as ``own_file``, or it is something else.
    """
    path = own_file(folder, name)
    return {} if path is None else read_object(path)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json.

    Raises:
        RequestError: there is no such folder, or it has none.
        WorkError: it is damaged.
    """
    if not folder.is_dir():
        raise RequestError(f"There is no model folder {folder}.", next_command="ls models/default")
    path = own_file(folder, CONFIG)
    if path is None:
        raise RequestError(
            f"{folder} has no config.json: not a Hugging Face model folder.", next_command=_instead(folder)
        )
    return read_object(path)


def _instead(folder: Path) -> str | None:
    """What to give in the place of a folder without config.json."""
    if ggufs := sorted(folder.glob("*.gguf")):
        return f"the same with {ggufs[0]}"
    below = sorted(each.parent for each in folder.glob(f"*/{CONFIG}"))
    return f"the same with {below[0]}" if below else None


def check_side_files(folder: Path) -> None:
    """Refuse what transformers and llama.cpp's converter would stumble over, wait for, or follow out of the folder.

    Raises:
        WorkError: a file beside the weights is damaged, of an absurd size, no file, or a link out of the folder.
    """
    for name in OBJECTS:
        read_own_object(folder, name)
    for name in TEXTS:
        path = own_file(folder, name)
        if path is not None and path.stat().st_size > _MOST_BYTES:
            raise WorkError(f"{path} is damaged: it has {path.stat().st_size} bytes.")


def read_index(folder: Path, name: str = INDEX) -> dict[str, str] | None:
    """By tensor the shard that holds it, as the checkpoint's index says; None where there is no index.

    Raises:
        WorkError: the index is damaged, or names a shard that is not in the folder.
    """
    path = own_file(folder, name)
    if path is None:
        return None
    weight_map = read_object(path, unique=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WorkError(f"{path} is damaged: it has no weight_map.")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise WorkError(f"{path} is damaged: {shard!r} is not the name of a safetensors file.")
    for shard in {*weight_map.values()}:
        own_file(folder, shard)
    return weight_map


def _find(folder: Path, config: dict[str, Any]) -> tuple[list[str], dict[str, str] | None]:
    """The files that hold the weights, and what the index says if it counts."""
    named = config.get("transformers_weights")
    if named is not None:
        if not isinstance(named, str) or not named.endswith((".safetensors", ".safetensors.index.json")):
            raise WorkError(f"{folder / CONFIG} is damaged: its transformers_weights is {str(named)[:40]!r}.")
        if own_file(folder, named) is None:
            raise WorkError(f"{folder} is incomplete: {named} is missing, which its config.json names.")
        index = read_index(folder, named) if named.endswith(".json") else None
        return (sorted({*index.values()}) if index else [named]), index
    if own_file(folder, SINGLE):
        return [SINGLE], None
    if index := read_index(folder):
        return sorted({*index.values()}), index
    raise RequestError(f"{folder} has no safetensors weights{_weights_there(folder)}.")


def _weights_there(folder: Path) -> str:
    """What of weights there is in a folder that has none by the rule, as a sentence's end."""
    if (folder / "onnx").is_dir():
        return ": it is an ONNX folder, and the checkpoint that it was written from is needed"
    if ggufs := sorted(folder.glob("*.gguf")):
        return f": it holds GGUF files, of which one is given by its name ({ggufs[0]})"
    if pickled := [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]:
        return f": {pickled[0].name} is pickled, and pickled ones are not read"
    if others := sorted(folder.glob("*.safetensors")):
        return (
            f" that transformers would load: {others[0].name} is neither {SINGLE} nor named by {INDEX}, nor by "
            "transformers_weights in config.json"
        )
    if below := sorted(folder.glob("*/*.safetensors")):
        return f" in it, only below it ({below[0].relative_to(folder)})"
    return " (pickled ones are not read)"


def read_checkpoint(folder: Path, config: dict[str, Any] | None = None) -> dict[str, SafetensorsTensor]:
    """The tensors of a checkpoint folder by name, of all the files that hold its weights.

    Args:
        config: what its config.json says; None: nothing.

    Raises:
        RequestError: there are no safetensors.
        WorkError: a shard is missing, or a shard or the index is damaged, or the index names tensors that no shard holds.
    """
    shards, index = _find(folder, config or {})
    tensors: dict[str, SafetensorsTensor] = {}
    for shard in shards:
        path = own_file(folder, shard)
        if path is None:
            raise WorkError(f"{folder} is incomplete: {shard} is missing.")
        found = read_header(path)
        if twice := found.keys() & tensors.keys():
            raise WorkError(f"{path} is damaged: the tensor {min(twice)!r} is in another shard too.")
        tensors |= found
    if missing := sorted((index or {}).keys() - tensors.keys()):
        raise WorkError(
            f"{folder} is incomplete: its index names {len(missing)} tensors that no shard holds, {missing[0]!r} first."
        )
    return tensors
