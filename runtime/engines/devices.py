"""The devices that llama.cpp's library can compute on: their names, kinds and memory.

A device of the RPC backend is another process, which may compute on anything: it is never counted as a GPU here, whatever
llama.cpp says of it, and is used only where it is named (``rpc://127.0.0.1:50052``).
"""

import ctypes
import socket
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from runtime.engines.llama_library import library
from runtime.errors import RequestError

CPU, GPU, INTEGRATED, REMOTE, OTHER = "processor", "GPU", "integrated GPU", "another process", "accelerator"
_KINDS = {0: CPU, 1: GPU, 2: INTEGRATED}  # enum ggml_backend_dev_type
_REMOTE = "rpc://"
_ANSWER = 10.0  # seconds in which a server has to take a connection
_POINTER, _TEXT = ctypes.c_void_p, ctypes.c_char_p
_SIZE = ctypes.POINTER(ctypes.c_size_t)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_backend_dev_count": (ctypes.c_size_t, []),
    "ggml_backend_dev_get": (_POINTER, [ctypes.c_size_t]),
    "ggml_backend_dev_name": (_TEXT, [_POINTER]),
    "ggml_backend_dev_description": (_TEXT, [_POINTER]),
    "ggml_backend_dev_type": (ctypes.c_int, [_POINTER]),
    "ggml_backend_dev_memory": (None, [_POINTER, _SIZE, _SIZE]),
    "ggml_backend_dev_backend_reg": (_POINTER, [_POINTER]),
    "ggml_backend_reg_name": (_TEXT, [_POINTER]),
    "ggml_backend_reg_by_name": (_POINTER, [_TEXT]),
    "ggml_backend_reg_get_proc_address": (_POINTER, [_POINTER, _TEXT]),
    "ggml_backend_register": (None, [_POINTER]),
    "ggml_backend_cpu_buffer_type": (_POINTER, []),
}


@dataclass(frozen=True)
class Device:
    """A device, with its memory in bytes as it was when it was looked at; a total of 0: it is not told."""

    name: str
    backend: str
    description: str
    kind: str
    total_bytes: int
    free_bytes: int
    handle: Any = field(repr=False, compare=False)  # the library's own

    @property
    def is_gpu(self) -> bool:
        return self.kind in (GPU, INTEGRATED)


@cache
def ggml_devices() -> Any:
    """ggml's functions on devices, behind the binding."""
    ggml = library()._lib
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


def free_bytes(handle: int) -> int:
    """Of a device's memory, now."""
    return _memory(handle)[0]


def _memory(handle: int) -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml_devices().ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def _handles() -> dict[str, int]:
    """Every device by its name."""
    ggml = ggml_devices()
    handles = [ggml.ggml_backend_dev_get(index) for index in range(ggml.ggml_backend_dev_count())]
    return {ggml.ggml_backend_dev_name(handle).decode(): handle for handle in handles}


def _backend(handle: int) -> str:
    ggml = ggml_devices()
    name = ggml.ggml_backend_reg_name(ggml.ggml_backend_dev_backend_reg(handle)).decode()
    return "RPC" if name.startswith("RPC") else name  # one for each server


def _describe(name: str, handle: int) -> Device:
    ggml, backend = ggml_devices(), _backend(handle)
    kind = REMOTE if backend == "RPC" else _KINDS.get(ggml.ggml_backend_dev_type(handle), OTHER)
    free, total = _memory(handle)
    return Device(name, backend, ggml.ggml_backend_dev_description(handle).decode(), kind, total, free, handle)


def find_devices() -> list[Device]:
    """Every device of this process, in the library's order.

    Those of another process are left out: where it has ended, llama.cpp ends this one, too, when it asks for its memory.

    Raises:
        WorkError: there is no llama.cpp.
    """
    return [_describe(name, handle) for name, handle in _handles().items() if _backend(handle) != "RPC"]


def _no_answer(address: str) -> RequestError:
    again = "ggml-rpc-server -H 127.0.0.1, then the same again"
    return RequestError(f"No RPC server answers at {address}.", next_command=again)


def _require_answer(address: str) -> None:
    """Connect before llama.cpp does: where it cannot, it ends the process.

    Raises:
        RequestError: the address is none, or nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise RequestError(
            f"{_REMOTE}{address} is no address of an RPC server.", next_command="--device rpc://127.0.0.1:50052"
        )
    try:
        socket.create_connection((host, int(port)), _ANSWER).close()
    except (OSError, UnicodeError):  # UnicodeError: no name of a machine
        raise _no_answer(address) from None


@cache
def _add_remote(address: str) -> str:
    """Make the devices of an RPC server known; the name of its first one.

    Raises:
        RequestError: the library has no RPC backend, or nobody answers.
    """
    ggml = ggml_devices()
    registry = ggml.ggml_backend_reg_by_name(b"RPC")
    if not registry:
        raise RequestError("This build of llama.cpp has no RPC backend.", next_command="slimmoe devices")
    _require_answer(address)
    add = ctypes.CFUNCTYPE(_POINTER, _TEXT)(
        ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_rpc_add_server")
    )
    known = ggml.ggml_backend_dev_count()
    server = add(address.encode())
    if server:
        ggml.ggml_backend_register(server)
    if ggml.ggml_backend_dev_count() == known:
        raise _no_answer(address)
    return ggml.ggml_backend_dev_name(ggml.ggml_backend_dev_get(known)).decode()


def find_device(name: str) -> Device:
    """The device of that name, whatever the case of its letters, or of an RPC server (``rpc://127.0.0.1:50052``).

    Raises:
        RequestError: there is none.
    """
    if name.startswith(_REMOTE):
        name = _add_remote(name.removeprefix(_REMOTE))
    handles = _handles()
    for known, handle in handles.items():
        if known.lower() == name.lower():
            return _describe(known, handle)
    raise RequestError(f"There is no device {name}, only {', '.join(handles)}.", next_command="slimmoe devices")


def find_gpu() -> Device | None:
    """The GPU with the most free memory, one of its own before one that shares the machine's; None where there is none."""
    gpus = [device for device in find_devices() if device.is_gpu]
    return max(gpus, key=lambda device: (device.kind == GPU, device.free_bytes), default=None)
