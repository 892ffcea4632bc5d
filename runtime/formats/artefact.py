"""What an artefact says about itself: its weight type and where it comes from."""

import json
from pathlib import Path
from typing import Any

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
