"""What a device needs to run, measure and report an artefact. No torch."""

import os
import platform

# onnxruntime 1.32 writes a device id and a log of its use under HOME, with an address to send them to, unless it is told
# not to before it is imported. slimmoe works offline and says nothing to anybody; child processes inherit this.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A thread of GNU's OpenMP (llama.cpp and torch) spins for 14 ms before it sleeps. Where another program wants the core, a
# token then takes a hundred times as long. About 50 us are as fast on a quiet machine: a pause takes 140 cycles on x86 and a
# few elsewhere. It must be set before the library is loaded; who has set it is obeyed.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000" if platform.machine() in ("x86_64", "AMD64", "i686") else "10000")

# numpy's OpenBLAS starts a thread for each other core as it is imported, and each spins for 2^26 ticks of the clock before it
# sleeps: 25 ms of every core, a tenth of what a short translation takes. 2^17 are about 50 us here, too.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "17")
