"""optimum's own export of a checkpoint: ``python export.py CHECKPOINT FOLDER`` in the peers' environment.

The checkpoint is given the names that transformers 4 knows; the weights are the same files.
"""

import json
import sys
import tempfile
from pathlib import Path

from optimum.exporters.onnx import main_export


def as_transformers_4(config: dict) -> dict:
    """config.json of transformers 5, with the keys that 4.57 reads."""
    rope = config.get("rope_parameters") or {}
    changes = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
    if "num_experts" not in config and "num_local_experts" in config:
        changes["num_experts"] = config["num_local_experts"]
    return config | changes


if __name__ == "__main__":
    checkpoint, output = Path(sys.argv[1]).absolute(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        for file in checkpoint.iterdir():
            (Path(name) / file.name).symlink_to(file)
        (Path(name) / "config.json").unlink()
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        (Path(name) / "config.json").write_text(json.dumps(as_transformers_4(config)), encoding="utf-8")
        main_export(name, output=output, task="text-generation-with-past", do_validation=False)
