"""Quantised twins of tiny checkpoints, written as their formats' publishers do, with the floats that they stand for.

Nothing of the package is used: integers and scales are chosen first, the floats computed from them in plain torch, and
only then are they packed.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import VOCABULARY, write_tiny_checkpoint

Parts = dict[str, Tensor]  # by the end of the name, which replaces the end ".weight" where it begins with a dot
Quantise = Callable[[Tensor], tuple[Parts, Tensor]]
LINEAR = re.compile(r"(_proj|_proj_with_mqa|\.w[123])(\.weight)?$")
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])


def _grouped(weight: Tensor, size: int) -> Tensor:
    return weight.reshape(len(weight), -1, size)


def _scales(weight: Tensor, size: int, most: float) -> Tensor:
    """One for each ``size`` columns of a row [rows, groups]."""
    return _grouped(weight, size).abs().amax(-1).clamp(min=1e-6) / most


def _words(numbers: Tensor, bits: int, axis: int) -> Tensor:
    """Numbers as 32-bit words along an axis, the first in the lowest bits."""
    numbers = numbers.movedim(axis, -1).to(torch.int64)
    numbers = numbers.reshape(*numbers.shape[:-1], -1, 32 // bits)
    words = sum(numbers[..., i] << (bits * i) for i in range(32 // bits))
    assert isinstance(words, Tensor)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32).movedim(-1, axis).contiguous()


def fp8_blocks(weight: Tensor, size: int = 48) -> tuple[Parts, Tensor]:
    scales = torch.stack([torch.stack([b.abs().max() / 448 for b in row.split(size, 1)]) for row in weight.split(size)])
    spread = scales.repeat_interleave(size, 0)[: len(weight)].repeat_interleave(size, 1)[:, : weight.shape[1]]
    codes = (weight / spread).to(torch.float8_e4m3fn)
    return {"": codes, "_scale_inv": scales}, codes.float() * spread


def fp8_tensor(weight: Tensor) -> tuple[Parts, Tensor]:
    scale = weight.abs().max() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    return {"": codes, "_scale": scale.reshape(()), ".input_scale": torch.ones(())}, codes.float() * scale


def fp8_static(weight: Tensor) -> tuple[Parts, Tensor]:
    """One scale for a weight, or for each of stacked experts [E, 1, 1], and one for what it gets."""
    scales = weight.abs().amax(dim=(-2, -1), keepdim=True) / 448
    codes, stacked = (weight / scales).to(torch.float8_e4m3fn), weight.dim() == 3
    gets = {"_activation_scale": torch.ones(len(weight))} if stacked else {".activation_scale": torch.ones(())}
    return {"": codes, "_scale_inv": scales if stacked else scales.reshape(())} | gets, codes.float() * scales


def scaled_rows(kind: torch.dtype) -> Quantise:
    def quantise(weight: Tensor) -> tuple[Parts, Tensor]:
        scales = _scales(weight, weight.shape[1], 448 if kind.is_floating_point else 127).bfloat16().float()
        codes = weight / scales
        codes = codes.to(kind) if kind.is_floating_point else codes.round().clamp(-128, 127).to(kind)
        return {"": codes, "_scale": scales.bfloat16()}, codes.float() * scales

    return quantise


def packed(size: int | None, bits: int = 4, zero_points: bool = False) -> Quantise:
    """compressed-tensors' pack-quantized; without ``size`` one scale for each row."""

    def quantise(weight: Tensor) -> tuple[Parts, Tensor]:
        group, half = size or weight.shape[1], 1 << (bits - 1)
        scales = _scales(weight, group, half - 1).bfloat16().float()
        zeros = torch.full_like(scales, half)
        if zero_points:
            zeros += torch.arange(scales.numel()).reshape(scales.shape) % 3 - 1
        numbers = (_grouped(weight, group) / scales[..., None]).round() + zeros[..., None]
        numbers = numbers.clamp(0, 2 * half - 1)
        floats = ((numbers - zeros[..., None]) * scales[..., None]).reshape(weight.shape)
        parts = {
            "_packed": _words(numbers.reshape(weight.shape), bits, 1),
            "_scale": scales.bfloat16(),
            "_shape": torch.tensor(weight.shape),
        }
        return parts | ({"_zero_point": _words(zeros, bits, 0)} if zero_points else {}), floats

    return quantise


def gptq(weight: Tensor, size: int = 32) -> tuple[Parts, Tensor]:
    scales = _scales(weight, size, 7).half().float()
    zeros = 7 + torch.arange(scales.numel()).reshape(scales.shape) % 3
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(0)) // size  # as desc_act leaves it
    numbers = ((weight / scales[:, order]).round() + zeros[:, order]).clamp(0, 15)
    floats = (numbers - zeros[:, order]) * scales[:, order]
    parts = {
        ".qweight": _words(numbers.T, 4, 0), ".qzeros": _words(zeros.T - 1, 4, 1), ".scales": scales.T.half(),
        ".g_idx": order.int(),
    }  # fmt: skip
    return parts, floats


def awq(weight: Tensor, size: int = 32) -> tuple[Parts, Tensor]:
    scales = _scales(weight, size, 7).half().float()
    zeros = 7 + torch.arange(scales.numel()).reshape(scales.shape) % 3
    spread = [each.repeat_interleave(size, 1) for each in (scales, zeros)]
    numbers = ((weight / spread[0]).round() + spread[1]).clamp(0, 15)

    def pack(values: Tensor) -> Tensor:
        """Rows become columns; of eight neighbours the order in a word is the format's."""
        columns = values.T.reshape(values.shape[1], -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]]
        return _words(columns.reshape(values.shape[1], -1), 4, 1)

    floats = (numbers - spread[1]) * spread[0]
    return {".qweight": pack(numbers), ".qzeros": pack(zeros), ".scales": scales.T.half()}, floats


def mxfp4(weight: Tensor) -> tuple[Parts, Tensor]:
    """gpt-oss: [experts, columns, rows], of which blocks lie along the columns."""
    rows = weight.mT.reshape(*weight.mT.shape[:-1], -1, 32)
    exponents = (rows.abs().amax(-1).clamp(min=1e-9) / 6).log2().ceil()
    codes = (rows[..., None] / 2 ** exponents[..., None, None] - FP4).abs().argmin(-1)
    floats = (FP4[codes] * 2 ** exponents[..., None]).reshape(weight.mT.shape).mT
    blocks = (codes[..., ::2] | codes[..., 1::2] << 4).to(torch.uint8)
    return {"_blocks": blocks, "_scales": (exponents + 127).to(torch.uint8)}, floats


@dataclass(frozen=True)
class Twin:
    """A format: how a weight is quantised, and what config.json says."""

    quantise: Quantise
    config: dict[str, Any]
    family: str = "qwen3_moe"
    changes: dict[str, Any] = field(default_factory=dict)


def _compressed(kind: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, "dynamic": False} | weights}
    return {
        "quant_method": "compressed-tensors", "format": kind, "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*mlp.gate$"], "config_groups": {"group_0": group},
    }  # fmt: skip


# What gpt-oss-20b's config.json says; layers, widths and counts are those of the tiny model.
GPT_OSS = {
    "attention_bias": True, "swiglu_limit": 7.0, "max_position_embeddings": 131072, "head_dim": 64,
    "layer_types": ["sliding_attention", "full_attention"], "router_aux_loss_coef": 0.9,
    "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 4096, "truncate": False,
    },
    "intermediate_size": 64,
}  # fmt: skip
_MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
_FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
TWINS = {
    "mxfp4": Twin(mxfp4, _MXFP4, "gpt_oss", GPT_OSS),
    "fp8 blocks": Twin(fp8_blocks, _FP8 | {"weight_block_size": [48, 48]}),
    "fp8 blocks, groups": Twin(
        fp8_blocks, _FP8 | {"weight_block_size": [48, 48]}, "deepseek_v3", {"moe_intermediate_size": 64}
    ),
    "fp8 tensor": Twin(fp8_tensor, _FP8),
    "fp8 stacked": Twin(fp8_static, _FP8 | {"activation_scheme": "static", "weight_block_size": None}, "mistral4"),
    "fp8 rows": Twin(scaled_rows(torch.float8_e4m3fn), {"quant_method": "fbgemm_fp8"}),
    "ct int4 groups": Twin(packed(32), _compressed("pack-quantized", num_bits=4, strategy="group", group_size=32)),
    "ct int4 rows": Twin(packed(None), _compressed("pack-quantized", num_bits=4, strategy="channel")),
    "ct int4 zeros": Twin(
        packed(32, zero_points=True),
        _compressed("pack-quantized", num_bits=4, strategy="group", group_size=32, symmetric=False),
    ),
    "ct int8 packed": Twin(packed(64, 8), _compressed("pack-quantized", num_bits=8, strategy="group", group_size=64)),
    "ct int8": Twin(scaled_rows(torch.int8), _compressed("int-quantized", num_bits=8, strategy="channel")),
    "ct fp8": Twin(
        scaled_rows(torch.float8_e4m3fn), _compressed("float-quantized", num_bits=8, type="float", strategy="channel")
    ),
    "gptq": Twin(gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False}),
    "awq": Twin(awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}),
}  # fmt: skip


def _is_quantised(name: str, config: dict[str, Any]) -> bool:
    """Whether a publisher quantises the weight of that name: those of linear layers, without the ones that he names."""
    if config["quant_method"] == "mxfp4":
        return name.endswith(("gate_up_proj", "down_proj"))
    module = name.removesuffix(".weight")
    spared = [*(config.get("ignore") or []), *(config.get("modules_to_not_convert") or [])]
    return LINEAR.search(name) is not None and not any(
        re.match(each[3:], module) if each.startswith("re:") else module == each or module.endswith(f".{each}")
        for each in spared
    )


def quantised(
    tensors: dict[str, Tensor], quantise: Quantise, config: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors as a checkpoint with such a ``quantization_config`` stores them, and the floats that they stand for."""
    stored, floats = {}, {}
    for name, tensor in tensors.items():
        if not _is_quantised(name, config):
            stored[name], floats[name] = tensor, tensor.float()
            continue
        parts, floats[name] = quantise(tensor.float())
        for end, part in parts.items():
            stored[name.removesuffix(".weight" if end.startswith(".") else "") + end] = part
    return stored, floats


def quantise_of(config: dict[str, Any]) -> Quantise:
    """How weights are quantised of which a published ``quantization_config`` says so."""
    method = config["quant_method"]
    if method == "mxfp4":
        return mxfp4
    if method == "fp8" and not config["weight_block_size"]:
        return fp8_static
    if method == "fp8":
        return partial(fp8_blocks, size=config["weight_block_size"][0])
    assert method == "compressed-tensors"
    ((_, group),) = config["config_groups"].items()
    weights = group["weights"]
    if weights["type"] == "float":
        return scaled_rows(torch.float8_e4m3fn)
    return packed(weights["group_size"], weights["num_bits"])


def write_twin(kind: str, folder: Path) -> dict[str, Tensor]:
    """Write the checkpoint ``folder``, and its twin of plain floats in float32 beside it as ``<folder>-floats``.

    Returns:
        all tensors as floats, by the names of an unquantised checkpoint.
    """
    twin, floats_folder = TWINS[kind], folder.with_name(f"{folder.name}-floats")
    source = write_tiny_checkpoint(
        folder.with_name(f".{folder.name}"), twin.family, **{"vocab_size": VOCABULARY} | twin.changes
    )
    tensors = {name: tensor for path in source.glob("*.safetensors") for name, tensor in load_file(path).items()}
    stored, floats = quantised(tensors, twin.quantise, twin.config)
    config = json.loads((source / "config.json").read_text())
    for target, content, more in (
        (folder, stored, {"quantization_config": twin.config}),
        (floats_folder, floats, {"dtype": "float32"}),
    ):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors*"))
        (target / "config.json").write_text(json.dumps(config | more))
        save_file(
            {name: tensor.contiguous() for name, tensor in content.items()},
            target / "model.safetensors",
            {"format": "pt"},
        )
    shutil.rmtree(source)
    return floats
