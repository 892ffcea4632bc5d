"""A Hugging Face checkpoint folder read without torch: names, shapes and bytes of its safetensors, mapped, not loaded."""

import hashlib
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from prune.families import Family, Layout, decoder_config, families, family_of, load_family
from prune.families.sanity import check_config, check_tensors
from prune.fingerprint import fingerprint
from prune.moe_model import TensorPlace
from prune.stored_tensors import StoredTensors
from runtime.errors import RequestError, WorkError
from runtime.formats.model_folder import CONFIG, check_side_files, read_checkpoint, read_config
from runtime.formats.quantised import quantisation_of

HASHED_BYTES = 4096  # of each tensor's start go into the hash of the weights


class Checkpoint(StoredTensors):
    """An MoE checkpoint folder. ``tensors`` are as stored; ``floats`` as they are where nothing is quantised.

    Raises:
        RequestError: no folder, no config, no safetensors, not an MoE family that we know, or quantised in a way that is
            not read.
        WorkError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        self.stored_config: dict[str, Any] = read_config(folder)
        self.family: Family = family_of(self.stored_config)
        self.config = decoder_config(self.stored_config)
        check_config(self.config, self.family, folder / CONFIG)
        check_side_files(folder)
        quantisation = quantisation_of(self.config, folder)
        super().__init__(folder, read_checkpoint(folder, self.config), quantisation)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        check_tensors(shapes, self.config, self.family, folder)

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
        return self._draft_prefixes[layer]

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

    @cached_property
    def _draft_prefixes(self) -> dict[int, str]:
        """What the tensors of routed layers of multi-token prediction begin with, where llama.cpp drafts with them."""
        end = f".{self.layout.router}"
        routers = [name for name in self.tensors if name.endswith(end) and self.place(name).tensor_role == "unloaded"]
        prefixes = sorted(name.removesuffix(self.layout.router) for name in routers if self.family.gguf.drafts)
        return dict(enumerate(prefixes, self.layer_count))

    @cached_property
    def draft_layers(self) -> dict[int, int]:
        """Number of experts by layer of multi-token prediction that a cut keeps, numbered after the model's own layers."""
        return {i: self.tensors[p + self.layout.router].shape[0] for i, p in self._draft_prefixes.items()}

    def draft_places(self) -> dict[str, TensorPlace]:
        """What the tensors are that ``place`` calls unloaded and a cut keeps, because llama.cpp drafts with them."""
        places = {}
        for name in self.tensors if self.family.gguf.drafts else ():
            if self.place(name).tensor_role == "unloaded":
                found = (each for each in self._draft_prefixes.items() if name.startswith(each[1]))
                layer, prefix = next(found, (-1, ""))
                values = math.prod(self.tensors[name].shape)
                inside = self._place_in_layer(layer, name.removeprefix(prefix), values)
                places[name] = inside if prefix else TensorPlace("other")
        return places

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
        experts = self.moe_layers.get(layer) or self.draft_layers.get(layer)
        unnamed = name.startswith(self.layout.block) and not self.family.describes(name)
        suspect = unnamed and values == experts
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
