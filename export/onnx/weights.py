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


class Weights:
    """Initialisers in the external data file ``location``, which lies beside the graph."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.size = 0  # bytes of the file
        self.protos: dict[str, TensorProto] = {}  # the initialisers in use
        self._stored: dict[str, _Stored] = {}
        self._jobs: list[tuple[list[_Stored], Callable[[], Iterable[tuple[np.ndarray, ...]]]]] = []

    def __contains__(self, name: str) -> bool:
        return name in self._stored

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
            self.size = stored.offset + stored.size
            group.append(stored)
        self._jobs.append((group, values))

    def use(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """The initialiser of a declared tensor, or a second one that shows the same bytes in another shape."""
        stored = self._stored[name]
        shape = shape or stored.shape
        assert math.prod(shape) == math.prod(stored.shape), (name, shape)
        label = name if shape == stored.shape else f"{name}.{'x'.join(map(str, shape))}"
        proto = TensorProto(name=label, data_type=stored.dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.location), ("offset", stored.offset), ("length", stored.size)):
            proto.external_data.add(key=key, value=str(value))
        self.protos[label] = proto
        return label

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
