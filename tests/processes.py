"""The slimmoe command in several processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_slimmoe(*arguments: str, processes: int) -> subprocess.CompletedProcess[str]:
    """Run the command on the processor, under torchrun where it is in more than one process of one thread each."""
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m")
    module = (*torchrun, "slimmoe") if processes > 1 else ("slimmoe",)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = (sys.executable, "-m", *module, *arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
