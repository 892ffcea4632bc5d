"""The types of ggml and GGUF (ggml.h, gguf.h, llama.h): of tensors, by their blocks, of values, and of whole files.

The gguf package has these tables too, and a test holds them against its own; to load it takes a tenth of the time in which
a sentence is translated.
"""

from enum import IntEnum


class GgmlType(IntEnum):
    """Of a tensor."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42


BLOCKS = {  # weights and bytes of one
    GgmlType.F32: (1, 4), GgmlType.F16: (1, 2), GgmlType.Q4_0: (32, 18), GgmlType.Q4_1: (32, 20), GgmlType.Q5_0: (32, 22),
    GgmlType.Q5_1: (32, 24), GgmlType.Q8_0: (32, 34), GgmlType.Q8_1: (32, 40), GgmlType.Q2_K: (256, 84),
    GgmlType.Q3_K: (256, 110), GgmlType.Q4_K: (256, 144), GgmlType.Q5_K: (256, 176), GgmlType.Q6_K: (256, 210),
    GgmlType.Q8_K: (256, 292), GgmlType.IQ2_XXS: (256, 66), GgmlType.IQ2_XS: (256, 74), GgmlType.IQ3_XXS: (256, 98),
    GgmlType.IQ1_S: (256, 50), GgmlType.IQ4_NL: (32, 18), GgmlType.IQ3_S: (256, 110), GgmlType.IQ2_S: (256, 82),
    GgmlType.IQ4_XS: (256, 136), GgmlType.I8: (1, 1), GgmlType.I16: (1, 2), GgmlType.I32: (1, 4), GgmlType.I64: (1, 8),
    GgmlType.F64: (1, 8), GgmlType.IQ1_M: (256, 56), GgmlType.BF16: (1, 2), GgmlType.TQ1_0: (256, 54),
    GgmlType.TQ2_0: (256, 66), GgmlType.MXFP4: (32, 17), GgmlType.NVFP4: (64, 36), GgmlType.Q1_0: (128, 18),
    GgmlType.Q2_0: (64, 18),
}  # fmt: skip
# By general.file_type, whose other numbers say nothing.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip


class ValueType(IntEnum):
    """Of a metadata value, or of each element of an array."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


def bits_per_weight(name: str) -> float:
    """Of a tensor whose type has ggml's ``name``, in capitals.

    Raises:
        KeyError: there is no such type.
    """
    weights, size = BLOCKS[GgmlType[name]]
    return size * 8 / weights
