"""Where training runs, and the type that it computes in: bf16 where there are instructions for it, else float32."""

import torch

from prune.device import has_fast_bf16

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COMPUTE = torch.bfloat16 if has_fast_bf16(DEVICE) else torch.float32
