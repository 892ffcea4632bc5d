"""Where a model is computed: what was asked for, and what is chosen by a device's free memory, each with its reason."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtime.engines.devices import REMOTE, Device, find_device, find_gpu
from runtime.engines.split import MARGIN, Count, Split, gguf_bytes, splits
from runtime.errors import RequestError
from runtime.formats.gguf_file import GgufFile

LESS = 0.85  # of the bytes that could not be had, what the next try takes at most


@dataclass(frozen=True)
class Offload:
    """What is asked for.

    Attributes:
        device: ``auto``: a GPU where there is one; ``cpu``; a device's name.
        gpu_layers: on the device, the output layer among them; ``auto``: as many as it has memory for.
        cpu_experts: layers, from the first on, whose experts stay in the machine's memory; ``auto``: as few as will do.
    """

    device: str = "auto"
    gpu_layers: Count = "auto"
    cpu_experts: Count = "auto"

    @classmethod
    def parse(cls, device: str, gpu_layers: str, cpu_experts: str, all_cpu_experts: bool = False) -> "Offload":
        """As it is typed; ``all_cpu_experts`` is a short form of ``cpu_experts`` all.

        Raises:
            RequestError: a number is none, or both are given and differ.
        """
        layers, experts = _count(gpu_layers, "--gpu-layers"), _count(cpu_experts, "--cpu-experts")
        if all_cpu_experts and experts not in ("auto", "all"):
            raise RequestError(
                f"-cmoe is --cpu-experts all, and --cpu-experts {experts} is given too.",
                next_command=f"--cpu-experts {experts}",
            )
        return cls(device, layers, "all" if all_cpu_experts else experts)

    @classmethod
    def from_json(cls, text: str) -> "Offload":
        """As ``to_dict`` gave it, for another process."""
        return cls(**json.loads(text))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _count(text: str, option: str) -> Count:
    if text == "all" or text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise RequestError(f"{option} takes a number, all or auto, not {text!r}.", next_command=f"{option} auto")
    return int(text)


ON_CPU = Offload("cpu")


@dataclass(frozen=True)
class Placement:
    """What is chosen, and why; ``device`` None: all is computed by the processor."""

    device: Device | None
    split: Split | None
    device_reason: str
    split_reason: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes a part of it at least."""
        return self.device is not None and self.device.is_gpu

    def __str__(self) -> str:
        if self.device is None:
            return f"on the processor: {self.device_reason}"
        told = f"{self.device.name} ({self.device.backend}, {self.device.kind}) has {self.split}"
        return f"{told}: {self.device_reason}; {self.split_reason}"

    def row(self, free: Sequence[int], buffers: Mapping[str, int]) -> dict[str, Any]:
        """Keys of a bench row: what is on the device, whose ``free`` bytes are those before and after; none without one."""
        if self.device is None or self.split is None:
            return {}
        return {
            "device": self.device.name,
            "backend": self.device.backend,
            "gpu_layers": self.split.gpu_layers,
            "layers": self.split.layers,
            "cpu_experts": self.split.cpu_experts,
            "device_free_before_bytes": free[0],
            "device_free_after_bytes": free[1],
            **{f"device_{part}": size for part, size in buffers.items()},
        }


def _device_of(asked: Offload) -> tuple[Device | None, str]:
    if asked.device.lower() == "cpu":
        device, why = None, "asked for"
    elif asked.device == "auto":
        device = find_gpu()
        why = "the GPU with the most free memory" if device else "llama.cpp sees no GPU"
    else:
        device, why = find_device(asked.device), "asked for"
        if not device.is_gpu and device.kind != REMOTE:
            device, why = None, f"{device.name} is no GPU"
    if device is None and asked.gpu_layers not in ("auto", 0):
        because = "--device cpu excludes one" if why == "asked for" else why
        raise RequestError(
            f"There is no device for --gpu-layers {asked.gpu_layers}: {because}.", next_command="slimmoe devices"
        )
    return device, why


def placements(asked: Offload, file: GgufFile, context: int, width: int) -> Iterator[Placement]:
    """The placement for a GGUF file, then those with ever less on the device, should there be no memory for the first.

    Args:
        context: tokens that all sequences may have together.
        width: bytes of a number in the cache.

    Raises:
        RequestError: no such device.
    """
    device, why = _device_of(asked)
    if device is None:
        yield Placement(None, None, why)
        return
    model = gguf_bytes(file, context, width)
    budget = device.free_bytes - MARGIN
    fixed = "auto" not in (asked.gpu_layers, asked.cpu_experts)
    last, failed = None, ""
    for split in splits(model, asked.gpu_layers, asked.cpu_experts):
        if not fixed and split.device_bytes > budget and split.gpu_layers:
            last = split
            continue
        if not split.gpu_layers:
            yield Placement(None, None, "asked for" if fixed else f"{device.name} has too little memory free{failed}")
            return
        if fixed:
            reason = "asked for"
        else:
            reason = (
                f"{split.device_bytes / 1e6:.0f} MB of {device.free_bytes / 1e6:.0f} MB free, {MARGIN / 1e6:.0f} left"
            ) + failed
        yield Placement(device, split, why, reason)
        last, budget = None, int(split.device_bytes * LESS)
        failed = "; more could not be had"
    if last is not None:  # nothing fits, and layers were asked for: the least that is as asked
        yield Placement(device, last, why, "the least that was asked for, more than is free")
