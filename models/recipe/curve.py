"""The learning curve on a test set: ``python -m models.recipe.curve WORK --test FOLDER/dev`` while training goes on.

Scores the newest checkpoint of ``WORK/run`` (F16 in llama.cpp, greedy) and appends a line to ``WORK/curve.csv``: tokens,
and chrF++ by direction. ``--every`` minutes repeats it until the run has its ``final`` folder.
"""

import argparse
import contextlib
import csv
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from export.gguf import export_gguf
from models.recipe.shapes import configuration
from models.recipe.train import write_model
from runtime.engines import open_engine
from runtime.measure.evaluate import evaluate
from runtime.text.corpus import read_segments
from runtime.text.pairs import parse_pair

PAIRS = ("en-de", "de-en", "en-fr", "fr-en", "en-pt", "pt-en")


def score_checkpoint(work: Path, test: Path, segments: int, threads: int) -> tuple[float, list[float]]:
    """Tokens seen by the newest checkpoint, and its chrF++ for each of PAIRS on the first ``segments``."""
    state = torch.load(work / "run" / "checkpoint.pt", weights_only=True, map_location="cpu", mmap=True)
    model = AutoModelForCausalLM.from_config(configuration("default"), dtype=torch.float32)
    model.load_state_dict(state["model"])
    with tempfile.TemporaryDirectory(dir=work) as place:
        write_model(model, work / "model", Path(place) / "model")
        gguf = export_gguf(Path(place) / "model", Path(place) / "model-F16.gguf", "F16")
        with contextlib.closing(open_engine(gguf, threads)) as engine:
            found = [
                evaluate(engine, pair, read_segments(test, pair)[:segments], neural=False)
                for pair in map(parse_pair, PAIRS)
            ]
    return state["seen"], [each.chrf for each in found]


def append(work: Path, test: Path, segments: int, threads: int) -> None:
    """Add the newest checkpoint's line to the curve."""
    seen, scores = score_checkpoint(work, test, segments, threads)
    path = work / "curve.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        table = csv.writer(file)
        if new:
            table.writerow(["tokens", *PAIRS])
        table.writerow([int(seen), *(f"{score:.2f}" for score in scores)])
    print(f"{seen / 1e6:.2f} M tokens", dict(zip(PAIRS, scores)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--test", type=Path, required=True, help="a Moses stem, FLORES' dev: never what is reported")
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=float, metavar="MINUTES")
    chosen = parser.parse_args()
    append(chosen.work, chosen.test, chosen.segments, chosen.threads)
    while chosen.every and not (chosen.work / "run" / "final").exists():
        time.sleep(60 * chosen.every)
        append(chosen.work, chosen.test, chosen.segments, chosen.threads)
