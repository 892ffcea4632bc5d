"""The writer of pruned GGUF files: their metadata with the new counts, then the tensors. No torch, no llama.cpp.

Experts are stacked along the outermost axis of a tensor, and no block of a quantised type reaches over a row, so an
expert is a range of bytes in every type. What is left is, byte for byte, what cutting first and quantising then gives
wherever the types of the tensors are the same and no importance matrix was used.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.rewrite.pieces import Piece, cut, write_data
from prune.rewrite.shape import Shape, check_plan, cut_shape
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_space
from runtime.formats.gguf_names import NEEDED_EXPERTS, in_layer
from runtime.formats.gguf_types import GgmlType
from runtime.formats.gguf_writer import encode, encode_tensor, output_path, write_header
from runtime.formats.provenance import Provenance


def _check_experts(model: GgufModel) -> None:
    """Every router must have its experts."""
    lacking = [
        in_layer(layer, names[0])
        for layer in model.moe_layers | model.draft_layers
        for names in NEEDED_EXPERTS
        if not any(in_layer(layer, name) in model.tensors for name in names)
    ]
    if lacking:
        raise WorkError(f"{model.source} has routers without experts: there is no {', '.join(lacking)}.")


def _new_metadata(model: GgufModel, plan: Plan, shape: Shape) -> dict[str, bytes | None]:
    """Entries that replace the source's; None leaves one out."""
    metadata = model.file.metadata
    others = ("slimmoe.", "split.")  # another cut's, and those of the parts
    entries: dict[str, bytes | None] = {key: None for key in metadata if key.startswith(others)}
    if set(model.numbers("expert_count")) != set(model.moe_layers.values()):
        raise WorkError(f"{model.source} is damaged: its routers have not as many experts as its metadata tell.")
    entries |= _changed(model, "expert_count", lambda _: shape.experts)
    entries |= _changed(model, "expert_used_count", lambda used: min(used, plan.top_k))
    if shape.groups == 1:
        for name in ("expert_group_count", "expert_group_used_count"):
            # llama.cpp wants fewer groups than experts: for one expert they are left out, as its converter is made to.
            entries |= {model.key(name): None} if shape.experts == 1 else _changed(model, name, lambda _: 1)
    entries |= _without_prediction(model, entries)
    return entries | {
        key: encode(key, value) for key, value in Provenance.from_dict(plan.to_dict()).gguf_keys().items()
    }


def _changed(model: GgufModel, name: str, change: Callable[[int], int]) -> dict[str, bytes | None]:
    """The entry of an integer key with ``change`` made to its value, or to that of each layer; none where it is absent."""
    numbers, key = [change(number) for number in model.numbers(name)], model.key(name)
    if not numbers:
        return {}
    like = model.file.metadata[key]
    return {key: encode(key, numbers[: _stay(model, key)] if like.count is not None else numbers[0], like)}


def _stay(model: GgufModel, key: str) -> int | None:
    """How many elements of a list by layer stay where the layers of multi-token prediction are left out; None: all.

    llama.cpp refuses a file in which such a list is not as long as ``block_count`` says.
    """
    if not key.startswith(model.key("")) or key.endswith("_sections"):
        return None
    by_layer = model.file.metadata[key].count == max(model.numbers("block_count"), default=0)
    return model.first_unloaded if by_layer and model.has_unloaded and not model.drafts else None


def _without_prediction(model: GgufModel, entries: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Metadata for a model whose layers of multi-token prediction are left out: a plan knows nothing of their experts."""
    if not model.has_unloaded or model.drafts:
        return {}
    layers = model.first_unloaded or 0
    changed = _changed(model, "block_count", lambda _: layers) | _changed(model, "nextn_predict_layers", lambda _: 0)
    for key, value in model.file.metadata.items():
        stay = _stay(model, key)
        if stay is not None and key not in changed | entries:
            changed[key] = encode(key, model.file.get(key)[:stay], value)
    return changed


def _write(model: GgufModel, pieces: list[Piece], metadata: dict[str, bytes | None], target: BinaryIO) -> None:
    file, offset, entries = model.file, 0, []
    for piece in pieces:
        content = piece.content
        entries.append(encode_tensor(piece.name, content.shape, GgmlType[content.source.dtype], offset))
        offset += -(-content.size // file.alignment) * file.alignment
    write_header(file, target, metadata, entries)
    write_data(pieces, target, file.alignment)


def _file_name(source: Path, plan: Plan) -> str:
    """The source's name with pair and share: ``x-en-de-p75.gguf``."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", source.stem)
    pair = re.sub(r"[^\w-]+", "_", plan.pair)
    return f"{stem}-{pair}-p{round(100 * plan.ratio)}.gguf"


def prune_gguf(source: Path, plan: Plan, output: Path | str) -> Path:
    """``prune.rewrite.prune`` for a GGUF file, which a split one becomes.

    Layers of multi-token prediction stay where llama.cpp drafts with them, and are left out otherwise. The plan
    goes into the file as keys ``slimmoe.*``.
    """
    model = GgufModel(source)
    output = output_path(output, _file_name(model.source, plan), f"slimmoe prune {source} --plan plan.json")
    if any(output.exists() and part.samefile(output) for part in model.file.parts):
        raise RequestError(f"{output} is the file to be cut: choose another name for the result.")
    check_plan(model, plan)
    shape = cut_shape(model, plan)
    places = {name: model.place(name) for name in model.tensors} | model.draft_places()
    pieces = cut(model, places, shape)
    _check_experts(model)
    metadata = _new_metadata(model, plan, shape)
    require_space(output, sum(piece.content.size for piece in pieces) + model.file.metadata_end)
    with new_file(output) as temporary, temporary.open("wb", buffering=0) as target:
        _write(model, pieces, metadata, target)
    return output
