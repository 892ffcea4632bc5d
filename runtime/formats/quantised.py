"""Quantised checkpoints: which formats are read, and a checkpoint's tensors as an unquantised one would have them.

A format is a line of FORMATS: by which endings of names the parts of a weight are known, and its two functions in
runtime/formats/dequantise.py. METHODS says which formats a ``quant_method`` of config.json may hold. All else is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import RequestError, WorkError
from runtime.formats import dequantise
from runtime.formats.floats import StoredArray
from runtime.formats.safetensors import SafetensorsTensor

KEYS = ("quantization_config", "compression_config")  # of config.json


@dataclass(frozen=True)
class Format:
    """How a weight is stored in parts, whose names differ by their ends.

    Attributes:
        key: the end by which a weight is found.
        needed, optional: ends of its other parts.
        weight: the end of the floats' name in their place.
        dtype: safetensors' name of the smallest plain type that holds the floats exactly.
    """

    key: str
    needed: tuple[str, ...]
    shape: Callable[[dequantise.Shapes, dequantise.Settings], dequantise.Shape]
    read: Callable[[dequantise.Parts, dequantise.Settings], np.ndarray]
    optional: tuple[str, ...] = ()
    weight: str = ""
    dtype: str = "F32"


MXFP4 = Format("_blocks", ("_scales",), dequantise.shape_mxfp4, dequantise.mxfp4, dtype="BF16")
PACKED = Format("_packed", ("_scale",), dequantise.shape_packed, dequantise.packed, ("_shape", "_zero_point", "_g_idx"))
SCALED_INVERSE = Format("_scale_inv", ("",), dequantise.shape_scaled, dequantise.scaled)
SCALED = Format("_scale", ("",), dequantise.shape_scaled, dequantise.scaled, ("_zero_point",))
GPTQ = Format(".qweight", (".qzeros", ".scales"), dequantise.shape_gptq, dequantise.gptq, (".g_idx",), weight=".weight")
AWQ = Format(".qweight", (".qzeros", ".scales"), dequantise.shape_awq, dequantise.awq, weight=".weight")

METHODS = {
    "mxfp4": (MXFP4,),
    "fp8": (SCALED_INVERSE, SCALED),
    "fbgemm_fp8": (SCALED,),
    "modelopt": (SCALED,),
    "compressed-tensors": (PACKED, SCALED),
    "gptq": (GPTQ,),
    "awq": (AWQ,),
}
_COMPRESSED = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense")
# Scales of activations and of the cache: they are not weights, and nothing here computes in 8 bits with them.
_OF_ACTIVATIONS = (
    ".input_scale", ".input_zero_point", ".input_scale_ub", ".input_global_scale", "activation_scale", ".k_scale",
    ".v_scale", ".q_scale", ".output_scale",
)  # fmt: skip
_NUMBERS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Quantisation:
    """How a checkpoint is quantised.

    Attributes:
        label: for people: ``fp8 in blocks of 128 x 128``.
        settings: ``bits`` of packed numbers, ``block`` of rows and columns with one scale, ``zero_offset`` of zero points.
    """

    label: str
    formats: tuple[Format, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FloatTensor:
    """A tensor as an unquantised checkpoint would have it.

    Attributes:
        dtype: safetensors' name of the smallest plain type that holds its numbers; of an unquantised one, its own.
        parts: what is stored, by the end of its name; of an unquantised one itself, under the empty end.
    """

    shape: tuple[int, ...]
    dtype: str
    parts: dict[str, str]
    format: Format | None = None


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` of the same model with its weights as floats."""
    return {key: value for key, value in config.items() if key not in KEYS}


def quantisation_of(config: Mapping[str, Any], folder: Path) -> Quantisation | None:
    """How the checkpoint in ``folder`` is quantised by its config.json; None where its weights are floats.

    Raises:
        RequestError: in a way that is not read here.
    """
    found = next((config[key] for key in KEYS if config.get(key)), None)
    if found is None:
        return None
    method = str(found.get("quant_method") or found.get("quant_algo") or "").lower() if isinstance(found, dict) else ""
    try:
        if method not in METHODS:
            raise ValueError(_label(method, found))
        return Quantisation(*_details(method, found))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        label = str(error) if isinstance(error, ValueError) else method
        raise RequestError(
            f"{folder} is quantised as {label}, which slimmoe does not read: take the checkpoint that it was made from, or "
            "one in bf16, MXFP4, fp8, compressed-tensors (int4, int8, fp8), GPTQ or AWQ."
        ) from None


def _label(method: str, found: Any) -> str:
    if method == "bitsandbytes":
        return f"bitsandbytes {found.get('bnb_4bit_quant_type', '') if found.get('load_in_4bit') else 'int8'}".strip()
    return method or "something that its config.json does not name"


def _details(method: str, found: dict[str, Any]) -> tuple[str, tuple[Format, ...], dict[str, Any]]:
    """Label, formats and settings.

    Raises:
        ValueError: with the label of what is not read.
    """
    formats = METHODS[method]
    if method == "mxfp4":
        return "MXFP4", formats, {}
    if method == "fp8":
        block = found.get("weight_block_size")
        label = f"fp8 in blocks of {block[0]} x {block[1]}" if block else "fp8"
        return label, formats, {"block": tuple(int(each) for each in block)} if block else {}
    if method == "modelopt":
        algorithm = str(found.get("quant_algo") or (found.get("quantization") or {}).get("quant_algo"))
        if algorithm != "FP8":
            raise ValueError(f"{algorithm} (ModelOpt)")
        return "fp8 (ModelOpt)", formats, {}
    if method == "compressed-tensors":
        return _compressed_tensors(found)
    if method in ("gptq", "awq"):
        bits = int(found.get("bits") or found.get("w_bit") or 4)
        version = str(
            found.get("version", "gemm") if method == "awq" else found.get("checkpoint_format", "gptq")
        ).lower()
        if bits not in ((4,) if method == "awq" else (2, 4, 8)) or version not in ("gemm", "gptq", "gptq_v2"):
            raise ValueError(f"{method.upper()} with {bits} bits ({version})")
        return f"{method.upper()} int{bits}", formats, {"bits": bits, "zero_offset": int(version == "gptq")}
    return method, formats, {}


def _compressed_tensors(found: dict[str, Any]) -> tuple[str, tuple[Format, ...], dict[str, Any]]:
    groups = [group for group in (found.get("config_groups") or {}).values() if group.get("weights")]
    kinds = {group.get("format") or found.get("format") for group in groups}
    weights = [group["weights"] for group in groups]
    label = ", ".join(sorted({f"{each.get('type', 'int')}{each.get('num_bits')}" for each in weights}))
    label = f"compressed-tensors {label}"
    packed = {
        each.get("num_bits")
        for group, each in zip(groups, weights)
        if "pack" in str(group.get("format") or found.get("format"))
    }
    if not kinds <= {*_COMPRESSED} or len(packed) > 1 or not packed <= {2, 4, 8} or found.get("sparsity_config"):
        raise ValueError(f"{label} ({', '.join(sorted(map(str, kinds)))})")
    settings: dict[str, Any] = {"bits": packed.pop()} if packed else {}
    for each in weights:
        if each.get("strategy") == "block" and (block := each.get("block_structure")):
            settings["block"] = tuple(int(n) for n in (block.split("x") if isinstance(block, str) else block))
    return label, METHODS["compressed-tensors"], settings


def float_tensors(
    tensors: Mapping[str, SafetensorsTensor], quantisation: Quantisation | None, folder: Path
) -> dict[str, FloatTensor]:
    """The tensors that the same checkpoint would have unquantised, by name.

    Raises:
        WorkError: a weight lacks a part, or its parts do not belong together.
    """
    if quantisation is None:
        return {name: FloatTensor(tensor.shape, tensor.dtype, {"": name}) for name, tensor in tensors.items()}
    found: dict[str, FloatTensor] = {}
    used: set[str] = set()
    for name in tensors:
        for format in quantisation.formats:
            base = name.removesuffix(format.key)
            if base == name or (format.needed == ("",) and base not in tensors):
                continue
            parts = {format.key: name}
            for end in (*format.needed, *format.optional):
                if base + end in tensors:
                    parts[end] = base + end
                elif end in format.needed:
                    raise WorkError(f"{folder} is incomplete: {name} is there, and {base + end} is not.")
            try:
                shape = format.shape({end: tensors[part].shape for end, part in parts.items()}, quantisation.settings)
            except (ValueError, KeyError):
                raise WorkError(f"{folder} is damaged: {name} has the shape {list(tensors[name].shape)}.") from None
            found[base + format.weight] = FloatTensor(shape, format.dtype, parts, format)
            used |= {*parts.values()}
            break
    for name, tensor in tensors.items():
        if name in used or name.endswith(_OF_ACTIVATIONS):
            continue
        if tensor.dtype not in _NUMBERS and len(tensor.shape) > 1:
            raise WorkError(
                f"{folder} is damaged: {name} is stored as {tensor.dtype} without what {quantisation.label} keeps beside it."
            )
        found[name] = FloatTensor(tensor.shape, tensor.dtype, {"": name})
    return found


def read_slices(
    tensor: FloatTensor,
    stored: Mapping[str, StoredArray],
    settings: Mapping[str, Any],
    name: str,
    row: int | None = None,
) -> Iterator[np.ndarray]:
    """A quantised tensor as float32, in parts: of all experts one at a time [rows, columns], any other at once.

    Args:
        stored: what the parts hold, by their ends.
        row: of an expert, whose part alone is wanted.

    Raises:
        WorkError: the parts do not belong together.
    """
    assert tensor.format
    experts, alone = tensor.shape[:1], {end: part.codes.shape[:1] for end, part in stored.items()}
    try:
        if len(tensor.shape) < 3 or not all(length in (experts, (1,), ()) for length in alone.values()):
            values = _checked(tensor.format.read(stored, settings), tensor.shape)
            yield values if row is None else values[row]
            return
        for i in range(*experts) if row is None else [row]:
            parts = {end: part[i] if alone[end] == experts else part for end, part in stored.items()}
            yield _checked(tensor.format.read(parts, settings), tensor.shape[1:])
    except (ValueError, IndexError) as error:
        raise WorkError(f"{name} is damaged: its parts do not belong together ({error}).") from None


def _checked(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape != shape:
        raise ValueError(f"{list(values.shape)} instead of {list(shape)}")
    return values
