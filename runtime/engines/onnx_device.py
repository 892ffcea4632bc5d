"""The devices that ONNX Runtime computes on beside the processor: those of execution providers which are packages of their own.

A graph's operators run there as far as the provider has them, and on the processor else. The cache stays on the device:
both as what a step reads and as what it writes.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from runtime.engines.base import Feed
from runtime.engines.decoding import Stepper
from runtime.engines.devices import CPU, GPU, OTHER, Device
from runtime.engines.onnx_load import ending
from runtime.errors import RequestError, WorkError

PLUGINS = {"WebGPU": "onnxruntime_ep_webgpu"}  # the package of each backend
_INSTALL = "pip install onnxruntime-ep-webgpu"


@cache
def _register(backend: str, package: str) -> tuple[str, ...]:
    """Make a plugin known to ONNX Runtime; the names of its providers."""
    import onnxruntime as ort

    plugin = importlib.import_module(package)
    ort.register_execution_provider_library(backend, plugin.get_library_path())
    return tuple(plugin.get_ep_names())


def find_onnx_devices() -> list[Device]:
    """What the installed plugins can compute on; ONNX Runtime does not tell a device's memory.

    Raises:
        WorkError: a plugin cannot be used with this version of ONNX Runtime.
    """
    import onnxruntime as ort

    found = []
    for backend, package in PLUGINS.items():
        if importlib.util.find_spec(package) is None:
            continue
        try:
            providers = _register(backend, package)
            each = [device for device in ort.get_ep_devices() if device.ep_name in providers]
        except Exception as error:
            raise WorkError(f"{package} cannot be used ({ending(error)}).", next_command=f"{_INSTALL} -U") from None
        for number, device in enumerate(each):
            name = backend.lower() + (f":{number}" if number else "")
            kind = {"GPU": GPU, "CPU": CPU}.get(device.device.type.name, OTHER)
            about = device.device.metadata.get("Description") or device.device.vendor
            found.append(Device(name, backend, about, kind, 0, 0, device))
    return found


def find_onnx_device(name: str) -> Device:
    """The device of that name (``webgpu``), whatever the case of its letters.

    Raises:
        RequestError: there is none.
    """
    devices = find_onnx_devices()
    for device in devices:
        if device.name == name.lower():
            return device
    there = ", ".join(["cpu", *(device.name for device in devices)])
    installed = any(map(importlib.util.find_spec, PLUGINS.values()))
    sentence = f"ONNX Runtime has no device {name} here, only {there}."
    raise RequestError(sentence, next_command="slimmoe devices" if installed else _INSTALL)


def device_cache(device: Device, shapes: Mapping[str, tuple[Sequence[int], np.dtype]]) -> dict[str, Any]:
    """Zeros on a device for every input that carries keys and values.

    Raises:
        WorkError: it has no memory for them.
    """
    import onnxruntime as ort

    memory = device.handle.memory_info(ort.OrtDeviceMemoryType.DEFAULT)
    make = ort.OrtValue.ortvalue_from_shape_and_type
    try:
        return {name: make(shape, dtype, memory_info=memory) for name, (shape, dtype) in shapes.items()}
    except Exception:
        sentence = f"{device.name} has no memory for the cache."
        raise WorkError(sentence, next_command="the same with --device cpu") from None


class SingleBatch:
    """One sequence at a time in an engine's own cache, whose rows cannot be moved; see ``Batch``."""

    places = 1

    def __init__(self, engine: Stepper, room: int) -> None:
        self.room = room
        self._engine: Stepper | None = engine
        self._length = 0  # tokens of the sequence under way

    def evaluate(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """See ``Batch``."""
        (feed,) = feeds
        assert self._engine, "closed"
        if not self._length:
            self._length = len(feed.tokens)
            return [self._engine.prefill(feed.tokens, self.room)]
        (token,) = feed.tokens
        self._length += 1
        return [self._engine.step(token, self._length)]

    def free(self, place: int) -> None:
        self._length = 0

    def copy(self, place: int, other: int) -> None:
        """Refuse: there is no other place.

        Raises:
            RequestError: always.
        """
        raise RequestError("This device follows one sequence at a time.", next_command="--device cpu")

    def close(self) -> None:
        self._engine = None
