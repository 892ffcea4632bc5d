"""A Hugging Face checkpoint folder read without torch: names, shapes and bytes of its safetensors, mapped, not loaded."""

import hashlib
import math
import mmap
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prune.families import Family, Layout, decoder_config, families, family_of, load_family
from prune.families.sanity import check_config, check_tensors
from prune.fingerprint import fingerprint
from prune.moe_model import TensorPlace
from runtime.errors import RequestError, WorkError
from runtime.formats.floats import StoredArray, as_float32
from runtime.formats.model_folder import CONFIG, check_side_files, read_checkpoint, read_config
from runtime.formats.quantised import FloatTensor, Quantisation, float_tensors, quantisation_of, read_slices
from runtime.formats.safetensors import SafetensorsTensor

READ_BYTES = 1 << 24  # of a file at a time, where a tensor is read by rows
HASHED_BYTES = 4096  # of each tensor's start go into the hash of the weights


class Checkpoint:
    """An MoE checkpoint folder. ``tensors`` are as stored; ``floats`` as they are where nothing is quantised.

    Raises:
        RequestError: no folder, no config, no safetensors, not an MoE family that we know, or quantised in a way that is
            not read.
        WorkError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.stored_config: dict[str, Any] = read_config(self.folder)
        self.family: Family = family_of(self.stored_config)
        self.config = decoder_config(self.stored_config)
        check_config(self.config, self.family, self.folder / CONFIG)
        check_side_files(self.folder)
        self.quantisation: Quantisation | None = quantisation_of(self.config, self.folder)
        self.tensors: dict[str, SafetensorsTensor] = read_checkpoint(self.folder, self.config)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        check_tensors(shapes, self.config, self.family, self.folder)
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def weights(self) -> int:
        """How many numbers the tensors are, quantised or not."""
        return sum(math.prod(tensor.shape) for tensor in self.floats.values())

    @cached_property
    def floats(self) -> dict[str, FloatTensor]:
        """The tensors that this checkpoint would have unquantised; ``read``, ``read_rows`` and ``read_slices`` know them."""
        return float_tensors(self.tensors, self.quantisation, self.folder)

    def require_decoder(self) -> None:
        """Refuse what cannot be calibrated.

        Raises:
            RequestError: the model has an encoder.
        """
        if self.config.get("is_encoder_decoder"):
            raise RequestError(
                f"{self.folder} is an encoder-decoder; only decoder models are calibrated so far.",
                next_command=f"slimmoe onnx {self.folder} -o DIR   (as it is)",
            )

    @cached_property
    def _stacks(self) -> dict[str, tuple[int, int]]:
        """Prefix of each stack of layers in the files: the number of its first layer, and one past its last."""
        stacks, end = {}, 0
        for prefix in self.family.layers:
            first, end = end, end + self.family.layers_in(self.config, prefix)
            stacks[self._other_prefix or prefix] = (first, end)
        return stacks

    @cached_property
    def _other_prefix(self) -> str | None:
        """What layers begin with in the files, where that is not what the family's modules begin with."""
        return next((p for p in self.family.prefixes if any(name.startswith(f"{p}.") for name in self.tensors)), None)

    @property
    def layer_count(self) -> int:
        """Layers of all stacks."""
        return max(end for _, end in self._stacks.values())

    def prefix(self, layer: int) -> str:
        """What the names of a layer's tensors begin with: ``model.layers.3.``"""
        for stack, (first, end) in self._stacks.items():
            if first <= layer < end:
                return f"{stack}.{layer - first}."
        raise ValueError(f"{self.folder} has no layer {layer}")

    @cached_property
    def layout(self) -> Layout:
        """The names this checkpoint uses: those of the family's layout of which most are there."""
        there = {self.split_layer(name)[1] for name in self.tensors}
        return max(self.family.layouts, key=lambda layout: len({layout.router, layout.selection_bias} & there))

    @cached_property
    def moe_layers(self) -> dict[int, int]:
        """Number of experts by layer, from the router tensors that are there."""
        routers = {layer: self.prefix(layer) + self.layout.router for layer in range(self.layer_count)}
        found = {layer: self.tensors[name].shape[0] for layer, name in routers.items() if name in self.tensors}
        if not found:
            others = [name for name in families() if self._has_router_of(load_family(name))]
            raise RequestError(
                f"{self.folder} has no routed layers: there are no experts to prune."
                if not others
                else f"The config.json of {self.folder} says {self.config['model_type']!r}, and its tensors have the names of "
                f"{' or '.join(others)}."
            )
        return found

    def _has_router_of(self, family: Family) -> bool:
        endings = tuple(f".{layout.router}" for layout in family.layouts)
        return any(name.endswith(endings) for name in self.tensors)

    def place(self, name: str) -> TensorPlace:
        """What a tensor is: by its name, and suspect where its shape has one value for each expert."""
        for pattern in self.family.unloaded:
            before, beyond, _ = pattern.partition("{beyond}")
            if beyond:
                number = re.match(re.escape(before) + r"(\d+)\.", name)
                first, end = self._stacks.get(before.rstrip("."), (0, 0))
                if number and int(number[1]) >= end - first:
                    return TensorPlace("unloaded")
            elif name.startswith(before):
                return TensorPlace("unloaded")
        layer, rest = self.split_layer(name)
        values = math.prod((self.tensors.get(name) or self.floats[name]).shape)
        return self._place_in_layer(layer, rest, values) if layer in self.moe_layers else TensorPlace("other")

    def split_layer(self, name: str) -> tuple[int, str]:
        """The number of the decoder layer that a tensor belongs to, -1 outside them, and its name within the layer."""
        for stack, (first, end) in self._stacks.items():
            number = re.match(re.escape(stack) + r"\.(\d+)\.", name)
            if number and first + int(number[1]) < end:
                return first + int(number[1]), name[number.end() :]
        return -1, name

    def _place_in_layer(self, layer: int, name: str, values: int) -> TensorPlace:
        if name == self.layout.router:
            return TensorPlace("router", layer)
        if name == self.layout.selection_bias:
            return TensorPlace("selection_bias", layer)
        for pattern in self.layout.experts:
            before, single, after = pattern.partition("{expert}")
            if single and (found := re.match(re.escape(before) + r"(\d+)" + re.escape(after), name)):
                return TensorPlace("expert", layer, int(found[1]), name[found.end() :])
        if any(name.startswith(prefix) for prefix in self.layout.experts if "{expert}" not in prefix):
            return TensorPlace("stacked", layer)
        unnamed = name.startswith(self.layout.block) and not self.family.describes(name)
        suspect = unnamed and values == self.moe_layers[layer]
        suspect |= name.startswith(f"{self.layout.router}_")  # scales of a quantised router
        return TensorPlace("suspect" if suspect else "other", layer)

    def module(self, role: Literal["router", "experts", "selection_bias"], layer: int) -> str:
        """Name in transformers' model of a MoE layer's router, experts or selection bias."""
        prefix = self.prefix(layer)
        if other := self._other_prefix:
            prefix = self.family.prefixes[other] + prefix.removeprefix(other)
        return prefix + getattr(self.family.modules, role)

    @property
    def top_k(self) -> int:
        """Experts of a token (the most in any layer, where the config gives it by layer)."""
        keys = self.family.config.top_k
        if isinstance(keys, int):
            return keys
        value = next((self.config[key] for key in keys if self.config.get(key) is not None), None)
        if value is None:
            raise WorkError(f"{self.folder}/config.json has no {keys[0]!r}.")
        return int(max(value) if isinstance(value, list) else value)

    @property
    def groups(self) -> int:
        """Groups of experts that the router chooses first; 1 where it has none."""
        return int(self.config.get(self.family.config.groups or "") or 1)

    @property
    def topk_groups(self) -> int:
        """Groups a token may use."""
        return int(self.config.get(self.family.config.topk_groups or "") or 1)

    @property
    def group_floor(self) -> int:
        """Experts that each group must keep, for the router's group score to exist."""
        return self.family.group_floor

    @property
    def layer_floor(self) -> int:
        """Experts that each layer must keep whatever top-k is: what the router's code takes for granted."""
        fixed = self.family.config.top_k if isinstance(self.family.config.top_k, int) else 1
        return max(fixed, self.group_floor)

    @cached_property
    def selection_bias(self) -> bool:
        """Whether every router has a bias by which an expert can be made unselectable."""
        name = self.layout.selection_bias
        return name is not None and all(self.prefix(layer) + name in self.tensors for layer in self.moe_layers)

    @cached_property
    def padding_bias(self) -> Literal["router_bias", "selection_bias"] | None:
        """The role of the tensors by which an expert is made unselectable, changing nothing else; None: there is none."""
        return "selection_bias" if self.selection_bias and self.family.padding else None

    @property
    def can_pad(self) -> bool:
        """Whether experts may be added that are never chosen and change nothing: layers can then differ in count."""
        return self.padding_bias is not None

    @property
    def source(self) -> Path:
        return self.folder

    @property
    def architecture(self) -> str:
        return self.family.model_type

    @cached_property
    def fingerprint(self) -> str:
        """See ``prune.fingerprint``: the same for this checkpoint and every GGUF file of it."""
        names = {layer: self.prefix(layer) + self.layout.router for layer in sorted(self.moe_layers)}
        routers = {layer: (self.tensors[name], self.raw(name)) for layer, name in names.items()}
        return fingerprint((layer, tensor.dtype, tensor.shape, data) for layer, (tensor, data) in routers.items())

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over every tensor's name, type, shape and first bytes: cheap, and any training or cut shows.

        For what must notice that any weight has changed, such as a run that goes on where it stopped.
        """
        digest = hashlib.sha256(self.family.model_type.encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(self.raw(name)[:HASHED_BYTES])
        return digest.hexdigest()[:32]

    def raw(self, name: str) -> memoryview:
        """The tensor's bytes, mapped from its shard."""
        tensor = self.tensors[name]
        if tensor.path not in self._maps:
            with tensor.path.open("rb") as file:
                self._maps[tensor.path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._maps[tensor.path])[tensor.start : tensor.stop]

    def read(self, name: str) -> np.ndarray:
        """One of ``floats`` as float32.

        Raises:
            WorkError: stored in a type that has no float32 value.
        """
        tensor = self.floats[name]
        if tensor.format is None:
            return self._as_float32(name, self.raw(name)).reshape(tensor.shape)
        slices = list(self.read_slices(name))
        return slices[0] if len(slices) == 1 and slices[0].shape == tensor.shape else np.stack(slices)

    def read_slices(self, name: str, row: int | None = None) -> Iterator[np.ndarray]:
        """The same along the outermost axis one at a time, or one; a quantised tensor of two axes at once."""
        tensor = self.floats[name]
        if tensor.format is None:
            data = self.raw(name)
            size = len(data) // tensor.shape[0]
            for i in range(tensor.shape[0]) if row is None else [row]:
                yield self._as_float32(name, data[i * size : (i + 1) * size]).reshape(tensor.shape[1:])
            return
        assert self.quantisation
        stored = {end: self._stored(part) for end, part in tensor.parts.items()}
        yield from read_slices(tensor, stored, self.quantisation.settings, name, row)

    def _stored(self, name: str) -> StoredArray:
        tensor = self.tensors[name]
        found = StoredArray.of(self.raw(name), tensor.dtype, tensor.shape)
        if found is None:
            raise WorkError(f"{name} is stored as {tensor.dtype}, which is not read.")
        return found

    def read_rows(self, name: str) -> Iterator[np.ndarray]:
        """The same, a few rows [n, columns] at a time, for tensors that are larger than memory allows: vocabularies."""
        if self.floats[name].format:
            yield from self.read_slices(name)
            return
        data, columns = self.raw(name), self.tensors[name].shape[-1]
        size = len(data) * columns // math.prod(self.tensors[name].shape)  # bytes of a row
        step = max(1, READ_BYTES // size) * size
        for start in range(0, len(data), step):
            yield self._as_float32(name, data[start : start + step]).reshape(-1, columns)

    def _as_float32(self, name: str, data: memoryview) -> np.ndarray:
        dtype = self.tensors[name].dtype
        values = as_float32(data, dtype)
        if values is None:
            raise WorkError(f"{name} is stored as {dtype}; a bf16, f16 or f32 checkpoint is needed.")
        return values
