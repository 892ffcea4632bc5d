"""What an artefact says about itself: its weight type and where it comes from."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_types import FILE_TYPES
from runtime.formats.kinds import kind_of, snapshot_of
from runtime.formats.onnx_folder import graph_file
from runtime.formats.provenance import Provenance, gguf_provenance, read_provenance
from runtime.formats.store import stored_folder, told_pair

_ONNX_TYPES = {"model_q4": "int4", "model_int8": "int8", "model_fp16": "f16", "model": "f32"}


def files_of(artefact: Path) -> list[Path]:
    """What is loaded or shipped of it: all parts of a GGUF file, one graph with its data beside it, or all of a folder.

    Raises:
        RequestError, WorkError: a GGUF file that is not there or damaged.
    """
    if artefact.is_dir():
        return [path for path in sorted(artefact.rglob("*")) if path.is_file()]
    if artefact.suffix == ".onnx":
        return [artefact, *artefact.parent.glob(f"{artefact.name}_*")]
    return GgufFile(artefact).parts if artefact.suffix == ".gguf" else [artefact]


def _gguf_type(file: GgufFile) -> str:
    """The name of the file's type; where it does not tell a known one, the type of most weights."""
    number = file.get("general.file_type")
    if isinstance(number, int) and number in FILE_TYPES:
        return FILE_TYPES[number]
    sizes = Counter[str]()
    for tensor in file.tensors.values():
        sizes[tensor.type.name] += math.prod(tensor.shape)
    return next((name for name, _ in sizes.most_common(1)), "-")


def describe(artefact: Path) -> dict[str, Any]:
    """``{"type": ..., "provenance": {...}}``; provenance is empty for a model that slimmoe did not cut.

    Raises:
        RequestError: there is no such artefact.
        WorkError: the GGUF file or the folder's ``slimmoe.json`` is damaged.
    """
    if artefact.suffix == ".gguf":
        file = GgufFile(artefact)
        kind, provenance = _gguf_type(file), gguf_provenance(artefact, file.get)
    else:
        graph = graph_file(artefact)
        kind, provenance = _ONNX_TYPES.get(graph.stem, graph.stem), provenance_of(artefact)
    return {"type": kind, "provenance": provenance.row() if provenance and provenance.is_cut else {}}


def provenance_of(artefact: Path) -> Provenance:
    """What an artefact or checkpoint says of where it comes from; empty where slimmoe did not cut it.

    Raises:
        RequestError: there is no such artefact.
        WorkError: the GGUF file or the folder's ``slimmoe.json`` is damaged.
    """
    if artefact.suffix == ".gguf":
        return gguf_provenance(artefact, GgufFile(artefact).get) or Provenance()
    folder = artefact if artefact.is_dir() and not (artefact / "onnx").is_dir() else graph_file(artefact).parent.parent
    return read_provenance(folder) or Provenance()


def pair_of(artefact: Path) -> str:
    """The pair that an artefact or checkpoint was cut for, or several (``en-de + de-en``); empty where it says nothing.

    Of a stored model that says nothing, the pair that it was stored for.
    """
    folder = {".gguf": artefact.parent, ".onnx": artefact.parent.parent}.get(artefact.suffix, artefact)
    return provenance_of(artefact).pair or told_pair(folder)


def _artefacts_in(folder: Path) -> list[Path]:
    """GGUF files and ONNX folders directly in a folder, GGUF first."""
    return [*sorted(folder.glob("*.gguf")), *sorted(each.parent for each in folder.glob("*/onnx") if each.is_dir())]


def _first(found: list[Path], prefer_onnx: bool) -> Path:
    return next((each for each in found if prefer_onnx and each.is_dir()), found[0])


def is_model(word: str) -> bool:
    """Whether a word of a command is the path of a model, of a folder with one directly in it, or of a run's folder."""
    path = snapshot_of(Path(word))
    kind = kind_of(path)
    if kind == "nothing":
        return path.suffix == ".onnx"
    if kind == "onnx" and path.is_dir():
        return any((path / name).exists() for name in ("tokenizer.json", "config.json")) or any(
            path.glob("onnx/*.onnx")
        )
    if kind == "checkpoint":
        return any(path.glob("*.safetensors*")) or bool(_artefacts_in(path))
    if kind == "folder":
        return (path / "run.json").exists() or bool(_artefacts_in(path))
    return kind != "file"


def find_artefact(path: Path, checkpoint: bool = False, prefer_onnx: bool = False) -> Path:
    """An artefact, the one that a folder holds (of a run's only cut, the GGUF file before the ONNX folder), or a stored one.

    Args:
        path: what is there counts before the name of a stored model.
        checkpoint: a checkpoint's folder will do as well.
        prefer_onnx: take the ONNX folder before the GGUF file.

    Raises:
        RequestError: a folder without artefacts, or with those of several cuts; a file that is none.
    """
    path = snapshot_of(Path(path))
    kind = kind_of(path)
    if kind == "nothing" and (stored := stored_folder(str(path))):
        path, kind = stored, kind_of(stored)
    if kind == "gguf" and path.suffix != ".gguf":
        raise RequestError(
            f"{path} is a GGUF file, and its name does not say so.", next_command=f"ln -s {path.name} {path}.gguf"
        )
    if kind not in ("folder", "checkpoint") or (kind == "checkpoint" and checkpoint):
        return path
    if here := _artefacts_in(path):
        return _first(here, prefer_onnx)
    if kind == "checkpoint":
        raise RequestError(
            f"{path} is a checkpoint's folder, and what runs is a GGUF file or an ONNX folder.",
            next_command=f"slimmoe gguf {path} -o FILE.gguf   (or slimmoe onnx {path} -o DIR)",
        )
    cuts = {each: found for each in sorted(path.iterdir()) if each.is_dir() and (found := _artefacts_in(each))}
    several = {each: found for each, found in cuts.items() if each.name != "unpruned"} or cuts
    if len(several) == 1:
        return _first(next(iter(several.values())), prefer_onnx)
    if not several:
        raise RequestError(f"{path} holds no GGUF file and no ONNX folder.", next_command=f"ls {path}")
    names = ", ".join(each.name for each in several)
    raise RequestError(f"{path} holds several models: {names}.", next_command=f"the same with {next(iter(several))}")
