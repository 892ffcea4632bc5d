"""The tensors of a checkpoint folder read without torch: mapped, not loaded, and dequantised where they are quantised."""

import math
import mmap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from runtime.errors import WorkError
from runtime.formats.floats import StoredArray, as_float32
from runtime.formats.quantised import FloatTensor, Quantisation, float_tensors, read_slices
from runtime.formats.safetensors import SafetensorsTensor

READ_BYTES = 1 << 24  # of a file at a time, where a tensor is read by rows


class StoredTensors:
    """``tensors`` are as stored; ``floats`` as they are where nothing is quantised."""

    def __init__(self, folder: Path, tensors: dict[str, SafetensorsTensor], quantisation: Quantisation | None) -> None:
        self.folder, self.tensors, self.quantisation = folder, tensors, quantisation
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def weights(self) -> int:
        """How many numbers the tensors are, quantised or not."""
        return sum(math.prod(tensor.shape) for tensor in self.floats.values())

    @cached_property
    def floats(self) -> dict[str, FloatTensor]:
        """The tensors that this checkpoint would have unquantised; ``read``, ``read_rows`` and ``read_slices`` know them."""
        return float_tensors(self.tensors, self.quantisation, self.folder)

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
