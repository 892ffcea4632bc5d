"""What a model is known by, in plans and statistics: its routers, which are the same numbers in every format."""

import hashlib
from collections.abc import Iterable

from runtime.formats.floats import as_float32


def fingerprint(routers: Iterable[tuple[int, str, tuple[int, ...], bytes | memoryview]]) -> str:
    """SHA-256 over the router weights of every MoE layer as float32 little-endian; their bytes where they are quantised.

    llama.cpp keeps routers in float32 whatever the type of the file, and f16 and bf16 become float32 without loss. So
    a checkpoint and all GGUF files of it, quantised in any way, share a fingerprint: a plan or statistics made with one
    serve the others. Any training that reaches the routers changes it, and so does every cut. It does not tell apart
    models with the same routers: one fine-tuned with its routers frozen, or the same model with other experts.
    ``Checkpoint.weights_hash`` does.

    Args:
        routers: layer, type, shape (experts first) and bytes of each, layers in order.
    """
    digest = hashlib.sha256()
    for layer, dtype, shape, data in routers:
        values = as_float32(data, dtype)
        digest.update(f"{layer} {shape} {'' if values is not None else dtype}\n".encode())
        digest.update(data if values is None else values.astype("<f4").data)
    return digest.hexdigest()[:32]
