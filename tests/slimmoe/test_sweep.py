"""A sweep on a tiny model with the real exporters and engines: killed, gone on with, and on a Ray cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import parse_pair
from slimmoe.sweep import Sweep, check, run, variants
from slimmoe.sweep_on_ray import on_cluster
from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
TYPES = ("F16", "int8")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Few segments: what is tried here is the sweep."""
    path = tmp_path / "few.tsv"
    path.write_text("The file is open.\tDie Datei ist offen.\nClose it.\tSchließe sie.\n" * 2, encoding="utf-8")
    return path


def sweep_of(model: Path, texts: Path, folder: Path, **others) -> Sweep:
    wanted = {
        "pairs": (parse_pair("en-de"),), "criteria": ("gate",), "ratios": (0.0, 0.5), "recovered": (False,),
        "types": TYPES, "corpus": texts, "dev": texts, "test": texts, "threads": 1,
    }  # fmt: skip
    return Sweep(folder, (model,), **(wanted | others))


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "bench.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_killed_sweep_goes_on_where_it_was(tiny_checkpoint, texts, tmp_path):
    folder, said = tmp_path / "sweep", []
    command = [sys.executable, "-m", "slimmoe", "sweep", str(tiny_checkpoint), "--ratio", "0.5", "--threads", "1"]
    command += [option for kind in TYPES for option in ("--type", kind)]
    command += [option for name in ("--corpus", "--dev", "--test") for option in (name, str(texts))]
    child = subprocess.Popen([*command, "-o", str(folder)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "bench.jsonl").exists():
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    first = rows_of(folder)[0]
    with (folder / "bench.jsonl").open("a") as file:
        file.write('{"run": "half a li')  # as if it had been writing
    (folder / ".left.part").mkdir()

    rows = run(sweep_of(tiny_checkpoint, texts, folder), said.append)
    assert said[0] == "1 of 4 runs are done already" and len(said) == 4
    assert rows == rows_of(folder)
    name = f"{tiny_checkpoint.name}-en-de"
    assert [row["run"] for row in rows] == [f"{name} {v} {k}" for v in ("unpruned", "gate-0.5") for k in TYPES]
    assert {key: rows[0][key] for key in first if "signature" not in key} == {
        key: first[key] for key in first if "signature" not in key
    }
    assert all(row["against_unpruned"]["base"] == rows[i]["artefact"] for i, row in enumerate(rows[2:]))
    assert [row["provenance"].get("ratio", 0) for row in rows] == [0, 0, 0.5, 0.5]
    assert not list(folder.rglob("*.part"))
    assert run(sweep_of(tiny_checkpoint, texts, folder), said.append) == rows
    assert said[-1] == "4 of 4 runs are done already"


def test_each_variant_is_there_once(tmp_path):
    pairs = tuple(map(parse_pair, ("en-de", "de-en")))
    sweep = sweep_of(
        Path("model"), Path("x"), tmp_path, pairs=pairs, recovered=(False, True), criteria=("gate", "reap")
    )
    names = [(str(each.pair), each.name) for each in variants(sweep)]
    each = ["unpruned", "gate-0.5", "gate-0.5-recovered", "reap-0.5", "reap-0.5-recovered"]
    assert names == [(pair, name) for pair in ("en-de", "de-en") for name in each]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"types": ("Q4_K_M", "int5")}, "no type int5"),
        ({"ratios": (0.5, 1.0)}, "A ratio is"),
        ({"test": Path("nowhere.tsv")}, "no corpus file nowhere.tsv"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(tiny_checkpoint, texts, tmp_path, changed, sentence):
    with pytest.raises(RequestError, match=sentence):
        check(sweep_of(tiny_checkpoint, texts, tmp_path / "sweep", **changed))
    assert not (tmp_path / "sweep").exists()


def test_a_folder_holds_one_sweep(tiny_checkpoint, texts, tmp_path):
    check(sweep_of(tiny_checkpoint, texts, tmp_path / "sweep"))
    check(sweep_of(tiny_checkpoint, texts, tmp_path / "sweep", ratios=(0.75,), types=("Q8_0",)))  # more of the same
    other = tmp_path / "other.tsv"
    other.write_text("a\tb\n")
    with pytest.raises(RequestError, match="a sweep with another test"):
        check(sweep_of(tiny_checkpoint, texts, tmp_path / "sweep", test=other))
    changed = write_tiny_checkpoint(tmp_path / tiny_checkpoint.name, seed=5)
    with pytest.raises(RequestError, match=f"another model {tiny_checkpoint.name}"):
        check(sweep_of(changed, texts, tmp_path / "sweep"))


@pytest.mark.slow
def test_a_cluster_of_two_workers_does_the_same(tiny_checkpoint, texts, tmp_path):
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        sweep = sweep_of(tiny_checkpoint, texts, tmp_path / "cluster")
        rows = run(sweep, lambda _: None, partial(on_cluster, cluster.address))
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()
    alone = run(sweep_of(tiny_checkpoint, texts, tmp_path / "alone"), lambda _: None)
    same = ("run", "artefact", "chrf", "size_bytes", "engine", "provenance")
    assert [[row[key] for key in same] for row in rows] == [[row[key] for key in same] for row in alone]
