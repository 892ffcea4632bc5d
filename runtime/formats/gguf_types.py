"""ggml's types by the blocks that they are stored in (ggml-common.h): those of the gguf package, and newer ones."""

from enum import IntEnum

from runtime.formats.gguf_constants import GGML_QUANT_SIZES, GGMLQuantizationType

GgmlType = IntEnum("GgmlType", {kind.name: kind.value for kind in GGMLQuantizationType} | {"Q2_0": 42})
# Weights and bytes of a block.
BLOCKS: dict[IntEnum, tuple[int, int]] = {
    GgmlType(42): (64, 18),
    **{GgmlType(kind.value): size for kind, size in GGML_QUANT_SIZES.items()},
}


def bits_per_weight(name: str) -> float:
    """Of a tensor whose type has ggml's ``name``, in capitals.

    Raises:
        KeyError: there is no such type.
    """
    weights, size = BLOCKS[GgmlType[name]]
    return size * 8 / weights
