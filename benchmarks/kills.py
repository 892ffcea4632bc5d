"""Kills an export at random moments and goes on with it: in the end its files are those of one that nobody disturbed.

    python -m benchmarks.kills MODEL --kills 100 [--seed 0] [--pair en-de] [--corpus data/dev]

A kill is SIGKILL, SIGTERM or SIGINT. Prints how many came while the export ran, and fails where a run could not be gone on
with, a file differs, or something hidden is left that the export did not record. Measurements and what is made of them
differ from run to run, and statistics tell how long they took: these are left out of the comparison.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ENDED = {-signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT}
MEASURED = {"stats.safetensors", "rows", "hypotheses", "bench.jsonl", "report.html", "report.md", "verify.json"}


def command(chosen: argparse.Namespace, output: Path) -> list[str]:
    """The export, with little text so that it takes seconds for a tiny model."""
    words = [sys.executable, "-m", "slimmoe", "export", chosen.model, "--pair", chosen.pair, "-o", str(output)]
    texts = [f"--{name}={chosen.corpus}" for name in ("corpus", "dev", "test")]
    return [*words, *texts, "--ratio", "0.5", "--quant", "Q8_0", "--threads", "1", "--no-verify"]


def content(path: Path) -> bytes:
    """A file's bytes without the seconds that calibration took, which plans and what is made by them tell."""
    return re.sub(rb'"seconds": [\d.]+', b"", path.read_bytes()) if path.suffix == ".json" else path.read_bytes()


def hashes(home: Path) -> dict[str, str]:
    """SHA-256 of what an export writes that is the same every time, by path."""
    return {
        str(path.relative_to(home)): hashlib.sha256(content(path)).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not MEASURED & {*path.relative_to(home).parts} and not path.name.startswith(".")
    }


def leftovers(home: Path) -> list[str]:
    """Hidden files that are no record of the export."""
    hidden = [path for path in home.rglob(".*") if not path.name.endswith(".stage.json")]
    return [str(path) for path in hidden if path.name not in (".lock", ".hashes.json")]


def main(chosen: argparse.Namespace) -> None:
    """Export once undisturbed, then with kills; see the module.

    Raises:
        SystemExit: something is not as it should be.
    """
    chance, counts = random.Random(chosen.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        calm, disturbed = Path(name) / "calm", Path(name) / "disturbed"
        started = time.monotonic()
        subprocess.run(command(chosen, calm), check=True, capture_output=True)
        whole = time.monotonic() - started
        print(f"undisturbed: {whole:.1f} s, {len(hashes(calm))} files to compare", flush=True)
        while counts.total() < chosen.kills:
            child = subprocess.Popen(command(chosen, disturbed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            number = chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            try:
                _, errors = child.communicate(timeout=chance.uniform(0, whole))
            except subprocess.TimeoutExpired:
                os.kill(child.pid, number)
                _, errors = child.communicate()
                counts[number.name] += 1
            if child.returncode and child.returncode not in ENDED:
                sys.exit(f"an export could not be gone on with: {errors.decode()[-2000:]}")
            if not child.returncode:  # it came to its end: begin again, with some of its stages undone
                check(calm, disturbed)
                for path in chance.sample([*disturbed.rglob(".*.stage.json")], k=3):
                    files = json.loads(path.read_text())["files"]
                    subprocess.run(["rm", "-r", *{path.parent / Path(name).parts[0] for name in files}], check=True)
                    path.unlink()
        subprocess.run(command(chosen, disturbed), check=True, capture_output=True)
        check(calm, disturbed)
    print(f"{counts.total()} kills ({', '.join(f'{count} {name}' for name, count in counts.items())}): the same files")


def check(calm: Path, disturbed: Path) -> None:
    """Refuse what differs, and what is left.

    Raises:
        SystemExit: there is something.
    """
    expected, found = hashes(calm), hashes(disturbed)
    if different := sorted({*expected.items()} ^ {*found.items()}):
        sys.exit(f"files differ: {', '.join(dict.fromkeys(path for path, _ in different))}")
    if left := leftovers(disturbed):
        sys.exit(f"left: {', '.join(left)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pair", default="en-de")
    parser.add_argument("--corpus", default="data/dev")
    main(parser.parse_args())
