"""llama.cpp's library through llama_cpp's ctypes layer, and what it logs: errors, and sizes of buffers."""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import re
import sys
import types
from collections import deque
from functools import cache
from typing import Any

from runtime.errors import WorkError
from runtime.llama_paths import GET_LIBRARY, HOME

_INFO, _ERROR = 2, 4  # ggml's log levels
_BUFFER = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
_PARTS = {"model": "weights_bytes", "KV": "kv_cache_bytes", "RS": "kv_cache_bytes"}  # RS: recurrent layers' state

errors: deque[str] = deque(maxlen=20)  # llama.cpp's last error lines
# Bytes by the name of a buffer's kind (CPU, CUDA0) and part, as llama.cpp logs them while it loads: no function tells them.
buffers: dict[tuple[str, str], int] = {}
GAVE_UP = "llama.cpp gave up:"
_callbacks: list[Any] = []  # the library calls them as long as the process lives: Python must not collect them


def _import_bindings() -> Any:
    """llama_cpp's ctypes layer alone.

    The package's ``__init__`` would load its high-level API too, whose dependencies set-up does not install; so an
    empty package stands in its place during the import.
    """
    if "llama_cpp" in sys.modules:
        return importlib.import_module("llama_cpp.llama_cpp")
    found = importlib.util.find_spec("llama_cpp")
    if found is None:
        raise ImportError("llama_cpp is not installed")
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["llama_cpp"] = package
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    finally:
        del sys.modules["llama_cpp"]


def _end(message: bytes) -> None:
    """Called where ggml's code finds a number impossible: it then ends the process, which shall say why in a sentence."""
    reason = message.decode(errors="replace").strip().splitlines()[0]
    print(f"{GAVE_UP} {reason}. It cannot compute this file.", file=sys.stderr, flush=True)
    os._exit(1)


@cache
def library() -> Any:
    """llama_cpp on the environment's own build of llama.cpp, else on what LLAMA_CPP_LIB_PATH or its wheel brings."""
    if (HOME / "bin").is_dir():
        os.environ.setdefault("LLAMA_CPP_LIB_PATH", str(HOME / "bin"))
    try:
        bindings = _import_bindings()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # AttributeError: a build of another version
        raise WorkError(f"llama.cpp cannot be loaded ({error}).", next_command=GET_LIBRARY) from None

    def log(level: int, text: bytes, _: Any) -> None:
        if level == _ERROR:
            errors.append(text.decode(errors="replace").strip())
        elif level == _INFO and (found := _BUFFER.search(text.decode(errors="replace"))):
            key = found[1], _PARTS.get(found[2], "compute_bytes")
            buffers[key] = buffers.get(key, 0) + round(float(found[3]) * 2**20)

    _callbacks.append(bindings.llama_log_callback(log))
    bindings.llama_log_set(_callbacks[-1], None)
    with contextlib.suppress(AttributeError):  # not in older builds, nor where a library shows only its own functions
        _callbacks.append(ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_end))
        bindings._lib.ggml_set_abort_callback(_callbacks[-1])
    bindings.llama_backend_init()
    return bindings


def use_devices(params: Any, *handles: int) -> None:
    """Let a model that is loaded with ``params`` see these devices beside the processor; without this it sees all there are."""
    ended = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    params.devices = ctypes.cast(ended, ctypes.c_void_p)


def buffers_of(device: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """What was logged, by part: bytes in the machine's memory, and those on the device of that name."""
    host: dict[str, int] = {}
    there: dict[str, int] = {}
    for (name, part), size in buffers.items():
        on_device = device is not None and name.startswith(device) and not name.endswith("_Host")
        where = there if on_device else host
        where[part] = where.get(part, 0) + size
    return host, there


def reason() -> str:
    """llama.cpp's own explanation: of the lines it logs while it gives up, the first is nearest to the cause."""
    if not errors:
        return "no reason was given."
    return errors[0].partition(": ")[2].removeprefix("error loading model: ").rstrip(".") + "."


def lacked_memory() -> bool:
    """Whether what was logged last is that memory could not be had."""
    return any(re.search(r"allocat|out of memory|OutOfDeviceMemory", line) for line in errors)
