"""What a GGUF file is as a mixture of experts: the counterpart of ``prune.checkpoint.Checkpoint``, without torch."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from prune.fingerprint import fingerprint
from prune.moe_model import TensorPlace
from runtime.errors import RequestError, WorkError
from runtime.formats.floats import as_float32
from runtime.formats.gguf_file import check_gguf
from runtime.formats.gguf_header import GgufTensor
from runtime.formats.gguf_names import (
    DRAFTING,
    OUTPUT_SCALE,
    PREDICTION,
    ROUTER,
    SCALED_GATES,
    expert_shape,
    in_layer,
    split_layer,
    tensor_role,
)

_BY_ITSELF = (2, 4)  # gating functions that score each expert apart from the others: sigmoid, square root of softplus


class GgufModel:
    """A GGUF file of a mixture of experts, whose experts are stacked along the outermost axis of their tensors.

    Properties that ``Checkpoint`` has too mean the same here, so that plans are checked in one way (prune/rewrite/shape.py).

    Raises:
        RequestError: no such file, not a GGUF file, or a model without experts.
        WorkError: the file is damaged, cut short, describes no model, or a part is missing.
    """

    def __init__(self, path: Path) -> None:
        self.source = Path(path)
        self.file = check_gguf(self.source)

    @property
    def architecture(self) -> str:
        return self.file.architecture

    def key(self, name: str) -> str:
        """The architecture's own key: ``qwen3moe.expert_count``."""
        return f"{self.architecture}.{name}"

    def numbers(self, name: str) -> list[int]:
        """Values of an integer key of the architecture, see ``GgufFile.numbers``."""
        return self.file.numbers(name)

    def _number(self, name: str, default: int) -> int:
        return max(self.numbers(name), default=default)

    @cached_property
    def first_unloaded(self) -> int | None:
        """The first layer of multi-token prediction, which follow the model's own; None where there are none."""
        extra = self._number("nextn_predict_layers", 0)
        return self._number("block_count", 0) - extra if extra else None

    @cached_property
    def has_unloaded(self) -> bool:
        """Whether the file holds layers of multi-token prediction, not only their number."""
        first = self.first_unloaded
        layers = (split_layer(name)[0] for name in self.tensors)
        return first is not None and any(layer is not None and layer >= first for layer in layers)

    @cached_property
    def drafts(self) -> bool:
        """Whether llama.cpp drafts with the layers of multi-token prediction, so that cuts keep them."""
        first = self.first_unloaded
        return first is not None and self.architecture in DRAFTING and in_layer(first, PREDICTION) in self.tensors

    @cached_property
    def draft_layers(self) -> dict[int, int]:
        """Number of experts by layer of multi-token prediction that a cut keeps."""
        return {layer: count for layer, count in self._routed.items() if self.drafts and layer not in self.moe_layers}

    def draft_places(self) -> dict[str, TensorPlace]:
        """What the tensors are that ``place`` calls unloaded and a cut keeps."""
        if not self.drafts:
            return {}
        return {name: self._place(name) for name in self.tensors if self.place(name).tensor_role == "unloaded"}

    @cached_property
    def moe_layers(self) -> dict[int, int]:
        """Number of experts by layer, from the router tensors that are there."""
        end = float("inf") if self.first_unloaded is None else self.first_unloaded
        found = {layer: count for layer, count in self._routed.items() if layer < end}
        if not found:
            raise RequestError(f"{self.source} has no routed layers: there are no experts to prune.")
        return found

    @cached_property
    def _routed(self) -> dict[int, int]:
        """The same with layers of multi-token prediction."""
        found = {}
        for name, tensor in self.tensors.items():
            layer, rest = split_layer(name)
            if layer is not None and rest == ROUTER:
                found[layer] = tensor.shape[0]
        return dict(sorted(found.items()))

    @property
    def tensors(self) -> dict[str, GgufTensor]:
        """All tensors by name."""
        return self._tensors

    @cached_property
    def _tensors(self) -> dict[str, GgufTensor]:
        """With the axis of a single expert, which llama-quantize drops."""
        if set(self.numbers("expert_count")) != {1}:
            return self.file.tensors
        return {
            name: replace(tensor, shape=expert_shape(split_layer(name)[1], tensor.shape) or tensor.shape)
            for name, tensor in self.file.tensors.items()
        }

    def place(self, name: str) -> TensorPlace:
        """What a tensor is, by its name and shape."""
        layer, _ = split_layer(name)
        if layer is None:
            return TensorPlace("other")
        if self.first_unloaded is not None and layer >= self.first_unloaded:
            return TensorPlace("unloaded")
        return self._place(name)

    def _place(self, name: str) -> TensorPlace:
        layer, rest = split_layer(name)
        return TensorPlace(
            tensor_role(rest, self.tensors[name].shape, self._routed.get(-1 if layer is None else layer)), layer
        )

    @property
    def top_k(self) -> int:
        """Experts of a token (the most in any layer, where it is given by layer)."""
        return self._number("expert_used_count", 0)

    @property
    def groups(self) -> int:
        """Groups of experts that the router chooses first; 1 where it has none."""
        return self._number("expert_group_count", 1) or 1

    @property
    def topk_groups(self) -> int:
        """Groups a token may use."""
        return self._number("expert_group_used_count", 1) or 1

    @property
    def group_floor(self) -> int:
        """Experts that each group must keep: llama.cpp scores a group by its best two, whatever the model did."""
        return 2 if self.groups > 1 else 1

    @property
    def layer_floor(self) -> int:
        """Experts that each layer must keep whatever top-k is; groups that become too small are given up instead."""
        return 1

    @cached_property
    def padding_bias(self) -> Literal["router_bias", "selection_bias"] | None:
        """The tensor by which an expert is made unselectable, changing nothing else; None where there is none.

        A selection bias is added after the gating function. Where that is a softmax over all experts, one that is never
        chosen still takes its share of the sum. A bias of the router's logits comes before it and takes no share.
        """
        there: dict[str, set[int]] = defaultdict(set)
        for name in self.file.tensors:
            place = self.place(name)
            if place.layer is not None:
                there[place.tensor_role].add(place.layer)
        layers = set(self.moe_layers)
        if there["selection_bias"]:
            by_itself = self._number("expert_gating_func", 0) in _BY_ITSELF
            return "selection_bias" if there["selection_bias"] >= layers and by_itself else None
        return "router_bias" if there["router_bias"] >= layers else None

    @property
    def can_pad(self) -> bool:
        """Whether experts may be added that are never chosen and change nothing: layers can then differ in count."""
        return self.padding_bias is not None

    @cached_property
    def fingerprint(self) -> str:
        """See ``prune.fingerprint``: the same for every GGUF file of a model, and for its checkpoint."""
        return fingerprint(self._routers())

    def gate_scales(self) -> dict[int, np.ndarray]:
        """By layer, the numbers [experts] (float32) by which a router scales its gates and llama.cpp the experts' outputs.

        Raises:
            WorkError: they are no floats.
        """
        found = {}
        for layer in self.moe_layers if self.architecture in SCALED_GATES else ():
            if (name := in_layer(layer, OUTPUT_SCALE)) in self.tensors:
                values = as_float32(memoryview(self.file.read(name)), self.tensors[name].type.name)
                if values is None or values.size != self.moe_layers[layer]:
                    raise WorkError(f"{self.source} is damaged: {name} is not one float for each expert.")
                found[layer] = values
        return found

    def _routers(self) -> Iterator[tuple[int, str, tuple[int, ...], bytes]]:
        for layer in self.moe_layers:
            name = in_layer(layer, ROUTER)
            tensor = self.tensors[name]
            yield layer, tensor.type.name, tensor.shape, self.file.read(name)
