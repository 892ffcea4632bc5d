"""The checkpoint as the graph sees it: weights by their role, read only when they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from prune.checkpoint import Checkpoint
from runtime.errors import RequestError, WorkError


@dataclass(frozen=True)
class Matrix:
    """A weight [rows, columns], or [experts, rows, columns] of a layer's experts.

    ``pieces`` reads it: float32 arrays [rows of this piece, columns] which together are the weight in row order.
    """

    name: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]


class Tensors:
    """Tensors by their role in the family's [decoder] section; accounts for every one in the checkpoint.

    What is missing is noted and stands in as an empty array until ``check`` names all of it at once.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        layers = next(iter(checkpoint.family.layers))
        self._roles = checkpoint.family.decoder | {"router": f"{layers}.{{layer}}.{checkpoint.layout.router}"}
        self._left = set(checkpoint.tensors)
        self._missing: list[str] = []

    def has(self, role: str, **place: int) -> bool:
        """Whether the checkpoint holds this tensor; one that is asked about counts as accounted for."""
        name = self._roles.get(role, "").format(**place)
        self._left.discard(name)
        return name in self._checkpoint.tensors

    def _name(self, role: str, **place: int) -> str:
        name = self._roles.get(role, role).format(**place)
        if not self.has(role, **place):
            self._missing.append(name)
        return name

    def _shape(self, name: str) -> tuple[int, ...]:
        tensor = self._checkpoint.tensors.get(name)
        return tensor.shape if tensor else (0, 0)

    def values(self, role: str, **place: int) -> np.ndarray:
        """A small tensor, read at once, as float32."""
        name = self._name(role, **place)
        return self._checkpoint.read(name) if name in self._checkpoint.tensors else np.zeros((0, 0), np.float32)

    def matrix(self, label: str, role: str, **place: int) -> Matrix:
        """The weight of a linear layer or the embedding [output features or vocabulary, input features]."""
        name = self._name(role, **place)
        return Matrix(label, self._shape(name), lambda: self._checkpoint.read_rows(name))

    def experts(self, label: str, *roles: str, layer: int, experts: int) -> Matrix:
        """One weight of all experts of a layer; of several roles the rows come in turn."""
        names = [[self._name(role, layer=layer, expert=expert) for role in roles] for expert in range(experts)]
        rows, columns = self._shape(names[0][0])

        def pieces() -> Iterator[np.ndarray]:
            for expert in names:
                yield np.stack([self._checkpoint.read(name) for name in expert], axis=1).reshape(-1, columns)

        return Matrix(label, (experts, rows * len(roles), columns), pieces)

    def check(self) -> None:
        """Raise unless all that was asked for is there, and all that is there was asked for."""
        folder = self._checkpoint.folder
        if self._missing:
            raise WorkError(f"{folder} lacks {len(self._missing)} tensors, first {self._missing[0]}.")
        if self._left:
            first = ", ".join(sorted(self._left)[:3])
            raise RequestError(f"{folder} has {len(self._left)} tensors that the ONNX graph has no place for: {first}.")
