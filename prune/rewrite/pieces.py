"""Where each tensor of a pruned model comes from: all of a source's tensor, or the rows of the experts that are kept.

Only bytes are moved, whatever they encode: a row is as many of them for every type. The writers (checkpoint.py, gguf.py)
lay out what is described here.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Protocol

from prune.moe_model import MoeModel, StoredTensor, TensorPlace
from prune.rewrite.shape import EXCLUDED_BIAS, PADDED_EXPERT, Shape, padding_source
from runtime.errors import WorkError
from runtime.formats.copying import copy_all

FileRange = tuple[Path, int, int]  # the bytes of a file from start to stop


class Content(Protocol):
    """How a tensor is made. ``source`` is the tensor beside whose neighbours it is written."""

    @property
    def source(self) -> StoredTensor: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def steps(self) -> Iterator[FileRange | bytes]:
        """Its bytes in order."""
        ...


@dataclass(frozen=True)
class Copy:
    """All of the source."""

    source: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def size(self) -> int:
        return self.source.stop - self.source.start

    def steps(self) -> Iterator[FileRange | bytes]:
        yield self.source.path, self.source.start, self.source.stop


@dataclass(frozen=True)
class Rows:
    """Rows of the source along ``axis``, before which all axes are 1; PADDED_EXPERT among them is the bytes of ``bias``."""

    source: StoredTensor
    rows: list[int]
    axis: int
    bias: bytes = b""

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.source.shape[: self.axis], len(self.rows), *self.source.shape[self.axis + 1 :])

    @property
    def _row_size(self) -> int:
        return (self.source.stop - self.source.start) // self.source.shape[self.axis]

    @property
    def size(self) -> int:
        return len(self.rows) * self._row_size

    def steps(self) -> Iterator[FileRange | bytes]:
        path, start, size = self.source.path, self.source.start, self._row_size
        for row in self.rows:
            yield self.bias if row == PADDED_EXPERT else (path, start + row * size, start + (row + 1) * size)


@dataclass(frozen=True)
class Piece:
    """A tensor of the output."""

    name: str
    content: Content


def cut(model: MoeModel, places: dict[str, TensorPlace], shape: Shape) -> list[Piece]:
    """Account for every tensor of the model: copied, cut, renamed or left out.

    Args:
        places: of all tensors, by name.

    Returns:
        the tensors of the output in the order of their sources.

    Raises:
        WorkError: names all tensors that no rule describes, and those that do not have one part for each expert.
    """
    pieces: list[Piece] = []
    wrong: list[str] = []
    layers = model.moe_layers | model.draft_layers
    numbers = {layer: _numbers(rows, layers[layer]) for layer, rows in shape.rows.items()}
    for name, place in places.items():
        tensor, role = model.tensors[name], place.tensor_role
        experts = layers.get(-1 if place.layer is None else place.layer)
        if role == "unloaded":
            continue
        if role == "other":
            pieces.append(Piece(name, Copy(tensor)))
        elif role == "suspect" or experts is None or place.layer is None:
            wrong.append(f"{name} (one part for each expert?)")
        elif place.expert is not None:
            new = numbers[place.layer].get(place.expert, [])
            pieces += (Piece(_renumbered(name, place, number), Copy(tensor)) for number in new)
        elif (axis := _expert_axis(tensor, experts)) is None:
            wrong.append(f"{name} ({tensor.dtype} of shape {list(tensor.shape)}, {experts} experts)")
        else:
            rows, is_bias = shape.rows[place.layer], role == model.padding_bias
            pieces.append(Piece(name, _cut_rows(name, tensor, rows, axis, experts, is_bias)))
    if wrong:
        raise WorkError(f"No rule describes how to cut these tensors of {model.source}: {', '.join(wrong)}.")
    return pieces


def _numbers(rows: list[int], experts: int) -> dict[int, list[int]]:
    """The new numbers of each source expert; the one that pads may have several."""
    numbers: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(padding_source(rows, experts) if row == PADDED_EXPERT else row, []).append(number)
    return numbers


def _renumbered(name: str, place: TensorPlace, number: int) -> str:
    before, after = name.removesuffix(place.part).rsplit(str(place.expert), 1)
    return f"{before}{number}{after}{place.part}"


def _expert_axis(tensor: StoredTensor, experts: int) -> int | None:
    """The axis of the experts, the first that is not 1; None where that is another, or an expert is no whole bytes.

    That is so where a block of a quantised type holds several experts.
    """
    axis = next((i for i, length in enumerate(tensor.shape) if length == experts), None)
    whole = (tensor.stop - tensor.start) % experts == 0
    return axis if axis is not None and whole and prod(tensor.shape[:axis]) == 1 else None


def _cut_rows(name: str, tensor: StoredTensor, rows: list[int], axis: int, experts: int, is_bias: bool) -> Rows:
    """The kept rows, with a source for padding: the lowest bias in the tensor that has it, else a dropped expert."""
    if PADDED_EXPERT not in rows:
        return Rows(tensor, rows, axis)
    if not is_bias:
        dropped = padding_source(rows, experts)
        return Rows(tensor, [dropped if row == PADDED_EXPERT else row for row in rows], axis)
    if tensor.dtype not in EXCLUDED_BIAS:
        raise WorkError(f"{name} is stored as {tensor.dtype}; padding needs a floating-point bias.")
    return Rows(tensor, rows, axis, EXCLUDED_BIAS[tensor.dtype].tobytes())


def write_data(pieces: list[Piece], target: BinaryIO, alignment: int = 1) -> None:
    """Append the bytes of all pieces to an unbuffered file, each filled up with zeros to a multiple of ``alignment``.

    Raises:
        WorkError: a source has become shorter.
        OSError: the target cannot be written.
    """
    with ExitStack() as stack:
        paths = {piece.content.source.path for piece in pieces}
        files = {path: stack.enter_context(path.open("rb", buffering=0)) for path in paths}

        def steps() -> Iterator[bytes | tuple[BinaryIO, int, int]]:
            for piece in pieces:
                for step in piece.content.steps():
                    yield step if isinstance(step, bytes) else (files[step[0]], *step[1:])
                yield bytes(-piece.content.size % alignment)

        copy_all(steps(), target)
