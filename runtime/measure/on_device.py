"""What a row of bench.jsonl says of a device that has a part of the model (docs/gpu.md)."""

from typing import TypedDict

from runtime.formats.typed_json import Count


class OnDevice(TypedDict, total=False):
    """Keys of a row whose model lies in part on a device; its memory is not the process's."""

    device: str  # its name
    backend: str  # CUDA, Vulkan, ...; RPC: another process, not a GPU
    gpu_layers: Count  # on the device, the output layer among them
    layers: Count  # of as many
    cpu_experts: Count  # of the layers there, those whose experts are in the machine's memory
    device_weights_bytes: Count
    device_kv_cache_bytes: Count
    device_compute_bytes: Count
    device_free_before_bytes: Count
    device_free_after_bytes: Count
