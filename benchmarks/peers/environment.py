"""The peers' environment, ``.peers``: a Python with an older transformers, and node's packages. ``make peers`` calls it.

About 2 minutes and 2 GB; what is there already is kept.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from runtime.errors import SlimmoeError, WorkError
from tools.setup import install_torch, pip_install

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".peers"
PYTHON, NODE = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "node"


def set_up() -> None:
    """Make ``.peers`` complete.

    Raises:
        WorkError: node or npm is missing, or a package cannot be installed.
    """
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    if missing:
        raise WorkError(f"transformers.js needs {' and '.join(missing)}.", next_command="apt install nodejs npm")
    if not PYTHON.exists():
        print("peers: .peers", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    install_torch(PYTHON)
    print("peers: optimum-onnx and an older transformers", flush=True)
    if not pip_install(PYTHON, "-r", str(HERE / "requirements.txt")):
        raise WorkError("A package could not be installed (see pip's message above).", next_command="make peers")
    print("peers: transformers.js", flush=True)
    NODE.mkdir(exist_ok=True)
    shutil.copyfile(HERE / "package.json", NODE / "package.json")
    # Scripts of packages would only download kernels for GPUs.
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(install, cwd=NODE).returncode:
        raise WorkError("npm could not install its packages (see its message above).", next_command="make peers")
    (ENVIRONMENT / ".ready").touch()


if __name__ == "__main__":
    try:
        set_up()
    except SlimmoeError as error:
        sys.exit(f"{error}")
