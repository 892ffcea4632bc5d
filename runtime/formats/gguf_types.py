"""ggml's types: bits per weight, from the bytes of a block and the weights in it (ggml-common.h)."""

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

_NEWER = {"Q2_0": 18 * 8 / 64}  # types that the gguf package does not know yet


def bits_per_weight(name: str) -> float:
    """Of a tensor whose type has ggml's ``name``, in capitals.

    Raises:
        KeyError: there is no such type.
    """
    if name in _NEWER:
        return _NEWER[name]
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return size * 8 / weights
