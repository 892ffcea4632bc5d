"""Hundreds of bad inputs of all kinds, each given to the command: one sentence, an exit status, nothing touched or left.

The inputs are data, in tests/bad_inputs.
"""

import os
import re
import shlex
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from runtime.formats.provenance import FILE
from tests.bad_inputs import NO_FILE, NO_JSON, Table, folders, gguf, onnx, options, ours, texts
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.prune.test_stats import some_stats
from tests.warm_command import run_command

TABLES: dict[str, Table] = {
    name: table for module in (folders, onnx, gguf, ours, texts, options) for name, table in module.TABLES.items()
}
SECONDS, MEMORY = 2, 300 << 20  # of the processor; beyond what a process has that has imported everything
PATIENCE = 60  # seconds on the clock, of a busy machine
# What is no file or no JSON is refused in the same place whatever it should be: of those the fast run has these.
OF_ALL = {*NO_FILE, *NO_JSON} - {"missing", "a pipe", "a list", "nested"}
ENTRIES = [
    pytest.param(table, verb, kind, id=f"{table}-{verb}-{kind[:60]}", marks=() if quick else pytest.mark.slow)
    for table, inputs in TABLES.items()
    for kind in inputs.damage
    for verb in inputs.verbs
    if verb in inputs.only.get(kind, inputs.verbs)
    for first in [verb == next(iter(inputs.verbs))]
    for quick in [kind in inputs.by_all or (first and not {*kind.split(": ")} & OF_ALL)]
    if first or quick or inputs.crossed
]


@pytest.fixture(scope="session")
def shelf(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right files of every kind."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("model", "whole"):
        shutil.copytree(tiny_checkpoint, folder / name)
    others = shutil.ignore_patterns("model.onnx*", "model_int8*", "model_fp16*")
    for name in ("onnx", "store/kept"):
        shutil.copytree(tiny_onnx, folder / name, ignore=others)
    plan_for(tiny_checkpoint, *[[0, 1, 2]] * 2).save(folder / "plan.json")
    for name in ("x.gguf", "y.gguf"):
        model = GgufModel(write_moe(folder / name))
    layers = [Layer(layer, count, [0, 1, 2, 3]) for layer, count in model.moe_layers.items()]
    Plan("x", model.fingerprint, "en-de", "gate", "uniform", 0.5, 0, model.top_k, layers).save(folder / "x-plan.json")
    gguf.of_both_layers(np.ones((8, 1)))(folder / "imatrix")
    for name in ("stats", "right"):
        some_stats().save(folder / name)
    for name in ("run", "set"):
        (folder / name).mkdir()
    (folder / "run" / "bench.jsonl").write_text('{"artefact": "a.gguf"}\n')
    (folder / "verify.json").write_text('{"format": "slimmoe-verify/1", "checks": []}')
    lines = texts.lines(30)
    (folder / "t.tsv").write_bytes(lines)
    (folder / "t.po").write_text(texts.HEADER.format("UTF-8") + texts.ENTRY.format("Größe"), encoding="utf-8")
    (folder / "t.txt").write_bytes(b"Save the file.\n" * 3)
    (folder / "p.toml").write_text('user = "{text}"\n')
    for code, column in (("en", 0), ("de", 1)):
        sides = (line.split(b"\t")[column] + b"\n" for line in lines.splitlines())
        (folder / f"m.{code}").write_bytes(b"".join(sides))
    return folder


def take(shelf: Path, words: list[str], target: str, folder: Path) -> None:
    """Copy what is to be damaged, and link to what else the words name; of two files of Moses they name the stem."""
    named = {part for word in words for part in Path(word).parts[:1]}
    for source in shelf.iterdir():
        if source.name in named or source.stem in named:
            copy = shutil.copyfile if target in (source.name, ".") else os.link
            if source.is_dir():
                shutil.copytree(source, folder / source.name, copy_function=copy)
            else:
                copy(source, folder / source.name)


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """By path what is there: kind and rights; of what is no folder its size, and when it was changed."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    known = {path: (each.st_size, each.st_mtime_ns) for path, each in found.items() if not stat.S_ISDIR(each.st_mode)}
    return {path: (each.st_mode, *known.get(path, (0, 0))) for path, each in found.items()}


def sentence_of(errors: str) -> str:
    """The one sentence, after warnings; what follows it is at most a next command. An option's is in the form of typer."""
    if errors.startswith("Usage: "):
        (*_, last) = errors.strip().split("\n\n")
        assert last.startswith("Error: ") and "\n" not in last, errors
        return last
    lines = errors.splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("slimmoe: "))
    sentence, *rest = lines[last:]
    assert len(rest) <= 1 and all(line.startswith("  next: ") for line in rest), errors
    return sentence


@pytest.mark.parametrize(("table", "verb", "kind"), ENTRIES)
def test_a_bad_input_is_one_sentence(table: str, verb: str, kind: str, shelf: Path, tmp_path: Path) -> None:
    inputs = TABLES[table]
    words, found = shlex.split(inputs.verbs[verb].replace("{}", kind)), inputs.damage[kind]
    damage, pattern = found if isinstance(found, tuple) else (found, "")
    for name in ("out", "home"):
        (tmp_path / name).mkdir()
    store = ["store"] if words[0] == "models" else []
    take(shelf, [*words, inputs.target, *store], inputs.target, tmp_path)
    if words[0] == "recover" and (tmp_path / "model").is_dir():  # only what was pruned is recovered
        shutil.copyfile(shelf / "plan.json", tmp_path / "model" / FILE)
    damage(tmp_path / inputs.target)
    variables = {"HOME": str(tmp_path / "home"), "SLIMMOE_MODELS": str(tmp_path / "store")}
    before = state(tmp_path)
    done = run_command(*words, seconds=PATIENCE, folder=tmp_path, variables=variables)
    assert done.status in (1, 2), (done.status, done.output, done.errors)
    assert "Traceback" not in done.errors, done.errors
    assert re.search(pattern, sentence_of(done.errors)), done.errors
    assert done.seconds < SECONDS and done.grown < MEMORY, (done.seconds, done.grown >> 20)
    assert state(tmp_path) == before
