"""The writer of pruned checkpoints: shards of safetensors, their index, and the config with its new counts."""

import json
import re
import shutil
import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from prune.moe_model import TensorPlace
from prune.plan.plan import Plan
from prune.rewrite.pieces import Piece, cut, write_data
from prune.rewrite.shape import Shape, check_plan, cut_shape, whole_shape
from prune.rewrite.text_only import beside, check_text_only, is_of_others, own_name, text_config
from prune.rewrite.vocabulary import LEFT_OUT, cut_rows, renumber_config, renumber_files, with_tokens
from prune.vocabulary.selection import Selection
from runtime.errors import WorkError
from runtime.formats.copying import write_all
from runtime.formats.files import new_folder, require_space
from runtime.formats.model_folder import INDEX, SINGLE, own_file
from runtime.formats.provenance import Provenance, read_provenance, write_provenance
from runtime.formats.quantised import KEYS

# Everything else in a model folder (READMEs, caches, other formats) describes the source, not the cut model.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
_NOT_COPIED = ("*.index.json", "adapter_config.json", "merged_adapter.json")  # of weights that stay behind


def _check_experts(checkpoint: Checkpoint, places: dict[str, TensorPlace]) -> None:
    """All experts of a layer must be there, with the same tensors each."""
    parts: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for place in places.values():
        if place.layer is not None and place.expert is not None:
            parts[place.layer][place.expert].add(place.part)
    wrong = []
    for layer, found in parts.items():
        count = checkpoint.moe_layers.get(layer) or checkpoint.draft_layers[layer]
        experts, expected = range(count), set().union(*found.values())
        prefix = f"{checkpoint.prefix(layer)} expert"
        wrong += (f"{prefix} {i}: {part}" for i in experts for part in sorted(expected - found[i]))
        wrong += (f"{prefix} {i} is one too many" for i in found if i not in experts)
    if wrong:
        raise WorkError(f"{checkpoint.folder} lacks {len(wrong)} expert tensors: {', '.join(wrong[:20])}.")


def side_files(folder: Path) -> list[Path]:
    """What is copied into the cut.

    Raises:
        WorkError: one of them is a link out of the folder, or no file.
    """
    found = {path.name for pattern in _COPIED for path in folder.glob(pattern) if not path.is_dir()}
    left_out = {path.name for pattern in _NOT_COPIED for path in folder.glob(pattern)}
    return [path for name in sorted(found - left_out) if (path := own_file(folder, name))]


def _write_shard(pieces: list[Piece], path: Path) -> None:
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for piece in pieces:
        content = piece.content
        stop = offset + content.size
        header[piece.name] = {
            "dtype": content.source.dtype, "shape": content.shape, "data_offsets": [offset, stop],
        }  # fmt: skip
        offset = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned, as safetensors' own writer has it
    with path.open("wb", buffering=0) as target:
        write_all(target, struct.pack("<Q", len(text)) + text)
        write_data(pieces, target)


def _new_config(checkpoint: Checkpoint, top_k: int, shape: Shape, without_mtp: bool) -> dict:
    stored, keys = dict(checkpoint.stored_config), checkpoint.family.config
    nested = isinstance(stored.get("text_config"), dict)
    config = dict(stored["text_config"]) if nested else stored
    stored.pop("transformers_weights", None)  # the cut's are where they are looked for anyway

    def put(names: tuple[str, ...], value: int) -> None:
        for name in [name for name in names if name in config] or names[:1]:
            old = config.get(name)
            config[name] = [min(value, each) for each in old] if isinstance(old, list) else value

    put(keys.expert_count, shape.experts)
    if not isinstance(keys.top_k, int):
        put(keys.top_k, top_k)
    if keys.groups and keys.topk_groups and shape.groups != checkpoint.groups:
        config |= {keys.groups: 1, keys.topk_groups: 1}
    if without_mtp and keys.mtp_layers and keys.mtp_layers in config:
        config[keys.mtp_layers] = 0
    for holder in (stored, config) if nested else (config,):
        for key in KEYS:
            if isinstance(holder.get(key), dict):
                kept = {name: _kept_modules(checkpoint, shape, value) for name, value in holder[key].items()}
                holder[key] = kept
    if nested:
        return stored | {"text_config": config}
    if config.get("model_type") != checkpoint.family.model_type:  # known by its class: transformers shall know it, too
        config["model_type"] = checkpoint.family.model_type
        config.pop("auto_map", None)  # of code that is not copied
    return config


def _kept_modules(checkpoint: Checkpoint, shape: Shape, value: Any) -> Any:
    """A list of modules that are quantised otherwise than the rest, without the dropped experts' and with new numbers."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return value
    return [new for name in value for new in _new_names(checkpoint, shape, name)]


def _new_names(checkpoint: Checkpoint, shape: Shape, name: str) -> list[str]:
    """What becomes of a module's name, of which only those of single experts change."""
    for layer, rows in shape.rows.items():
        for pattern in checkpoint.layout.experts:
            before, single, after = pattern.removesuffix(".").partition("{expert}")
            before = re.escape(checkpoint.prefix(layer) + before)
            if single and (found := re.match(rf"({before})(\d+)({re.escape(after)}(\.|$).*)", name)):
                return [f"{found[1]}{new}{found[3]}" for new, row in enumerate(rows) if row == int(found[2])]
    return [name]


def prune_checkpoint(
    folder: Path,
    plan: Plan | None,
    output: Path,
    ragged: bool = False,
    text_only: bool = False,
    vocabulary: Selection | None = None,
) -> Path:
    """``prune.rewrite.prune`` for a checkpoint: an ordinary Hugging Face folder, with the plan as ``slimmoe.json``.

    Layers of multi-token prediction stay where llama.cpp drafts with them, though transformers does not load them. Others
    are left out, and named in ``slimmoe.json``, and so are parts beside the decoder with ``text_only``.
    """
    checkpoint = Checkpoint(folder)
    if text_only:
        check_text_only(checkpoint)
    if plan:
        check_plan(checkpoint, plan)
    shape = cut_shape(checkpoint, plan, ragged) if plan else whole_shape(checkpoint)
    places = {name: checkpoint.place(name) for name in checkpoint.tensors} | checkpoint.draft_places()
    without_mtp = any(place.tensor_role == "unloaded" for place in places.values())
    if text_only:
        places |= dict.fromkeys(beside(checkpoint), TensorPlace("unloaded"))
    left_out = sorted(name for name, place in places.items() if place.tensor_role == "unloaded")
    pieces = cut(checkpoint, places, shape)
    if vocabulary:
        pieces = cut_rows(checkpoint, pieces, vocabulary.keep)
    if text_only:
        pieces = [replace(piece, name=own_name(piece.name)) for piece in pieces]
    _check_experts(checkpoint, places)
    shards: dict[Path, list[Piece]] = defaultdict(list)
    for piece in sorted(pieces, key=lambda piece: piece.content.source.start):
        shards[piece.content.source.path].append(piece)
    total = sum(piece.content.size for piece in pieces)
    require_space(output, total)
    skipped = LEFT_OUT if vocabulary else ()
    copied = [
        path
        for path in side_files(checkpoint.folder)
        if path.name not in skipped and not (text_only and is_of_others(path.name))
    ]
    with new_folder(output) as temporary:
        for path in copied:
            shutil.copyfile(path, temporary / path.name)
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(sorted(shards), 1):
            name = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
            _write_shard(shards[shard], temporary / name)
            weight_map |= {piece.name: name for piece in shards[shard]}
        if len(shards) > 1:
            (temporary / INDEX).write_text(
                json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1)
            )
        config = _new_config(checkpoint, plan.top_k if plan else checkpoint.top_k, shape, without_mtp)
        config = text_config(checkpoint, config) if text_only else config
        if vocabulary:
            rows = checkpoint.config["vocab_size"]
            renumber_files(temporary, vocabulary.keep, rows)
            config = renumber_config(config, {old: new for new, old in enumerate(vocabulary.keep)}, rows)
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_provenance(temporary, _provenance(checkpoint, plan, shape, left_out, vocabulary))
    return output


def _provenance(
    checkpoint: Checkpoint, plan: Plan | None, shape: Shape, left_out: list[str], vocabulary: Selection | None
) -> Provenance:
    """Of a plan; without one that of the source, which may be pruned and recovered already."""
    source = read_provenance(checkpoint.folder) or Provenance()
    about = Provenance.from_dict(plan.to_dict()) if plan else source
    if not plan:
        left_out = sorted({*source.left_out, *left_out})
    about = replace(about, ragged=shape.ragged, left_out=tuple(left_out))
    return with_tokens(about, vocabulary, source, checkpoint.folder)
