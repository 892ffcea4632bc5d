"""Cut a checkpoint by a plan: bytes are copied from file to file; never more than one tensor is in memory."""

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prune.checkpoint import Checkpoint
from prune.plan import Plan
from runtime.errors import RequestError, WorkError
from runtime.files import new_folder, require_space

# Everything else in a model folder (READMEs, caches, other formats) describes the source, not the cut model.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")


@dataclass(frozen=True)
class _Piece:
    """One tensor of the output: ``rows`` of ``source`` (all of it where None)."""

    name: str
    source: str
    rows: list[int] | None = None


def _pieces(checkpoint: Checkpoint, plan: Plan) -> Iterator[_Piece]:
    """Account for every tensor: copied, sliced, renamed or dropped; anything that fits no rule is an error."""
    family, left = checkpoint.family, dict(checkpoint.tensors)
    missing: list[str] = []

    def take(name: str) -> bool:
        if left.pop(name, None) is None:
            missing.append(name)
            return False
        return True

    for layer in plan.layers:
        new_id = {expert: i for i, expert in enumerate(layer.keep)}
        router = family.router.format(layer=layer.layer)
        if take(router):
            yield _Piece(router, router, layer.keep)
        for pattern in family.experts:
            if "{expert}" not in pattern:  # all experts in one tensor, outermost axis
                name = pattern.format(layer=layer.layer)
                if take(name):
                    yield _Piece(name, name, layer.keep)
                continue
            for expert in range(layer.experts):
                name = pattern.format(layer=layer.layer, expert=expert)
                if take(name) and expert in new_id:
                    yield _Piece(pattern.format(layer=layer.layer, expert=new_id[expert]), name)
    if missing:
        raise WorkError(f"{checkpoint.folder} lacks {len(missing)} expert tensors, first {missing[0]}.")
    strange = [name for name in left if ".experts." in name]
    if strange:
        raise WorkError(
            f"{len(strange)} expert tensors are not described by the family file: {', '.join(strange[:5])}."
        )
    for name in left:
        yield _Piece(name, name)


def _check(checkpoint: Checkpoint, plan: Plan) -> None:
    if plan.fingerprint != checkpoint.fingerprint:
        raise RequestError(
            f"The plan was made for another model ({plan.model}), not for {checkpoint.folder}.",
            next_command=f"slimmoe calibrate {checkpoint.folder} --pair {plan.pair} -o stats.safetensors",
        )
    if {layer.layer: layer.experts for layer in plan.layers} != checkpoint.moe_layers:
        raise RequestError("The plan's layers are not the model's layers.")
    for layer in plan.layers:
        valid = (
            layer.keep
            and layer.keep == sorted(set(layer.keep))
            and 0 <= layer.keep[0] <= layer.keep[-1] < layer.experts
        )
        if not valid:
            raise RequestError(f"The plan's keep-list of layer {layer.layer} is empty, unsorted or out of range.")
    if len({len(layer.keep) for layer in plan.layers}) > 1:
        raise RequestError("The plan keeps different counts in different layers; a checkpoint has one count.")


def _row_bytes(checkpoint: Checkpoint, name: str) -> int:
    tensor = checkpoint.tensors[name]
    return (tensor.stop - tensor.start) // tensor.shape[0]


def _write_shard(checkpoint: Checkpoint, pieces: list[_Piece], path: Path) -> None:
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}  # type: ignore[dict-item]
    offset = 0
    for piece in pieces:
        tensor = checkpoint.tensors[piece.source]
        shape, size = list(tensor.shape), tensor.stop - tensor.start
        if piece.rows is not None:
            shape[0] = len(piece.rows)
            size = len(piece.rows) * _row_bytes(checkpoint, piece.source)
        header[piece.name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned, as safetensors' own writer has it
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for piece in pieces:
            raw = checkpoint.raw(piece.source)
            if piece.rows is None:
                file.write(raw)
            else:
                row = _row_bytes(checkpoint, piece.source)
                for index in piece.rows:
                    file.write(raw[index * row : (index + 1) * row])


def _new_config(checkpoint: Checkpoint, plan: Plan) -> dict:
    config = dict(checkpoint.config)
    for key in checkpoint.family.count_keys:
        if key in config:
            config[key] = len(plan.layers[0].keep)
    config[checkpoint.family.top_k_key] = plan.top_k
    return config


def prune(folder: Path, plan: Plan, output: Path) -> Path:
    """Write the cut checkpoint as an ordinary Hugging Face folder, with the plan as ``slimmoe.json``.

    Raises:
        RequestError: the plan does not fit the model, or ``output`` holds something already.
        WorkError: a tensor is missing or unknown, or the disk is full.
    """
    checkpoint = Checkpoint(folder)
    _check(checkpoint, plan)
    pieces = list(_pieces(checkpoint, plan))
    order = {name: i for i, name in enumerate(checkpoint.tensors)}
    shards: dict[str, list[_Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: order[piece.source]):
        shards.setdefault(checkpoint.tensors[piece.source].shard, []).append(piece)
    share = sum(len(layer.keep) for layer in plan.layers) / sum(layer.experts for layer in plan.layers)
    total = sum(t.stop - t.start for t in checkpoint.tensors.values())
    require_space(output, int(total * min(1.0, share + 0.05)))
    with new_folder(output) as temporary:
        for pattern in _COPIED:
            for path in checkpoint.folder.glob(pattern):
                shutil.copyfile(path, temporary / path.name)
        names = list(shards)
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(names, 1):
            name = "model.safetensors" if len(names) == 1 else f"model-{number:05}-of-{len(names):05}.safetensors"
            _write_shard(checkpoint, shards[shard], temporary / name)
            weight_map |= {piece.name: name for piece in shards[shard]}
        index = temporary / "model.safetensors.index.json"
        index.unlink(missing_ok=True)
        if len(names) > 1:
            size = sum((temporary / name).stat().st_size for name in set(weight_map.values()))
            index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=1))
        (temporary / "config.json").write_text(json.dumps(_new_config(checkpoint, plan), indent=2) + "\n")
        plan.save(temporary / "slimmoe.json")
    return output
