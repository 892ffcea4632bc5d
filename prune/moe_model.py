"""What a mixture of experts is to plans and cuts, whether it lies in a checkpoint folder or in a GGUF file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol


class StoredTensor(Protocol):
    """Where a tensor lies: ``start`` and ``stop`` are byte offsets in the file ``path``, ``shape`` has experts first."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def path(self) -> Path: ...

    @property
    def start(self) -> int: ...

    @property
    def stop(self) -> int: ...


@dataclass(frozen=True)
class TensorPlace:
    """What a tensor is to its model.

    Attributes:
        tensor_role: ``expert`` is a tensor of one expert, ``stacked`` one of all experts of a layer; ``suspect`` seems to
            hold a part of each expert, and no rule knows which; ``unloaded`` is not loaded with the model.
        layer: set for all that belongs to an MoE layer.
        expert: its number, where the tensor is one expert's.
        part: of one expert's tensor, what follows the expert in its name, such as ``up_proj.weight``.
    """

    tensor_role: Literal["router", "router_bias", "selection_bias", "expert", "stacked", "suspect", "other", "unloaded"]
    layer: int | None = None
    expert: int | None = None
    part: str = ""


class MoeModel(Protocol):
    """The facts that calibration, plans and cuts need; ``Checkpoint`` and ``GgufModel`` have them."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors by name."""
        ...

    def place(self, name: str) -> TensorPlace:
        """What one of the tensors is."""
        ...

    @property
    def source(self) -> Path:
        """The folder or file."""
        ...

    @property
    def architecture(self) -> str:
        """The model's type by its format's own name."""
        ...

    @cached_property
    def moe_layers(self) -> dict[int, int]:
        """Number of experts by layer."""
        ...

    @cached_property
    def draft_layers(self) -> dict[int, int]:
        """Number of experts by layer of multi-token prediction that a cut keeps, numbered after the model's own layers."""
        ...

    def draft_places(self) -> dict[str, TensorPlace]:
        """What the tensors are that ``place`` calls unloaded and a cut keeps."""
        ...

    @property
    def top_k(self) -> int:
        """Experts of a token (the most in any layer)."""
        ...

    @property
    def groups(self) -> int:
        """Groups of experts that the router chooses first; 1 where it has none."""
        ...

    @property
    def topk_groups(self) -> int:
        """Groups a token may use."""
        ...

    @property
    def group_floor(self) -> int:
        """Experts that each group must keep."""
        ...

    @property
    def layer_floor(self) -> int:
        """Experts that each layer must keep whatever top-k is."""
        ...

    @cached_property
    def padding_bias(self) -> Literal["router_bias", "selection_bias"] | None:
        """The role of the tensors by which an expert is made unselectable, changing nothing else; None: there is none."""
        ...

    @property
    def can_pad(self) -> bool:
        """Whether experts may be added that are never chosen and change nothing: layers can then differ in count."""
        ...

    @cached_property
    def fingerprint(self) -> str:
        """See ``prune.fingerprint``."""
        ...
