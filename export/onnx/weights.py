"""The external data file: initialisers are declared while the graph is built, their values stream in afterwards."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

ALIGNMENT = 4096  # a page, so that the runtime can map each tensor in place


@dataclass(frozen=True)
class _Stored:
    name: str
    dtype: int  # TensorProto.DataType
    shape: tuple[int, ...]
    offset: int  # bytes from the file's start

    @property
    def size(self) -> int:
        return math.prod(self.shape) * helper.tensor_dtype_to_np_dtype(self.dtype).itemsize

    def proto(self, shape: tuple[int, ...], name: str, location: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=self.dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", self.offset), ("length", self.size)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Weights:
    """Initialisers in the external data file ``location``, which lies beside the graph."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.size = 0  # bytes of the file
        self.protos: dict[str, TensorProto] = {}
        self._stored: dict[str, _Stored] = {}
        self._jobs: list[tuple[list[_Stored], Callable[[], Iterable[tuple[np.ndarray, ...]]]]] = []

    def __contains__(self, name: str) -> bool:
        return name in self.protos

    def declare(
        self,
        tensors: Sequence[tuple[str, int, tuple[int, ...]]],
        values: Callable[[], Iterable[tuple[np.ndarray, ...]]],
    ) -> None:
        """Reserve room for tensors (name, data type, shape) whose ``values`` come together.

        Each item of ``values`` holds one array for each tensor: the next bytes of each.
        """
        group = []
        for name, dtype, shape in tensors:
            stored = _Stored(name, dtype, shape, -(-self.size // ALIGNMENT) * ALIGNMENT)
            self._stored[name] = stored
            self.protos[name] = stored.proto(shape, name, self.location)
            self.size = stored.offset + stored.size
            group.append(stored)
        self._jobs.append((group, values))

    def view(self, name: str, of: str, shape: tuple[int, ...]) -> str:
        """A second initialiser over the bytes of ``of``, for an operator that wants them in another shape."""
        if name not in self:
            stored = self._stored[of]
            assert math.prod(shape) == math.prod(stored.shape)
            self.protos[name] = stored.proto(shape, name, self.location)
        return name

    def write(self, path: Path) -> None:
        """Stream all values into the file; one piece is in memory at a time."""
        with path.open("wb") as file:
            file.truncate(self.size)
            for group, values in self._jobs:
                cursors = [stored.offset for stored in group]
                for arrays in values():
                    for i, array in enumerate(arrays):
                        file.seek(cursors[i])
                        cursors[i] += file.write(np.ascontiguousarray(array).data)
                assert cursors == [stored.offset + stored.size for stored in group], group
