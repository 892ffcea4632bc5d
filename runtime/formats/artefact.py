"""What an artefact says about itself: its weight type and where it comes from."""

import json
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.onnx_folder import graph_file

_ONNX_TYPES = {"model_q4": "int4", "model_int8": "int8", "model_fp16": "f16", "model": "f32"}


def files_of(artefact: Path) -> list[Path]:
    """What is loaded or shipped of it: a GGUF file, one graph with its data beside it, or all of an ONNX folder."""
    if artefact.is_dir():
        return [path for path in sorted(artefact.rglob("*")) if path.is_file()]
    if artefact.suffix == ".onnx":
        return [artefact, *artefact.parent.glob(f"{artefact.name}_*")]
    return [artefact]


def _from_gguf(artefact: Path) -> tuple[str, dict[str, Any]]:
    from gguf import GGUFReader, LlamaFileType

    fields = GGUFReader(artefact).fields
    found = {key.removeprefix("slimmoe."): fields[key].contents() for key in fields if key.startswith("slimmoe.")}
    name = LlamaFileType(int(fields["general.file_type"].contents())).name
    return name.removeprefix("MOSTLY_").removeprefix("ALL_"), found


def describe(artefact: Path) -> dict[str, Any]:
    """``{"type": ..., "provenance": {...}}``; provenance is empty for a model that slimmoe did not cut."""
    if artefact.suffix == ".gguf":
        kind, found = _from_gguf(artefact)
    else:
        file = graph_file(artefact)
        kind, path = _ONNX_TYPES.get(file.stem, file.stem), file.parent.parent / "slimmoe.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = ("plan", "hash", "pair", "criterion", "allocation", "ratio")
    provenance = {name: found[name] for name in names if name in found}
    if found.get("recovery") or found.get("recovered"):
        provenance["recovered"] = True
    return {"type": kind, "provenance": provenance}


def _artefacts_in(folder: Path) -> list[Path]:
    """GGUF files and ONNX folders directly in a folder, GGUF first."""
    return [*sorted(folder.glob("*.gguf")), *sorted(each.parent for each in folder.glob("*/onnx") if each.is_dir())]


def find_artefact(path: Path) -> Path:
    """An artefact, or the one that a run's folder holds: of its only cut, the GGUF file before the ONNX folder.

    Raises:
        RequestError: a folder without artefacts, or with those of several cuts.
    """
    path = Path(path)
    if not path.is_dir() or (path / "onnx").is_dir() or (path / "config.json").exists():
        return path
    if here := _artefacts_in(path):
        return here[0]
    cuts = {each: found for each in sorted(path.iterdir()) if each.is_dir() and (found := _artefacts_in(each))}
    several = {each: found for each, found in cuts.items() if each.name != "unpruned"} or cuts
    if len(several) == 1:
        return next(iter(several.values()))[0]
    if not several:
        raise RequestError(f"{path} holds no GGUF file and no ONNX folder.", next_command=f"ls {path}")
    names = ", ".join(each.name for each in several)
    raise RequestError(f"{path} holds several models: {names}.", next_command=f"the same with {next(iter(several))}")
