"""Installs the wheel with the oldest and with the newest versions that it allows, for each Python, and tries what a device does.

    python -m benchmarks.versions models/tiny-onnx [--python 3.11 --python 3.12 ...]

Needs uv, which picks the versions (``pip install uv``), and interpreters that it finds; one that is not there is told and
left out. A version that has no wheel for a Python is none that could be installed there: the oldest that has one is taken.
Each environment evaluates an ONNX folder, reads a PO file, plans from statistics, cuts a GGUF file and reports; it is
gone afterwards. Fails where one of these does.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np

from prune.calibrate.stats import LayerStats, Routing, Stats
from prune.gguf_model import GgufModel
from tests.gguf_files import write_moe

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
DIRECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
ENDS = {"oldest": "lowest-direct", "newest": "highest"}
PO = 'msgid "Save the file."\nmsgstr "Sichern Sie die Datei."\n\nmsgid "Open it."\nmsgstr "Öffnen Sie sie."\n'


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True)


def commands(folder: Path, model: Path) -> list[list[str | Path]]:
    """What is tried, and the files for it."""
    (folder / "t.po").write_text(PO, encoding="utf-8")
    gguf = GgufModel(write_moe(folder / "x.gguf"))
    layers = {i: LayerStats(*np.ones((6, 2, n)), gram=np.ones((2, n, n))) for i, n in gguf.moe_layers.items()}
    Stats(layers, "x.gguf", gguf.fingerprint, "en-de", gguf.top_k, {}, Routing.of(gguf)).save(folder / "stats")
    return [
        ["--version"],
        ["translate", model, "Save the file.", "--pair", "en-de", "--threads", "1"],
        ["evaluate", model, "--pair", "en-de", "--test", "t.po", "--threads", "1"],
        ["bench", model, "--pair", "en-de", "--test", "t.po", "--threads", "1", "-o", "run/bench.jsonl"],
        ["report", "run", "-o", "run/report.md"],
        ["plan", "stats", "--ratio", "0.5", "-o", "plan.json"],
        ["prune", "x.gguf", "--plan", "plan.json", "-o", "cut.gguf"],
    ]


def attempt(python: str, end: str, wheel: Path, model: Path) -> str:
    """How it ended: the versions, or the first thing that failed."""
    with tempfile.TemporaryDirectory(prefix="slimmoe-versions.") as name:
        folder = Path(name)
        made = run("uv", "venv", "--no-python-downloads", "--python", python, folder / "venv", folder=folder)
        if made.returncode:
            return f"not tried: {made.stderr.strip().splitlines()[0]}"
        inside = folder / "venv" / "bin" / "python"
        options = ["--resolution", ENDS[end], "--only-binary", ":all:", "--python", inside]
        installed = run("uv", "pip", "install", *options, wheel, *DIRECT, folder=folder)
        if installed.returncode:
            return f"FAILED to install: {' '.join(installed.stderr.split())[-400:]}"
        for words in commands(folder, model):
            done = run(inside, "-m", "slimmoe", *words, folder=folder)
            if done.returncode:
                return f"FAILED in {words[0]}: {done.stderr.strip()[-600:]}"
        listed = json.loads(run("uv", "pip", "list", "--format", "json", "--python", inside, folder=folder).stdout)
        direct = {re.split("[<>=]", each)[0].replace("_", "-") for each in DIRECT}
        return ", ".join(f"{each['name']} {each['version']}" for each in listed if each["name"] in direct)


def main(model: Path, pythons: list[str]) -> None:
    """Try every Python with both ends.

    Raises:
        SystemExit: something failed, or there is no uv.
    """
    failed = False
    with tempfile.TemporaryDirectory(prefix="slimmoe-wheel.") as name:
        built = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", name, ROOT, folder=ROOT)
        if built.returncode:
            sys.exit(built.stderr)
        (wheel,) = Path(name).glob("*.whl")
        for python in pythons:
            for end in ENDS:
                ended = attempt(python, end, wheel, model.absolute())
                failed |= ended.startswith("FAILED")
                print(f"Python {python}, {end}: {ended}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX folder")
    parser.add_argument("--python", action="append", help=f"default: {', '.join(PYTHONS)}")
    chosen = parser.parse_args()
    main(chosen.model, chosen.python or list(PYTHONS))
