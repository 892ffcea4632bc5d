"""What a mixture of experts is to plans and cuts, whether it lies in a checkpoint folder or in a GGUF file."""

from functools import cached_property
from pathlib import Path
from typing import Protocol


class MoeModel(Protocol):
    """The facts that calibration, plans and cuts need; ``Checkpoint`` and ``GgufModel`` have them."""

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

    @property
    def can_pad(self) -> bool:
        """Whether experts may be added that are never chosen and change nothing: layers can then differ in count."""
        ...

    @cached_property
    def fingerprint(self) -> str:
        """See ``prune.fingerprint``."""
        ...
