"""Checkpoints as transformers models: loading, choosing a device, and masking experts instead of cutting them."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from prune.architecture import class_of, config_of
from prune.checkpoint import Checkpoint
from prune.repairs import repair
from runtime.errors import SlimmoeError, WorkError

STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_tensor(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """One of ``checkpoint.floats`` in its own type; one that is not quantised lies in the mapped file, not to be changed.

    Raises:
        WorkError: it is damaged, or stored in a type that holds no floats.
    """
    tensor = checkpoint.floats[name]
    if tensor.format is None:
        if tensor.dtype not in STORED:
            raise WorkError(f"{name} is stored as {tensor.dtype}; a bf16, f16 or f32 checkpoint is needed.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mapped bytes cannot be written to, and nobody does
            return torch.frombuffer(checkpoint.raw(name), dtype=STORED[tensor.dtype]).view(tensor.shape)
    result = torch.empty(tensor.shape, dtype=STORED[tensor.dtype])
    for target, values in zip(result if len(tensor.shape) > 2 else result[None], checkpoint.read_slices(name)):
        target.copy_(torch.from_numpy(values))
    return result


def read_expert(checkpoint: Checkpoint, name: str, row: int | None) -> torch.Tensor:
    """One expert's part of a tensor, in the type of ``read_tensor``.

    Args:
        row: [1, ...] of a tensor in which experts are stacked; None: all of a tensor of one expert.
    """
    if row is None:
        return read_tensor(checkpoint, name)
    tensor = checkpoint.floats[name]
    if tensor.format is None:
        return read_tensor(checkpoint, name)[row : row + 1]
    (values,) = checkpoint.read_slices(name, row)
    return torch.from_numpy(np.ascontiguousarray(values))[None].to(STORED[tensor.dtype])


class LazyTensor:
    """One of ``checkpoint.floats`` that is read when it is indexed, with the methods of a slice of an open safetensors file."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name

    def __getitem__(self, index: Any) -> torch.Tensor:
        return read_tensor(self._checkpoint, self._name)[index]

    def get_shape(self) -> list[int]:
        return [*self._checkpoint.floats[self._name].shape]

    def get_dtype(self) -> str:
        return self._checkpoint.floats[self._name].dtype


@contextlib.contextmanager
def refusals_are_sentences(folder: Path) -> Iterator[None]:
    """Within it, whatever transformers raises over a folder's config or weights is a ``WorkError`` with its reason.

    It divides by numbers of the config and looks names up by its texts before it checks them.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, SlimmoeError):
        raise
    except Exception as error:
        told = str(error).strip() or type(error).__name__
        reason = next(line.strip() for line in told.splitlines() if line.strip())
        raise WorkError(
            f"transformers cannot load {folder}: {reason[:200]} ({type(error).__name__}). Its config.json and its tensors "
            "may not belong together."
        ) from error


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A checkpoint folder in evaluation mode, quantised and ragged ones included. No code from the folder is run.

    Args:
        device: ``meta`` reads names and shapes alone.

    Raises:
        RequestError: no such folder, or not an MoE family that we know.
        WorkError: tensors are missing, or transformers refuses them or the config.
    """
    logging.disable_progress_bar()
    checkpoint = Checkpoint(folder)
    with refusals_are_sentences(folder):
        config = config_of(checkpoint)
    model_class = class_of(checkpoint, config)
    if len(set(checkpoint.moe_layers.values())) > 1:
        model_class = _ragged(model_class, checkpoint)
    source: dict[str, Any] = {"pretrained_model_name_or_path": folder, "config": config, "use_safetensors": True}
    if checkpoint.quantisation:
        state = {name: LazyTensor(checkpoint, name) for name in checkpoint.floats}
        source = {"pretrained_model_name_or_path": None, "config": config, "state_dict": state}
    if device.type == "meta":
        source["device_map"] = {"": device}
    with refusals_are_sentences(folder):
        model, report = model_class.from_pretrained(**source, dtype=dtype, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise WorkError(f"{folder} lacks {len(missing)} of the model's tensors: {', '.join(missing[:10])}.")
    if dtype == torch.float64 and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # torch's grouped matrix product has no such kernel
    repair(model)
    return model.to(device).eval()


def _ragged(model_class: Any, checkpoint: Checkpoint) -> Any:
    """``model_class`` whose layers are built with their own number of experts, for the loader to fill."""

    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        model_class.__init__(self, *args, **kwargs)
        for layer, experts in checkpoint.moe_layers.items():
            _shrink(self, checkpoint, layer, experts)

    # The name is written to config.json when the model is saved, and must be the plain one.
    return type(model_class.__name__, (model_class,), {"__init__": build, "__module__": model_class.__module__})


def _shrink(model: nn.Module, checkpoint: Checkpoint, layer: int, experts: int) -> None:
    """Give one layer's router, experts and selection bias ``experts`` places instead of the largest count."""
    largest = max(checkpoint.moe_layers.values())
    router: Any = model.get_submodule(checkpoint.module("router", layer))
    block: Any = model.get_submodule(checkpoint.module("experts", layer))
    for module in (*router.modules(), block):
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.shape and tensor.shape[0] == largest:
                _replace(module, name, tensor[:experts])
        if getattr(module, "num_experts", None) == largest:
            module.num_experts = experts
    for name, _ in list(block.named_children()):  # one module for each expert, numbered
        if (number := re.search(r"\d+$", name)) and int(number[0]) >= experts:
            delattr(block, name)
    if checkpoint.selection_bias:
        path, _, name = checkpoint.module("selection_bias", layer).rpartition(".")
        owner = model.get_submodule(path)
        _replace(owner, name, getattr(owner, name)[..., :experts])


def _replace(module: nn.Module, name: str, values: torch.Tensor) -> None:
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(values.detach().clone(), requires_grad=old.requires_grad))
    else:
        setattr(module, name, values.detach().clone())
