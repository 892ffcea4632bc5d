"""Loading a GGUF file into llama.cpp: from the file or into memory, on the processor or in part on a device."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.engines.devices import ggml_devices
from runtime.engines.llama_library import library, reason, use_devices
from runtime.engines.offload import Placement
from runtime.errors import WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.machine import memory_left

_ROOM = 1.1  # bytes of memory for each byte of the file: the cache and what is computed, too
_PLAIN = (0, 1, 32)  # general.file_type of F32, F16 and BF16
_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # llama.cpp's own pattern


class _Override(ctypes.Structure):
    """``struct llama_model_tensor_buft_override``: where tensors go whose names match."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def load_model(artefact: Path, file: GgufFile, mapped: bool, overrides: Mapping[str, int], placement: Placement) -> Any:
    """Map the file, or read it where ggml rearranges the weights for the CPU: mapped, they would be held twice.

    Weights larger than the memory there is stay in the file, which is slow and gets nobody killed. Those that go to a
    device are read from a mapping, unless others stay behind, which llama.cpp warns of.

    Args:
        file: what ``artefact`` holds, checked (``check_gguf``).
        mapped: leave the weights in the file, whatever their type.
        overrides: integer metadata to use in the place of the file's.

    Raises:
        WorkError: llama.cpp finds a fault, does not know the architecture, or there is no memory for it.
    """
    lib = library()
    plain = file.get("general.file_type") in _PLAIN
    split = placement.split
    here = split.host_bytes if split else sum(part.stat().st_size for part in file.parts)
    mapped = mapped or _ROOM * here > memory_left()
    params = lib.llama_model_default_params()
    whole = split is not None and split.is_whole
    params.n_gpu_layers = split.gpu_layers if split else 0
    use_devices(params, *([placement.device.handle] if placement.device else []))
    params.load_mode = (
        lib.LLAMA_LOAD_MODE_MMAP if mapped or whole or (plain and not split) else lib.LLAMA_LOAD_MODE_NONE
    )
    params.use_extra_bufts = not mapped  # the rearranged weights
    if split and split.cpu_experts:
        kept = [
            _Override(rf"blk\.{layer}{_EXPERTS}".encode(), ggml_devices().ggml_backend_cpu_buffer_type())
            for layer in split.experts_behind
        ]
        stays = (_Override * (len(kept) + 1))(*kept)  # one without a pattern ends them
        params.tensor_buft_overrides = ctypes.cast(stays, ctypes.c_void_p)
    if overrides:
        entries = (lib.llama_model_kv_override * (len(overrides) + 1))()  # an empty key ends them
        for entry, (key, value) in zip(entries, overrides.items(), strict=False):
            entry.tag, entry.key, entry.value.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, key.encode(), value
        params.kv_overrides = entries
    model = lib.llama_model_load_from_file(os.fsencode(file.parts[0]), params)
    if not model:
        raise WorkError(f"{artefact} cannot be loaded by llama.cpp: {reason()}")
    return model
