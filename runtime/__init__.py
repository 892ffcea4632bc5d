"""What a device needs to run, measure and report an artefact. No torch."""

import os

# onnxruntime 1.32 writes a device id and a log of its use under HOME, with an address to send them to, unless it is told
# not to before it is imported. slimmoe works offline and says nothing to anybody; child processes inherit this.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
