"""The writer of pruned GGUF files: their metadata with the new counts, then the tensors. No torch, no llama.cpp.

Experts are stacked along the outermost axis of a tensor, and no block of a quantised type reaches over a row, so an
expert is a range of bytes in every type, and so is a token, a row of the embedding and of the output layer. What is left
is, byte for byte, what cutting first and quantising then gives wherever the types of the tensors are the same and no
importance matrix was used.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.rewrite.pieces import Piece, cut, write_data
from prune.rewrite.shape import Shape, check_plan, cut_shape, whole_shape
from prune.rewrite.vocabulary import cut_rows, renumber_metadata, with_tokens
from prune.vocabulary.selection import Selection
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_space
from runtime.formats.gguf_names import NEEDED_EXPERTS, in_layer
from runtime.formats.gguf_types import GgmlType
from runtime.formats.gguf_writer import encode, encode_tensor, output_path, write_header
from runtime.formats.provenance import Provenance, gguf_provenance


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


def _new_metadata(
    model: GgufModel, plan: Plan | None, shape: Shape, vocabulary: Selection | None
) -> dict[str, bytes | None]:
    """Entries that replace the source's; None leaves one out."""
    others = ("slimmoe.", "split.") if plan else ("split.",)  # another cut's, and those of the parts
    entries: dict[str, bytes | None] = {key: None for key in model.file.metadata if key.startswith(others)}
    if plan:
        entries |= _new_counts(model, plan.top_k, shape)
    entries |= _without_prediction(model, entries)
    if vocabulary:
        entries |= renumber_metadata(model.file, vocabulary.keep)
    return entries | {key: encode(key, value) for key, value in _provenance(model, plan, vocabulary).items()}


def _new_counts(model: GgufModel, top_k: int, shape: Shape) -> dict[str, bytes | None]:
    entries = _changed(model, "expert_count", lambda _: shape.experts)
    entries |= _changed(model, "expert_used_count", lambda used: min(used, top_k))
    if shape.groups == 1:
        for name in ("expert_group_count", "expert_group_used_count"):
            # llama.cpp wants fewer groups than experts: for one expert they are left out, as its converter is made to.
            entries |= {model.key(name): None} if shape.experts == 1 else _changed(model, name, lambda _: 1)
    return entries


def _provenance(model: GgufModel, plan: Plan | None, vocabulary: Selection | None) -> dict[str, str | float | bool]:
    """Of a plan; without one that of the source, which may be pruned and recovered already."""
    source = gguf_provenance(model.source, model.file.get) or Provenance()
    about = Provenance.from_dict(plan.to_dict()) if plan else source
    return with_tokens(about, vocabulary, source, model.source).gguf_keys()


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


def _file_name(source: Path, plan: Plan | None, vocabulary: Selection | None) -> str:
    """The source's name with pair, share and tokens: ``x-en-de-p75-v8192.gguf``."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", source.stem)
    made_for = plan.pair if plan else vocabulary.pair if vocabulary else ""
    parts = [stem, re.sub(r"[^\w-]+", "_", made_for), *([f"p{round(100 * plan.ratio)}"] if plan else [])]
    return "-".join(parts + ([f"v{len(vocabulary.keep)}"] if vocabulary else [])) + ".gguf"


def prune_gguf(source: Path, plan: Plan | None, output: Path | str, vocabulary: Selection | None = None) -> Path:
    """``prune.rewrite.prune`` for a GGUF file, which a split one becomes.

    Layers of multi-token prediction stay where llama.cpp drafts with them, and are left out otherwise. The plan
    goes into the file as keys ``slimmoe.*``, and so does what is known of the vocabulary.
    """
    model = GgufModel(source)
    name = _file_name(model.source, plan, vocabulary)
    again = "--plan plan.json" if plan else "--vocabulary coverage=0.9999"
    output = output_path(output, name, f"slimmoe prune {source} {again}")
    if any(output.exists() and part.samefile(output) for part in model.file.parts):
        raise RequestError(f"{output} is the file to be cut: choose another name for the result.")
    if plan:
        check_plan(model, plan)
    shape = cut_shape(model, plan) if plan else whole_shape(model)
    places = {name: model.place(name) for name in model.tensors} | model.draft_places()
    pieces = cut(model, places, shape)
    if vocabulary:
        pieces = cut_rows(model, pieces, vocabulary.keep)
    _check_experts(model)
    metadata = _new_metadata(model, plan, shape, vocabulary)
    require_space(output, sum(piece.content.size for piece in pieces) + model.file.metadata_end)
    with new_file(output) as temporary, temporary.open("wb", buffering=0) as target:
        _write(model, pieces, metadata, target)
    return output
