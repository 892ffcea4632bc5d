"""The checkpoint as the graph sees it: weights by their role, read only when they are written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from prune.checkpoint import Checkpoint
from prune.families.decoder import Decoder
from runtime.errors import RequestError, WorkError


@dataclass(frozen=True)
class Matrix:
    """A weight [rows, columns], or [experts, rows, columns] of a layer's experts.

    ``pieces`` reads it: float32 arrays [rows of this piece, columns] which together are the weight in row order.
    """

    name: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]


def joined(name: str, matrices: Sequence[Matrix]) -> Matrix:
    """Matrices of the same input features as one, their rows one after the other."""
    rows, columns = sum(matrix.shape[0] for matrix in matrices), matrices[0].shape[1]
    return Matrix(name, (rows, columns), lambda: chain.from_iterable(matrix.pieces() for matrix in matrices))


@dataclass(frozen=True)
class Experts:
    """The experts of a layer: ``up`` has the rows of gate (if any) and up projection in turn. Biases are [experts, rows]."""

    up: Matrix
    down: Matrix
    up_bias: np.ndarray | None = None
    down_bias: np.ndarray | None = None


class Tensors:
    """Tensors by their role in the family's [decoder] section; accounts for every one in the checkpoint.

    What is missing is noted and stands in as an empty array until ``check`` names all of it at once.
    """

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder) -> None:
        self._checkpoint, self._decoder = checkpoint, decoder
        router, selection_bias = checkpoint.layout.router, checkpoint.layout.selection_bias
        self._roles = decoder.model | decoder.layer | {"router": router}
        if selection_bias and "router" not in decoder.biased:
            self._roles["selection_bias"] = selection_bias
        unused = checkpoint.family.beside
        self._left = {
            name
            for name in checkpoint.floats
            if checkpoint.place(name).tensor_role != "unloaded" and not name.startswith(unused)
        }
        self._missing: list[str] = []

    def _find(self, role: str, layer: int | None = None, expert: int | None = None) -> str:
        """The name that the checkpoint has for a role, or the first that it might have."""
        names = self._roles.get(role, role)
        prefix = "" if layer is None else self._checkpoint.prefix(layer)
        names = [prefix + name.format(expert=expert) for name in ([names] if isinstance(names, str) else names)]
        return next((name for name in names if name in self._checkpoint.floats), names[0])

    def _name(self, role: str, **place: int) -> str:
        name = self._find(role, **place)
        self._left.discard(name)
        if name not in self._checkpoint.floats:
            self._missing.append(name)
        return name

    def _shape(self, name: str) -> tuple[int, ...]:
        tensor = self._checkpoint.floats.get(name)
        return tensor.shape if tensor else (0, 0, 0)

    def has(self, role: str, **place: int) -> bool:
        """Whether the checkpoint holds this tensor."""
        return self._find(role, **place) in self._checkpoint.floats

    def values(self, role: str, **place: int) -> np.ndarray:
        """A small tensor, read at once, as float32."""
        name = self._name(role, **place)
        return self._checkpoint.read(name) if name in self._checkpoint.floats else np.zeros((0, 0), np.float32)

    def bias(self, role: str, **place: int) -> np.ndarray | None:
        """The bias beside a weight, if the family may have it and the checkpoint does."""
        if role not in self._decoder.biased:
            return None
        name = _bias(self._find(role, **place))
        self._left.discard(name)
        return self._checkpoint.read(name) if name in self._checkpoint.floats else None

    def leave_out(self, role: str) -> None:
        """Count what is not used of a tensor, under any of its names, as accounted for."""
        names = self._roles.get(role, role)
        self._left -= {names} if isinstance(names, str) else {*names}

    def matrix(self, label: str, role: str, order: np.ndarray | None = None, **place: int) -> Matrix:
        """The weight of a linear layer or the embedding [output features or vocabulary, input features].

        Args:
            order: the rows in another order.
        """
        name = self._name(role, **place)

        def pieces() -> Iterator[np.ndarray]:
            if order is None:
                yield from self._checkpoint.read_rows(name)
            else:
                yield self._checkpoint.read(name)[order]

        return Matrix(label, self._shape(name)[:2], pieces)

    def experts(self, layer: int, count: int) -> Experts:
        """The experts of a layer: each in tensors of its own, or all of them stacked."""
        if "expert_down" in self._roles and not self.has("stacked_down", layer=layer):
            first = "expert_up" if self._squares else "expert_gate"
            sides = {"up": [first, "expert_up"], "down": ["expert_down"]}
            sides = {side: [role for role in roles if role in self._roles] for side, roles in sides.items()}
            up, down = (self._each(f"{layer}.experts.{side}.weight", sides[side], layer, count) for side in sides)
            return Experts(up, down, *(self._each_bias(sides[side], layer, count) for side in sides))
        biases = [self.bias(role, layer=layer) for role in ("stacked_up", "stacked_down")]
        if biases[0] is not None:
            biases[0] = np.stack([self._in_turn(bias[:, None])[:, 0] for bias in biases[0]])
        return Experts(
            self._stacked(f"{layer}.experts.up.weight", "stacked_up", layer, count, self._in_turn),
            self._stacked(f"{layer}.experts.down.weight", "stacked_down", layer, count, lambda rows: rows),
            *biases,
        )

    @property
    def _squares(self) -> bool:
        """Whether experts have no gate and their up projection is written twice, in the gate's place as well."""
        return self._decoder.activation == "relu2"

    def _each(self, label: str, roles: list[str], layer: int, count: int) -> Matrix:
        """One weight of all experts; of several roles the rows come in turn."""
        names = [[self._name(role, layer=layer, expert=expert) for role in roles] for expert in range(count)]
        rows, columns = self._shape(names[0][0])[:2]

        def pieces() -> Iterator[np.ndarray]:
            for expert in names:
                yield np.stack([self._checkpoint.read(name) for name in expert], axis=1).reshape(-1, columns)

        return Matrix(label, (count, rows * len(roles), columns), pieces)

    def _each_bias(self, roles: list[str], layer: int, count: int) -> np.ndarray | None:
        """The biases of all experts [experts, rows], in the order of their weights' rows."""
        if not {*roles} <= {*self._decoder.biased}:
            return None
        names = [_bias(self._find(role, layer=layer, expert=expert)) for expert in range(count) for role in roles]
        missing = [name for name in names if name not in self._checkpoint.floats]
        self._left -= {*names}
        if missing:
            self._missing += missing if len(missing) < len(names) else []
            return None
        values = np.stack([self._checkpoint.read(name) for name in names])
        return np.moveaxis(values.reshape(count, len(roles), -1), 1, 2).reshape(count, -1)

    def _in_turn(self, rows: np.ndarray) -> np.ndarray:
        """Rows of gate and up projection in turn."""
        if self._squares:
            return np.repeat(rows, 2, axis=0)
        if self._decoder.stacked_interleaved:
            return rows
        return np.stack(np.split(rows, 2), axis=1).reshape(rows.shape)

    def _stacked(
        self, label: str, role: str, layer: int, count: int, order: Callable[[np.ndarray], np.ndarray]
    ) -> Matrix:
        name = self._name(role, layer=layer)
        experts, *shape = self._shape(name)
        if name in self._checkpoint.floats and experts != count:
            raise WorkError(f"{name} holds {experts} experts, and the router of its layer has {count}.")
        turned = self._decoder.stacked_transposed
        if turned == "by_shape":  # published so, and saved by transformers otherwise
            turned = self._shape(self._find("stacked_up", layer=layer))[1] == self._checkpoint.config["hidden_size"]

        def pieces() -> Iterator[np.ndarray]:
            for values in self._checkpoint.read_slices(name):
                yield order(values.T if turned else values)

        rows, columns = reversed(shape) if turned else shape
        return Matrix(label, (count, rows * (2 if self._squares and role == "stacked_up" else 1), columns), pieces)

    def check(self) -> None:
        """Raise unless all that was asked for is there, and all that is there was asked for."""
        folder = self._checkpoint.folder
        if self._missing:
            raise WorkError(f"{folder} lacks {len(self._missing)} tensors, first {self._missing[0]}.")
        if self._left:
            first = ", ".join(sorted(self._left)[:3])
            raise RequestError(f"{folder} has {len(self._left)} tensors that the ONNX graph has no place for: {first}.")


def _bias(weight: str) -> str:
    """The name of the bias beside a weight: ``q_proj.bias`` or ``gate_up_proj_bias``."""
    return f"{weight.removesuffix('weight')}bias" if weight.endswith(".weight") else f"{weight}_bias"
