"""Set up the environment: ``python3 -m tools.setup`` (standard library only; ``make`` calls it when it is needed).

Creates ``.venv`` with the files of ``constraints.txt``, held against their hashes, torch for the CPU or, where there is an
NVIDIA GPU, for CUDA, and builds llama.cpp (tools/build_llama.py). About 7 minutes on 2 cores; what is done already is kept.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from runtime.errors import SlimmoeError, WorkError
from tools.build_llama import require_compiler

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv"
READY = ENVIRONMENT / ".ready"  # holds a hash of what set-up depends on
DEPENDS_ON = ("pyproject.toml", "constraints.txt", "tools/setup.py", "tools/build_llama.py")
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NEEDED_BYTES = 4_000_000_000
TORCH = "2.13.0"


def _stamp() -> str:
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in DEPENDS_ON)).hexdigest()


def pip_install(python: Path, *arguments: str, quiet: bool = False) -> bool:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *arguments]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL if quiet else None).returncode == 0


def _install(python: Path, *arguments: str) -> None:
    if not pip_install(python, *arguments):
        raise WorkError("A package could not be installed (see pip's message above).", next_command="make setup")


def install_torch(python: Path) -> None:
    """The CPU build is a tenth of the size, so it is asked for by name, from the index at hand and then PyTorch's own."""
    if shutil.which("nvidia-smi") or sys.platform != "linux":
        print(f"set-up: torch {TORCH}", flush=True)
        wanted = [[f"torch=={TORCH}"]]
    else:
        print(f"set-up: torch {TORCH} for the CPU (no NVIDIA GPU found)", flush=True)
        cpu = f"torch=={TORCH}+cpu"
        wanted = [[cpu], [cpu, "--extra-index-url", PYTORCH_CPU_INDEX], [f"torch=={TORCH}"]]
    for last, arguments in enumerate(wanted, 1 - len(wanted)):
        if pip_install(python, *arguments, quiet=last < 0):
            return
    raise WorkError(f"torch {TORCH} could not be installed (see pip's message above).", next_command="make setup")


def set_up() -> None:
    """Make ``.venv`` complete; where it is, nothing is done.

    Raises:
        WorkError: no compiler, no disk space, or a package that cannot be installed.
    """
    stamp = _stamp()
    asks_for_a_build = bool(os.environ.get("CMAKE_ARGS"))  # of llama.cpp; where it has been made, nothing is built
    if READY.exists() and READY.read_text() == stamp and not asks_for_a_build:
        return
    if not (ENVIRONMENT / "llama.cpp" / "version").exists():
        require_compiler()
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES and not ENVIRONMENT.exists():
        raise WorkError(f"Set-up needs {NEEDED_BYTES / 1e9:.0f} GB of disk space; {free / 1e9:.1f} GB are free here.")
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print("set-up: .venv", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    print("set-up: packages", flush=True)
    _install(python, "--no-deps", "--require-hashes", "-r", "constraints.txt")
    install_torch(python)
    _install(python, "--no-build-isolation", "-e", ".[dev]")  # finds all there, but what other systems need besides
    path = os.pathsep.join((str(python.parent), os.environ.get("PATH", "")))
    built = subprocess.run([str(python), "-m", "tools.build_llama"], cwd=ROOT, env=os.environ | {"PATH": path})
    if built.returncode:
        sys.exit(1)
    READY.write_text(stamp)


if __name__ == "__main__":
    try:
        set_up()
    except SlimmoeError as error:
        sys.exit(f"slimmoe: {error}")
    except KeyboardInterrupt:
        sys.exit("slimmoe: stopped; `make setup` goes on from here.")
