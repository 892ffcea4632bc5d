"""A Hugging Face checkpoint folder read without torch: names, shapes and bytes of its safetensors, mapped, not loaded."""

import hashlib
import json
import mmap
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prune.families import Family, family_of
from runtime.errors import RequestError, WorkError

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
FINGERPRINT_BYTES = 4096  # of each tensor's start go into the fingerprint


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: ``start`` and ``stop`` are byte offsets in its shard."""

    shard: str
    dtype: str  # as safetensors spells it: BF16, F32, ...
    shape: tuple[int, ...]
    start: int
    stop: int


def _read_header(path: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file (format: 8 bytes of header length, a JSON header, then the data)."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= size else None
    except (struct.error, ValueError):
        header = None
    if not isinstance(header, dict):
        raise WorkError(f"{path} is not a safetensors file, or is cut short.")
    header.pop("__metadata__", None)
    base, tensors = 8 + length, {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        tensors[name] = Tensor(path.name, entry["dtype"], tuple(entry["shape"]), base + start, base + stop)
    end = max((tensor.stop for tensor in tensors.values()), default=base)
    if end > size:
        raise WorkError(f"{path} is cut short: {end} bytes expected, {size} there.")
    return tensors


class Checkpoint:
    """An MoE checkpoint folder.

    Raises:
        RequestError: no folder, no config, no safetensors, or not an MoE family that we know.
        WorkError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise RequestError(f"There is no model folder {folder}.", next_command="ls models/default")
        path = self.folder / "config.json"
        if not path.exists():
            raise RequestError(f"{folder} has no config.json: not a Hugging Face model folder.")
        try:
            self.config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise WorkError(f"{path} is not valid JSON.") from None
        self.family: Family = family_of(self.config)
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            shards = ["model.safetensors"]
        missing = [name for name in shards if not (self.folder / name).exists()]
        if missing:
            if not index.exists():
                raise RequestError(f"{folder} has no safetensors weights (pickled ones are not read).")
            raise WorkError(f"{folder} is incomplete: {missing[0]} is missing.")
        self.tensors: dict[str, Tensor] = {}
        for name in shards:
            self.tensors |= _read_header(self.folder / name)
        self._maps: dict[str, mmap.mmap] = {}

    @cached_property
    def moe_layers(self) -> dict[int, int]:
        """Number of experts by layer, from the router tensors that are there."""
        before, after = self.family.router.split("{layer}")
        pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
        found = {int(m[1]): t.shape[0] for name, t in self.tensors.items() if (m := pattern.fullmatch(name))}
        if not found:
            raise RequestError(f"{self.folder} has no routed layers: there are no experts to prune.")
        return dict(sorted(found.items()))

    def module(self, role: str, layer: int) -> str:
        """Name in transformers' model of a MoE layer's ``router`` or ``experts``."""
        return {"router": self.family.router_module, "experts": self.family.experts_module}[role].format(layer=layer)

    @property
    def top_k(self) -> int:
        return int(self.config[self.family.top_k_key])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the config's sizes, every tensor's name, shape and first bytes: cheap, and any retraining shows."""
        digest = hashlib.sha256(self.family.model_type.encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(self.raw(name)[:FINGERPRINT_BYTES])
        return digest.hexdigest()[:32]

    def raw(self, name: str) -> memoryview:
        """The tensor's bytes, mapped from its shard."""
        tensor = self.tensors[name]
        if tensor.shard not in self._maps:
            with (self.folder / tensor.shard).open("rb") as file:
                self._maps[tensor.shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._maps[tensor.shard])[tensor.start : tensor.stop]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32.

        Raises:
            WorkError: stored in a type that has no plain float32 value (quantised checkpoints).
        """
        tensor = self.tensors[name]
        if tensor.dtype not in _NUMPY:
            raise WorkError(f"{name} is stored as {tensor.dtype}; a bf16, f16 or f32 checkpoint is needed.")
        values = np.frombuffer(self.raw(name), dtype=_NUMPY[tensor.dtype]).reshape(tensor.shape)
        if tensor.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)
