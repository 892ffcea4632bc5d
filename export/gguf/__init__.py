"""GGUF: a Hugging Face folder becomes one file that any llama.cpp loads. Conversion and types are llama.cpp's own."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from export.gguf.convert import convert
from export.gguf.provenance import provenance
from export.gguf.quantise import find_type, quantise
from prune.checkpoint import Checkpoint
from runtime.errors import RequestError, WorkError
from runtime.files import new_file, require_space

_PLAIN = {"F32": 4, "F16": 2, "BF16": 2}  # types that the converter writes by itself; bytes per weight
_QUANTISED_BYTES = 1.1  # per weight, at most: Q8_0 has 8.5 bits, and routers and norms stay in float32


def _provenance(folder: Path) -> dict[str, Any]:
    """What ``slimmoe.json`` tells of the cut, as GGUF keys; nothing for a model that slimmoe did not cut."""
    path = folder / "slimmoe.json"
    if not path.exists():
        return {}
    try:
        return provenance(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError):
        raise WorkError(f"{path} is not a readable plan.") from None


def _lossless_type(checkpoint: Checkpoint) -> str:
    """The smallest plain type that holds every weight of the checkpoint unchanged."""
    dtypes = {tensor.dtype for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1}
    if "F32" in dtypes or {"F16", "BF16"} <= dtypes:
        return "F32"
    return "F16" if "F16" in dtypes else "BF16"


def export_gguf(folder: Path, output: Path, quant: str, imatrix: Path | None = None) -> Path:
    """Convert a checkpoint and quantise it; ``output`` appears whole or not at all, and is returned.

    The choice of types is the same for every number of experts, so that a sweep over ratios compares like with like.

    Args:
        folder: a Hugging Face folder; its ``slimmoe.json``, if any, goes into the file as keys ``slimmoe.*``.
        quant: llama.cpp's name of the type: F32, F16, BF16, Q8_0, Q4_K_M, IQ4_XS, ...
        imatrix: importance matrix of this very model, as llama-imatrix writes it.

    Raises:
        RequestError: no such folder, model family, type or importance matrix.
        WorkError: llama.cpp is not built, refuses the model, or there is no disk space.
    """
    folder, output = Path(folder), Path(output)
    quant = find_type(quant)
    checkpoint = Checkpoint(folder)
    if reason := checkpoint.family.gguf.refused:
        raise RequestError(f"{folder} has no GGUF: {reason}.")
    if imatrix is not None and not imatrix.is_file():
        raise RequestError(f"There is no importance matrix {imatrix}.")
    if len(set(checkpoint.moe_layers.values())) > 1:
        raise RequestError(
            f"{folder} has different numbers of experts by layer, and a GGUF file holds one number for all.",
            next_command=f"slimmoe onnx {folder} -o DIR   (or a plan with --allocation uniform)",
        )
    keys = _provenance(folder)
    plain = quant if quant in _PLAIN else _lossless_type(checkpoint)
    weights = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    require_space(output, int(weights * (_PLAIN[plain] + (quant != plain) * _QUANTISED_BYTES)))
    with new_file(output) as temporary, tempfile.TemporaryDirectory(prefix=".gguf.", dir=temporary.parent) as work:
        converted = Path(work) / "plain.gguf"
        convert(checkpoint, converted, plain, keys)
        if quant == plain:
            converted.replace(temporary)
        else:
            quantise(converted, temporary, quant, imatrix)
    return output
