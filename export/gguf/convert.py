"""llama.cpp's converter as a tool: it knows some ninety architectures, and we rewrite none of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from prune.checkpoint import Checkpoint
from runtime import llama_paths
from runtime.errors import WorkError

_PROCESS = Path(__file__).with_name("converter_process.py")


def require_llama_cpp() -> Path:
    """The folder of the environment's llama.cpp (runtime/build_llama.py).

    Raises:
        WorkError: it is not built.
    """
    home = llama_paths.HOME
    if not (home / "version").exists():
        raise WorkError(f"llama.cpp is not built: there is no {home}.", next_command="make setup")
    return home


def run_tool(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Exit status and non-empty output lines of a tool, which prints nothing on the user's terminal."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    )
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    if result.returncode < 0:
        lines.append(f"ended by signal {-result.returncode}")
    return result.returncode, lines or [f"ended with status {result.returncode}"]


def convert(checkpoint: Checkpoint, output: Path, plain: str, keys: dict[str, Any]) -> None:
    """Write ``checkpoint`` as a GGUF file of the plain type F32, F16 or BF16, with ``keys`` among its metadata.

    Raises:
        WorkError: llama.cpp is not built, or its converter refuses the model.
    """
    source, family = require_llama_cpp() / "source", checkpoint.family.gguf
    extra = json.dumps({"keys": keys, "defaults": family.defaults, "fixed": family.fixed})
    command = [sys.executable, str(_PROCESS), str(source), str(checkpoint.folder), str(output), plain.lower(), extra]
    status, lines = run_tool(command, os.environ | {"HF_HUB_OFFLINE": "1"})
    if status or not output.exists():
        raise WorkError(f"llama.cpp's converter failed on {checkpoint.folder}: {lines[-1][:300]}")
