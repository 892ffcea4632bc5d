"""The type that training computes in: bf16 where the processor has instructions for it, else float32.

Without them torch converts bf16 to float32 and back around every product: measured on AVX2, nine times slower.
"""

import torch


def has_fast_bf16() -> bool:
    """Whether a GPU, AMX or AVX-512 BF16 is there."""
    return torch.cuda.is_available() or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


COMPUTE = torch.bfloat16 if has_fast_bf16() else torch.float32
