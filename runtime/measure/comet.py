"""COMET (Rei et al. 2022), where its weights are on disk and its package is installed in some environment.

unbabel-comet 2.2 needs numpy < 2, transformers < 5 and an old setuptools, so it cannot live beside slimmoe: it runs in
an environment of its own, as a child process. Two environment variables say where things are:

- ``SLIMMOE_COMET``: the model's folder, as the Hugging Face hub has it: hparams.yaml and checkpoints/model.ckpt;
- ``SLIMMOE_COMET_PYTHON``: the interpreter of the environment that has unbabel-comet (default: this one).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from runtime.errors import RequestError, WorkError
from runtime.processes import ends_with_us

_CHILD = """
import json, sys
from importlib.metadata import version
from comet import load_from_checkpoint
samples = json.load(sys.stdin)
model = load_from_checkpoint(sys.argv[1], local_files_only=True) if samples else None
score = model.predict(samples, batch_size=16, gpus=0, progress_bar=False).system_score if samples else 0.0
print()
print(json.dumps([float(score), version("unbabel-comet")]))
"""
_INSTALL = (
    "python3 -m venv comet-env && comet-env/bin/pip install unbabel-comet 'setuptools<81'   "
    "(then set SLIMMOE_COMET_PYTHON=comet-env/bin/python)"
)


def _run(samples: list[dict[str, str]]) -> tuple[float, str]:
    python = os.environ.get("SLIMMOE_COMET_PYTHON", sys.executable)
    command = [python, "-c", _CHILD, str(_folder() / "checkpoints" / "model.ckpt")]
    try:
        done = subprocess.run(command, input=json.dumps(samples), capture_output=True, text=True, **ends_with_us())
    except OSError:
        raise RequestError(f"SLIMMOE_COMET_PYTHON={python} cannot be run.", next_command=_INSTALL) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        if "No module named 'comet'" in reason:
            raise RequestError(f"SLIMMOE_COMET is set, but {python} has no COMET.", next_command=_INSTALL)
        raise WorkError(f"COMET failed: {reason}")
    score, version = json.loads(done.stdout.splitlines()[-1])
    return score, version


def _folder() -> Path:
    return Path(os.environ["SLIMMOE_COMET"])


def wanted() -> bool:
    """Whether ``SLIMMOE_COMET`` asks for COMET."""
    return bool(os.environ.get("SLIMMOE_COMET"))


def require() -> None:
    """Say what is missing, where COMET is wanted: before long work, so that it is not lost.

    Raises:
        RequestError: the weights or the package are not there.
    """
    if not wanted():
        return
    for name in ("hparams.yaml", "checkpoints/model.ckpt"):
        if not (_folder() / name).is_file():
            raise RequestError(
                f"SLIMMOE_COMET={_folder()} holds no {name}.",
                next_command="hf download Unbabel/wmt22-comet-da --local-dir comet-model   (needs network)",
            )
    _run([])


def comet_score(sources: list[str], hypotheses: list[str], references: list[str]) -> tuple[float, str]:
    """System score of the model in ``SLIMMOE_COMET`` (mean of the segments' scores, usually 0 to 1), and its signature.

    Raises:
        RequestError: the weights or the package are not there.
        WorkError: COMET failed; its last line says why.
    """
    texts = zip(sources, hypotheses, references, strict=True)
    score, version = _run(
        [{"src": source, "mt": hypothesis, "ref": reference} for source, hypothesis, reference in texts]
    )
    return score, f"{_folder().name}|unbabel-comet {version}"
