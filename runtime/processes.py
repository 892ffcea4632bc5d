"""Child processes that end with this one, however it ends."""

import ctypes
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2)


def ends_with_us() -> dict[str, Any]:
    """Options of ``subprocess.Popen`` and ``run``: the child is killed when the thread that starts it is gone (Linux)."""
    if sys.platform != "linux":
        return {}
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before
            os._exit(1)

    return {"preexec_fn": arrange}
