"""Experts that stay smaller than they compute: in memory as they are stored, or in the checkpoint's files.

A layer of gpt-oss-20b has 0.8 billion weights. In bf16 they take 1.6 GB, in float32 3.2 GB, and twice that where the next
layer is read meanwhile. A layer of DeepSeek-V3 has 11.5 billion; in the files it takes no memory of its own.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from prune.checkpoint import Checkpoint
from prune.loading import read_expert
from runtime.formats.safetensors import BITS
from runtime.machine import memory_left

# Where the experts of the layer that is computed are: in memory in the type that computes, while the next layer is read;
# in memory in the type that holds them exactly; in the files.
Place = Literal["computing", "stored", "files"]


Renamed = tuple[str, str | None]  # what transformers makes of a tensor: the parameter, and its converter's pattern


def renamed(model: Any, names: list[str]) -> dict[str, Renamed]:
    """What transformers makes of tensors of a checkpoint, by their names."""
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    known, base = model.state_dict(), model.base_model_prefix
    return {name: rename_source_key(name, renamings, converters, base, known) for name in names}


@dataclass
class _Group:
    """Tensors that one converter makes a parameter of; by expert, or under None where they are stacked."""

    converter: WeightConverter | None
    sources: dict[int | None, list[tuple[str, str | None]]] = field(default_factory=dict)

    def of(self, expert: int) -> list[tuple[str, str | None]]:
        return self.sources[None] if None in self.sources else self.sources[expert]

    def is_whole(self, checkpoint: Checkpoint, experts: int) -> bool:
        """Whether every expert has the same parts."""
        if None in self.sources:
            return len(self.sources) == 1
        found = {
            tuple((pattern, checkpoint.floats[name].shape) for name, pattern in self.sources.get(expert, ()))
            for expert in range(experts)
        }
        return len(found) == 1 and () not in found


class _OneExpert:
    """What converters ask a model for, as if it had one expert: a parameter, for its shape."""

    def __init__(self, shapes: Mapping[str, torch.Size]) -> None:
        self._shapes = shapes

    def get_parameter(self, name: str) -> torch.Tensor:
        return torch.empty((1, *self._shapes[name][1:]), device="meta")


class FileExperts:
    """The experts of a layer in the checkpoint's files: each is read and made floats when a token needs it.

    Those of a layout that transformers does not make one by one are not among them: ``tensors`` names the tensors in the
    files that are, and ``parameters`` the parameters of the experts module.
    """

    def __init__(self, checkpoint: Checkpoint, model: Any, layer: int, names: Mapping[str, Renamed]) -> None:
        self._checkpoint, self._path = checkpoint, checkpoint.module("experts", layer)
        rules = get_model_conversion_mapping(model)
        converters = {
            pattern: rule for rule in rules if isinstance(rule, WeightConverter) for pattern in rule.source_patterns
        }
        groups: dict[str, _Group] = {}
        for name, (target, pattern) in sorted(names.items()):
            if target.startswith(f"{self._path}."):
                group = groups.setdefault(target, _Group(converters[pattern] if pattern else None))
                group.sources.setdefault(checkpoint.place(name).expert, []).append((name, pattern))
        shapes = {f"{self._path}.{key}": p.shape for key, p in model.get_submodule(self._path).named_parameters()}
        self._alone = _OneExpert(shapes)
        self._groups: dict[str, tuple[str, _Group]] = {}
        self.tensors: set[str] = set()
        for target, group in groups.items():
            shape = shapes.get(target, ())
            if len(shape) < 3 or not group.is_whole(checkpoint, shape[0]):
                continue
            try:
                made = self._convert(target, group, 0)
            except RuntimeError:  # parts that do not fit together: who loads them all tells it
                continue
            if all(values.shape == (1, *shapes.get(key, ())[1:]) for key, values in made.items()):
                self._groups |= {key.removeprefix(f"{self._path}."): (target, group) for key in made}
                self.tensors |= {name for sources in group.sources.values() for name, _ in sources}

    @property
    def parameters(self) -> set[str]:
        """Full names in the model."""
        return {f"{self._path}.{key}" for key in self._groups}

    def __contains__(self, parameter: str) -> bool:
        return parameter in self._groups

    def read(self, parameter: str, expert: int) -> torch.Tensor:
        """What ``parameter[expert]`` would be, in the type that holds it exactly."""
        return self._convert(*self._groups[parameter], expert)[f"{self._path}.{parameter}"][0]

    def _convert(self, target: str, group: _Group, expert: int) -> dict[str, torch.Tensor]:
        """Parameters of one expert alone [1, ...], by their full names."""
        converter = deepcopy(group.converter)
        for name, pattern in group.of(expert):
            values = read_expert(self._checkpoint, name, expert if None in group.sources else None)
            if converter is None or pattern is None:
                return {target: values}
            converter.add_tensor(target, name, pattern, values)  # type: ignore[arg-type]
        assert converter
        made = converter.convert(target, model=self._alone)
        return {key: values[0] if isinstance(values, list) else values for key, values in made.items()}


class _Parameter:
    """A parameter [experts, ...] whose parts come in ``dtype``."""

    def __init__(self, values: torch.Tensor, dtype: torch.dtype) -> None:
        self._values, self._dtype = values, dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._values[index].to(self._dtype)


class _FileParameter:
    """The same in the checkpoint's files."""

    def __init__(self, experts: FileExperts, name: str, dtype: torch.dtype) -> None:
        self._experts, self._name, self._dtype = experts, name, dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._experts.read(self._name, int(index)).to(self._dtype)


class _Module:
    """An experts module as its forward sees it: its parameters are ``_Parameter`` or ``_FileParameter``."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, files: FileExperts | None) -> None:
        self._module, self._dtype, self._files = module, dtype, files

    def __getattr__(self, name: str) -> Any:
        if self._files and name in self._files:
            return _FileParameter(self._files, name, self._dtype)
        value = getattr(self._module, name)
        return _Parameter(value, self._dtype) if isinstance(value, nn.Parameter) else value


def one_by_one(
    files: Mapping[nn.Module, FileExperts],
    module: Any,
    hidden: torch.Tensor,
    index: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """As an experts implementation: the module's own loop over its experts, in the type of ``hidden`` [T, H].

    Args:
        files: by experts module, those that are not in memory.
    """
    alone = _Module(module, hidden.dtype, files.get(module))
    return type(module).forward.__wrapped__(alone, hidden, index, weights)


def place_of_experts(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Place:
    """The fastest place that there is memory for. In each, twice the largest layer is needed: for the next one, or to merge
    what each expert has to what transformers computes with.
    """
    if device.type != "cpu":
        return "computing"
    largest, itemsize = 0, 0
    for layer in checkpoint.moe_layers:
        prefix = checkpoint.prefix(layer)
        sizes = {name: math.prod(x.shape) for name, x in checkpoint.floats.items() if name.startswith(prefix)}
        largest = max(largest, sum(sizes.values()))
        itemsize = max(itemsize, BITS[checkpoint.floats[max(sizes, key=sizes.__getitem__)].dtype] // 8)
    left = memory_left() // (2 * largest)
    return "computing" if dtype.itemsize <= left else "stored" if itemsize <= left else "files"
