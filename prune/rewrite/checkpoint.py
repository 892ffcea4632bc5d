"""Cut a checkpoint by a plan: ranges of bytes are copied from file to file, whatever they encode."""

import json
import shutil
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.rewrite.shape import NEVER, PADDING, Shape, check_plan, cut_shape, padding_source
from runtime.errors import WorkError
from runtime.formats.copying import copy_all, merge, write_all
from runtime.formats.files import new_folder, require_space
from runtime.formats.provenance import Provenance, write_provenance

# Everything else in a model folder (READMEs, caches, other formats) describes the source, not the cut model.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")


@dataclass(frozen=True)
class _Piece:
    """One tensor of the output: ``rows`` of ``source`` along ``axis`` (all of it where None)."""

    name: str
    source: str
    rows: list[int] | None = None
    axis: int = 0


def _pieces(checkpoint: Checkpoint, shape: Shape) -> tuple[list[_Piece], list[str]]:
    """Account for every tensor: copied, sliced, renamed or dropped; anything that fits no rule is an error.

    Returns:
        the tensors of the output in the order of their sources, and the names that transformers would not load.
    """
    pieces: list[_Piece] = []
    unloaded: list[str] = []
    wrong: list[str] = []
    parts: dict[tuple[int, int], set[str]] = defaultdict(set)
    places = {layer: _places(rows, checkpoint.moe_layers[layer]) for layer, rows in shape.rows.items()}
    for name, tensor in checkpoint.tensors.items():
        place = checkpoint.place(name)
        if place.role == "unloaded":
            unloaded.append(name)
        elif place.layer is None or place.role == "other":
            pieces.append(_Piece(name, name))
        elif place.role == "expert":
            assert place.expert is not None
            parts[place.layer, place.expert].add(place.part)
            stem = name.removesuffix(place.part)
            before, after = stem.rsplit(str(place.expert), 1)
            new = places[place.layer].get(place.expert, [])
            pieces += (_Piece(f"{before}{i}{after}{place.part}", name) for i in new)
        else:
            experts = checkpoint.moe_layers[place.layer]
            axis = -1 if place.role == "selection_bias" else 0
            if place.role == "block" and prod(tensor.shape) != experts:
                pieces.append(_Piece(name, name))
            elif place.role == "block":
                wrong.append(f"{name} (one value for each expert?)")
            elif not tensor.shape or tensor.shape[axis] != experts or (axis and prod(tensor.shape) != experts):
                wrong.append(f"{name} (shape {list(tensor.shape)}, {experts} experts)")
            else:
                rows = shape.rows[place.layer]
                dropped = padding_source(rows, experts)
                if axis == 0:
                    rows = [dropped if row == PADDING else row for row in rows]
                pieces.append(_Piece(name, name, rows, axis))
    if wrong:
        raise WorkError(f"prune/families does not describe these tensors of {checkpoint.folder}: {', '.join(wrong)}.")
    _check_experts(checkpoint, parts)
    return pieces, unloaded


def _places(rows: list[int], experts: int) -> dict[int, list[int]]:
    """Where each source expert goes in the cut; the one that pads may go to several places."""
    places = defaultdict(list)
    for i, row in enumerate(rows):
        places[padding_source(rows, experts) if row == PADDING else row].append(i)
    return places


def _check_experts(checkpoint: Checkpoint, parts: dict[tuple[int, int], set[str]]) -> None:
    """All experts of a layer must be there, with the same tensors each."""
    wrong = []
    for layer in {layer for layer, _ in parts}:
        experts = range(checkpoint.moe_layers[layer])
        expected = set().union(*(parts.get((layer, expert), set()) for expert in experts))
        wrong += (
            f"{checkpoint.prefix(layer)} expert {expert}: {part}"
            for expert in experts
            for part in sorted(expected - parts.get((layer, expert), set()))
        )
        wrong += (
            f"{checkpoint.prefix(layer)} expert {expert} is one too many"
            for at, expert in parts
            if at == layer and expert not in experts
        )
    if wrong:
        raise WorkError(f"{checkpoint.folder} lacks {len(wrong)} expert tensors: {', '.join(wrong[:20])}.")


def _size(checkpoint: Checkpoint, piece: _Piece) -> int:
    tensor = checkpoint.tensors[piece.source]
    size = tensor.stop - tensor.start
    return size if piece.rows is None else size // tensor.shape[piece.axis] * len(piece.rows)


def _segments(checkpoint: Checkpoint, pieces: list[_Piece]) -> Iterator[tuple[int, int] | bytes]:
    """The output's data in order: ranges of the source shard, or bytes where a selection bias is padded."""
    ranges: list[tuple[int, int]] = []
    for piece in pieces:
        tensor = checkpoint.tensors[piece.source]
        if piece.rows is None:
            ranges.append((tensor.start, tensor.stop))
            continue
        row = (tensor.stop - tensor.start) // tensor.shape[piece.axis]
        if PADDING in piece.rows:
            if tensor.dtype not in NEVER:
                raise WorkError(f"{piece.source} is stored as {tensor.dtype}; padding needs a floating-point bias.")
            yield from merge(ranges)
            raw, never = checkpoint.raw(piece.source), NEVER[tensor.dtype].tobytes()
            yield b"".join(never if i == PADDING else bytes(raw[i * row : (i + 1) * row]) for i in piece.rows)
            ranges = []
            continue
        ranges += ((tensor.start + i * row, tensor.start + (i + 1) * row) for i in piece.rows)
    yield from merge(ranges)


def _write_shard(checkpoint: Checkpoint, pieces: list[_Piece], path: Path) -> None:
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for piece in pieces:
        tensor = checkpoint.tensors[piece.source]
        shape, size = list(tensor.shape), _size(checkpoint, piece)
        if piece.rows is not None:
            shape[piece.axis] = len(piece.rows)
        header[piece.name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned, as safetensors' own writer has it
    shard = checkpoint.tensors[pieces[0].source].path
    with shard.open("rb", buffering=0) as source, path.open("wb", buffering=0) as target:
        write_all(target, struct.pack("<Q", len(text)) + text)
        copy_all(
            (
                segment if isinstance(segment, bytes) else (source, *segment)
                for segment in _segments(checkpoint, pieces)
            ),
            target,
        )


def _new_config(checkpoint: Checkpoint, plan: Plan, shape: Shape, unloaded: list[str]) -> dict:
    config, keys = dict(checkpoint.config), checkpoint.family.config

    def put(names: tuple[str, ...], value: int) -> None:
        for name in [name for name in names if name in config] or names[:1]:
            old = config.get(name)
            config[name] = [min(value, each) for each in old] if isinstance(old, list) else value

    put(keys.expert_count, shape.experts)
    if not isinstance(keys.top_k, int):
        put(keys.top_k, plan.top_k)
    if keys.groups and keys.topk_groups and shape.groups != checkpoint.groups:
        config |= {keys.groups: 1, keys.topk_groups: 1}
    if unloaded and keys.mtp_layers and keys.mtp_layers in config:
        config[keys.mtp_layers] = 0
    return config


def prune(folder: Path, plan: Plan, output: Path, ragged: bool = False) -> Path:
    """Write the cut checkpoint as an ordinary Hugging Face folder, with the plan as ``slimmoe.json``.

    A plan with different counts by layer is padded to the largest with experts that are never chosen. Tensors that
    transformers does not load (multi-token prediction) are left out, and named in ``slimmoe.json``.

    Args:
        ragged: do not pad: write each layer with its own count, for ONNX and ``prune.loading.load_model`` alone.

    Raises:
        RequestError: the plan does not fit the model, or ``output`` holds something already.
        WorkError: a tensor is missing or unknown, or the disk is full.
    """
    checkpoint = Checkpoint(folder)
    check_plan(checkpoint, plan)
    shape = cut_shape(checkpoint, plan, ragged)
    pieces, unloaded = _pieces(checkpoint, shape)
    shards: dict[Path, list[_Piece]] = defaultdict(list)
    for piece in sorted(pieces, key=lambda piece: checkpoint.tensors[piece.source].start):
        shards[checkpoint.tensors[piece.source].path].append(piece)
    total = sum(_size(checkpoint, piece) for piece in pieces)
    require_space(output, total)
    with new_folder(output) as temporary:
        for pattern in _COPIED:
            for path in checkpoint.folder.glob(pattern):
                shutil.copyfile(path, temporary / path.name)
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(sorted(shards), 1):
            name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
            _write_shard(checkpoint, shards[shard], temporary / name)
            weight_map |= {piece.name: name for piece in shards[shard]}
        index = temporary / "model.safetensors.index.json"
        index.unlink(missing_ok=True)
        if len(shards) > 1:
            index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1))
        config = _new_config(checkpoint, plan, shape, unloaded)
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        about = plan.to_dict() | {"ragged": shape.ragged, "left_out": sorted(unloaded)}
        write_provenance(temporary, Provenance.from_dict(about))
    return output
