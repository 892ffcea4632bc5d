"""llama.cpp's library through llama_cpp's ctypes layer, the models it loads, and what it logs: errors, and sizes of buffers."""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import re
import sys
import types
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.gguf_file import check_gguf
from runtime.llama_paths import GET_LIBRARY, HOME
from runtime.machine import memory_left

_ROOM = 1.1  # bytes of memory for each byte of the file: the cache and what is computed, too
_PLAIN = (0, 1, 32)  # general.file_type of F32, F16 and BF16
_INFO, _ERROR = 2, 4  # ggml's log levels
_BUFFER = re.compile(r" (model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
_PARTS = {"model": "weights_bytes", "KV": "kv_cache_bytes", "RS": "kv_cache_bytes"}  # RS: recurrent layers' state

errors: deque[str] = deque(maxlen=20)  # llama.cpp's last error lines
buffers: dict[str, int] = {}  # bytes by part, as llama.cpp logs them while it loads: no function tells them
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
            part = _PARTS.get(found[1], "compute_bytes")
            buffers[part] = buffers.get(part, 0) + round(float(found[2]) * 2**20)

    _callbacks.append(bindings.llama_log_callback(log))
    bindings.llama_log_set(_callbacks[-1], None)
    with contextlib.suppress(AttributeError):  # not in older builds, nor where a library shows only its own functions
        _callbacks.append(ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_end))
        bindings._lib.ggml_set_abort_callback(_callbacks[-1])
    bindings.llama_backend_init()
    return bindings


def on_gpu() -> bool:
    """Whether this build of llama.cpp has a GPU to compute on."""
    return bool(library().llama_supports_gpu_offload())


def load_model(artefact: Path, mapped: bool, overrides: Mapping[str, int]) -> Any:
    """Map the file, or read it where ggml rearranges the weights for the CPU: mapped, they would be held twice.

    Weights larger than the memory there is stay in the file, which is slow and gets nobody killed.

    Args:
        mapped: leave the weights in the file, whatever their type.
        overrides: integer metadata to use in the place of the file's.

    Raises:
        WorkError: the file is damaged, or of an architecture that llama.cpp does not know.
    """
    lib, file = library(), check_gguf(artefact)
    plain = file.get("general.file_type") in _PLAIN
    mapped = mapped or _ROOM * sum(part.stat().st_size for part in file.parts) > memory_left()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = -1 if on_gpu() else 0
    params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if plain or on_gpu() or mapped else lib.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = not mapped  # the rearranged weights
    if overrides:
        entries = (lib.llama_model_kv_override * (len(overrides) + 1))()  # an empty key ends them
        for entry, (key, value) in zip(entries, overrides.items(), strict=False):
            entry.tag, entry.key, entry.value.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, key.encode(), value
        params.kv_overrides = entries
    model = lib.llama_model_load_from_file(os.fsencode(file.parts[0]), params)
    if not model:
        raise WorkError(f"{artefact} cannot be loaded by llama.cpp: {reason()}")
    return model


def reason() -> str:
    """llama.cpp's own explanation: of the lines it logs while it gives up, the first is nearest to the cause."""
    if not errors:
        return "no reason was given."
    return errors[0].partition(": ")[2].removeprefix("error loading model: ").rstrip(".") + "."
