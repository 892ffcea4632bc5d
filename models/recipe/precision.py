"""The type that training computes in: bf16 where there are instructions for it, else float32."""

import torch

from prune.device import choose_device, has_fast_bf16

COMPUTE = torch.bfloat16 if has_fast_bf16(choose_device()[0]) else torch.float32
