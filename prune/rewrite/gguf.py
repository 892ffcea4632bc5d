"""Cut a GGUF file by a plan: ranges of bytes are copied from file to file, whatever they encode. No torch, no llama.cpp.

Experts are stacked along the outermost axis of a tensor, and no block of a quantised type reaches over a row, so an
expert is a range of bytes in every type. What is left is, byte for byte, what cutting first and quantising then gives
wherever the types of the tensors are the same and no importance matrix was used.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from gguf.constants import GGML_QUANT_SIZES

from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.rewrite.shape import NEVER, PADDING, Shape, check_plan, cut_shape, padding_source
from runtime.errors import RequestError, WorkError
from runtime.formats.copying import Step, copy_all, merge
from runtime.formats.files import new_file, require_space
from runtime.formats.gguf_header import Tensor
from runtime.formats.gguf_names import NEEDED_EXPERTS, in_layer
from runtime.formats.gguf_writer import encode, encode_tensor, output_path, write_header
from runtime.formats.provenance import Provenance


@dataclass(frozen=True)
class _Piece:
    """One tensor of the output: ``rows`` of the source's along ``axis``, before which all axes are 1; all where None.

    PADDING among the rows is ``never``, the bytes of a bias.
    """

    name: str
    tensor: Tensor
    rows: list[int] | None = None
    axis: int = 0
    never: bytes = b""

    @property
    def shape(self) -> tuple[int, ...]:
        shape = list(self.tensor.shape)
        if self.rows is not None:
            shape[self.axis] = len(self.rows)
        return tuple(shape)

    @property
    def size(self) -> int:
        whole = self.tensor.stop - self.tensor.start
        return whole if self.rows is None else whole // self.tensor.shape[self.axis] * len(self.rows)


def _pieces(model: GgufModel, shape: Shape) -> list[_Piece]:
    """Account for every tensor: copied, sliced or left out; what seems to hold experts and fits no rule is an error."""
    pieces, wrong = [], []
    for name, tensor in model.file.tensors.items():
        place = model.place(name)
        if place.role == "unloaded":
            continue
        if place.layer is None or place.role == "other":
            pieces.append(_Piece(name, tensor))
            continue
        experts = model.moe_layers.get(place.layer)
        if place.role == "suspect" or experts is None:
            wrong.append(f"{name} (one part for each expert?)")
        elif (axis := _expert_axis(tensor, experts)) is None:
            wrong.append(f"{name} ({tensor.type.name} of shape {list(tensor.shape)}, {experts} experts)")
        else:
            whole = _Piece(name, tensor, shape.rows[place.layer], axis)
            pieces.append(_padded(model, whole, place.role, experts))
    if wrong:
        raise WorkError(f"slimmoe does not know how to cut these tensors of {model.source}: {', '.join(wrong)}.")
    lacking = [
        in_layer(layer, names[0])
        for layer in model.moe_layers
        for names in NEEDED_EXPERTS
        if not any(in_layer(layer, name) in model.file.tensors for name in names)
    ]
    if lacking:
        raise WorkError(f"{model.source} has routers without experts: there is no {', '.join(lacking)}.")
    return pieces


def _expert_axis(tensor: Tensor, experts: int) -> int | None:
    """The axis of the experts: the outermost that is not 1. None where that is another, or a block holds several experts."""
    axis = next((i for i, length in enumerate(tensor.shape) if length != 1), len(tensor.shape) - 1)
    blocks = axis == len(tensor.shape) - 1 and GGML_QUANT_SIZES[tensor.type][0] > 1
    return None if blocks or not tensor.shape or tensor.shape[axis] != experts else axis


def _padded(model: GgufModel, piece: _Piece, role: str, experts: int) -> _Piece:
    """The piece with a source for each PADDING: the lowest bias in the tensor that has it, else a dropped expert."""
    rows, kind = piece.rows or [], piece.tensor.type.name
    if PADDING not in rows:
        return piece
    if role != model.never:
        dropped = padding_source(rows, experts)
        return replace(piece, rows=[dropped if row == PADDING else row for row in rows])
    if kind not in NEVER:
        raise WorkError(f"{piece.name} is stored as {kind}; padding needs a floating-point bias.")
    return replace(piece, never=NEVER[kind].tobytes())


def _new_metadata(model: GgufModel, plan: Plan, shape: Shape) -> dict[str, bytes | None]:
    """Entries that replace the source's; None leaves one out."""
    metadata = model.file.metadata
    entries: dict[str, bytes | None] = {
        key: None for key in metadata if key.startswith(("slimmoe.", "split."))
    }  # another cut's, and those of the parts

    if set(model.numbers("expert_count")) != set(model.moe_layers.values()):
        raise WorkError(f"{model.source} is damaged: its routers have not as many experts as its metadata tell.")
    entries |= _changed(model, "expert_count", lambda _: shape.experts)
    entries |= _changed(model, "expert_used_count", lambda used: min(used, plan.top_k))
    if shape.groups == 1:
        # Left out rather than set to 1: llama.cpp wants fewer groups than experts, of which there may be one.
        entries |= {model.key(name): None for name in ("expert_group_count", "expert_group_used_count")}
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
    return model.first_unloaded if by_layer and _leaves_prediction_out(model) else None


def _leaves_prediction_out(model: GgufModel) -> bool:
    if model.first_unloaded is None:
        return False
    return any(model.place(name).role == "unloaded" for name in model.file.tensors)


def _without_prediction(model: GgufModel, entries: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Metadata for a model whose layers of multi-token prediction are left out: a plan knows nothing of their experts."""
    if not _leaves_prediction_out(model):
        return {}
    layers = model.first_unloaded or 0
    changed = _changed(model, "block_count", lambda _: layers) | _changed(model, "nextn_predict_layers", lambda _: 0)
    for key, value in model.file.metadata.items():
        stay = _stay(model, key)
        if stay is not None and key not in changed | entries:
            changed[key] = encode(key, model.file.get(key)[:stay], value)
    return changed


def _segments(piece: _Piece) -> Iterator[tuple[int, int] | bytes]:
    """A tensor's data in order: ranges of its part, or bytes where a bias is padded."""
    tensor, rows = piece.tensor, piece.rows
    if rows is None:
        yield tensor.start, tensor.stop
        return
    size = (tensor.stop - tensor.start) // tensor.shape[piece.axis]
    kept = [(tensor.start + row * size, tensor.start + (row + 1) * size) for row in rows]
    if not piece.never:
        yield from merge(kept)
    else:
        yield from (piece.never if row == PADDING else place for row, place in zip(rows, kept, strict=True))


def _steps(pieces: list[_Piece], parts: Mapping[Path, BinaryIO], alignment: int) -> Iterator[Step]:
    for piece in pieces:
        source = parts[piece.tensor.part]
        yield from (step if isinstance(step, bytes) else (source, *step) for step in _segments(piece))
        yield bytes(-piece.size % alignment)


def _write(model: GgufModel, pieces: list[_Piece], metadata: dict[str, bytes | None], target: BinaryIO) -> None:
    file, offset, entries = model.file, 0, []
    for piece in pieces:
        entries.append(encode_tensor(piece.name, piece.shape, piece.tensor.type, offset))
        offset += -(-piece.size // file.alignment) * file.alignment
    write_header(file, target, metadata, entries)
    with ExitStack() as stack:
        parts = {part: stack.enter_context(part.open("rb", buffering=0)) for part in file.parts}
        copy_all(_steps(pieces, parts, file.alignment), target)


def _file_name(source: Path, plan: Plan) -> str:
    """The source's name with pair and share: ``x-en-de-p75.gguf``."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", source.stem)
    pair = re.sub(r"[^\w-]+", "_", plan.pair)
    return f"{stem}-{pair}-p{round(100 * plan.ratio)}.gguf"


def cut_gguf(source: Path, plan: Plan, output: Path | str) -> Path:
    """Write the GGUF file ``source`` without the experts that the plan drops; returns the file written.

    All else stays byte for byte: other tensors, the tokenizer, the type of every tensor. A split file becomes one. A plan
    with different counts by layer is padded to the largest with experts that are never chosen. Layers of multi-token
    prediction, which no plan knows, are left out. The plan goes into the file as keys ``slimmoe.*``.

    Args:
        output: a file name, or a folder for a file named after the source, the pair and the share that is cut.

    Raises:
        RequestError: no such file, not a GGUF file, not an MoE, or the plan does not fit it.
        WorkError: the file is damaged or holds tensors that no rule describes, or the disk is full.
    """
    model = GgufModel(source)
    output = output_path(output, _file_name(model.source, plan), f"slimmoe gguf {source} --plan plan.json")
    if any(output.exists() and part.samefile(output) for part in model.file.parts):
        raise RequestError(f"{output} is the file to be cut: choose another name for the result.")
    check_plan(model, plan)
    shape = cut_shape(model, plan)
    pieces, metadata = _pieces(model, shape), _new_metadata(model, plan, shape)
    require_space(output, sum(piece.size for piece in pieces) + model.file.metadata_end)
    with new_file(output) as temporary, temporary.open("wb", buffering=0) as target:
        _write(model, pieces, metadata, target)
    return output
