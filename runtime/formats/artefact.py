"""What an artefact says about itself: its weight type and where it comes from."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.kinds import kind_of, snapshot_of
from runtime.formats.onnx_folder import graph_file
from runtime.formats.provenance import Provenance, gguf_provenance, read_provenance

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
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(file.get("general.file_type")).name
    except ValueError:
        sizes = Counter[str]()
        for tensor in file.tensors.values():
            sizes[tensor.type.name] += math.prod(tensor.shape)
        return next((name for name, _ in sizes.most_common(1)), "-")
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


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
    """The pair that an artefact or checkpoint was cut for, or several (``en-de + de-en``); empty where it says nothing."""
    return provenance_of(artefact).pair


def _artefacts_in(folder: Path) -> list[Path]:
    """GGUF files and ONNX folders directly in a folder, GGUF first."""
    return [*sorted(folder.glob("*.gguf")), *sorted(each.parent for each in folder.glob("*/onnx") if each.is_dir())]


def find_artefact(path: Path, checkpoint: bool = False) -> Path:
    """An artefact, or the one that a folder holds: of a run's only cut, the GGUF file before the ONNX folder.

    Args:
        checkpoint: a checkpoint's folder will do as well.

    Raises:
        RequestError: a folder without artefacts, or with those of several cuts; a file that is none.
    """
    path = snapshot_of(Path(path))
    kind = kind_of(path)
    if kind == "gguf" and path.suffix != ".gguf":
        raise RequestError(
            f"{path} is a GGUF file, and its name does not say so.", next_command=f"ln -s {path.name} {path}.gguf"
        )
    if kind not in ("folder", "checkpoint") or (kind == "checkpoint" and checkpoint):
        return path
    if here := _artefacts_in(path):
        return here[0]
    if kind == "checkpoint":
        raise RequestError(
            f"{path} is a checkpoint's folder, and what runs is a GGUF file or an ONNX folder.",
            next_command=f"slimmoe gguf {path} -o FILE.gguf   (or slimmoe onnx {path} -o DIR)",
        )
    cuts = {each: found for each in sorted(path.iterdir()) if each.is_dir() and (found := _artefacts_in(each))}
    several = {each: found for each, found in cuts.items() if each.name != "unpruned"} or cuts
    if len(several) == 1:
        return next(iter(several.values()))[0]
    if not several:
        raise RequestError(f"{path} holds no GGUF file and no ONNX folder.", next_command=f"ls {path}")
    names = ", ".join(each.name for each in several)
    raise RequestError(f"{path} holds several models: {names}.", next_command=f"the same with {next(iter(several))}")
