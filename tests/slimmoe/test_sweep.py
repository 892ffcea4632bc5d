"""A sweep on a tiny model with the real exporters and engines: killed, gone on with, joined, and on a Ray cluster."""

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
from runtime.measure.labels import label, series
from runtime.measure.rows import append_row, finished_rows
from runtime.text.pairs import Pair
from slimmoe.sweep import Sweep, check, run, trials
from slimmoe.sweep_on_ray import on_cluster
from slimmoe.variants import Recovery, Texts

ROOT = Path(__file__).parents[2]
TYPES = ("F16", "int8")
EN_DE = Pair("en", "de")


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    """Few segments: what is tried here is the sweep."""
    path = tmp_path / "few.tsv"
    path.write_text("The file is open.\tDie Datei ist offen.\nClose it.\tSchließe sie.\n" * 2, encoding="utf-8")
    return Texts(path, path, path)


def sweep_of(model: Path, few: Texts, folder: Path, **others) -> Sweep:
    wanted = {"pairs": (EN_DE,), "ratios": (0.0, 0.5), "types": TYPES, "texts": few, "threads": 1}
    return Sweep(folder, (str(model),), **(wanted | others))


def all_arrived(output: Path) -> bool:
    """Whether a stage's record says so, which is written last."""
    record = output.with_name(f".{output.name}.stage.json")
    return record.exists() and bool(json.loads(record.read_text())["files"])


def test_a_killed_sweep_goes_on_where_it_was(tiny_checkpoint, texts, tmp_path):
    folder, said = tmp_path / "sweep", []
    command = [sys.executable, "-m", "slimmoe", "sweep", str(tiny_checkpoint), "--ratio", "0.5", "--threads", "1"]
    command += [option for kind in TYPES for option in ("--type", kind)]
    command += [option for name in ("--corpus", "--dev", "--test") for option in (name, str(texts.corpus))]
    child = subprocess.Popen([*command, "-o", str(folder)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    name = f"{tiny_checkpoint.name}-en-de"
    first = folder / name / "unpruned" / "rows" / "F16.json"
    try:
        deadline = time.monotonic() + 240
        while not all_arrived(first):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    before = first.read_text()

    rows = run(sweep_of(tiny_checkpoint, texts, folder), said.append)
    assert said[0].endswith(" of 4 runs are done already")
    assert rows == finished_rows(folder / "bench.jsonl") and first.read_text() == before
    assert [row["run"] for row in rows] == [f"{name} {v} {k}" for v in ("unpruned", "gate-0.5") for k in TYPES]
    assert all(row["against_unpruned"]["base"] == rows[i]["artefact"] for i, row in enumerate(rows[2:]))
    assert [row["provenance"].get("ratio", 0) for row in rows] == [0, 0, 0.5, 0.5]
    assert not list(folder.rglob("*.part"))

    joined = {key: value for key, value in rows[0].items() if key != "run"} | {"memory_limit_bytes": 1 << 30}
    foreign = joined | {"artefact": "elsewhere.gguf"}
    for row in (joined, foreign):
        append_row(folder / "bench.jsonl", row)
    again = run(sweep_of(tiny_checkpoint, texts, folder), said.append)
    assert said[-1] == "4 of 4 runs are done already"
    assert again[:-1] == rows and again[-1]["memory_limit_bytes"] == 1 << 30


@pytest.mark.slow
def test_a_vocabulary_is_a_variant_of_its_own(tiny_checkpoint, texts, tmp_path):
    sweep = sweep_of(tiny_checkpoint, texts, tmp_path / "sweep", types=("F16",), vocabularies=("", "0.5"))
    rows = run(sweep, lambda _: None)
    assert [label(row) for row in rows] == ["unpruned", "1024 tokens", "50% cut", "50% cut, 1024 tokens"]
    sizes = [row["size_bytes"] for row in rows]
    saved = 1024 * 96 * 2  # of a tied embedding in 2 bytes
    assert sizes[0] - sizes[1] > saved and sizes[2] - sizes[3] > saved
    assert [row.get("against_unpruned", {}).get("base") for row in rows] == [None, *[rows[0]["artefact"]] * 3]
    assert [line.name for line in series(rows)] == ["llama.cpp F16", "llama.cpp F16 1024 tokens"]
    said: list[str] = []
    run(sweep, said.append)
    assert said == ["4 of 4 runs are done already"]


def test_each_variant_is_there_once(tiny_checkpoint, texts, tmp_path):
    recoveries = ((), (Recovery(),))
    sweep = sweep_of(
        tiny_checkpoint, texts, tmp_path, pairs=(EN_DE, Pair("de", "en")), recoveries=recoveries,
        criteria=("gate", "reap"), types=("F16",),
    )  # fmt: skip
    names = [(str(trial.variant.pair), trial.variant.name) for trial in trials(sweep)]
    each = ["unpruned", "gate-0.5", "gate-0.5-recovered", "reap-0.5", "reap-0.5-recovered"]
    assert names == [(pair, name) for pair in ("en-de", "de-en") for name in each]


@pytest.mark.parametrize(
    "changed",
    [
        {"types": ("Q4_K_M", "int5")},
        {"ratios": (0.5, 1.0)},
        {"allocations": ("evenly",)},
        {"texts": Texts(Path("nowhere.tsv"))},
    ],
)
def test_what_would_fail_later_is_refused_at_once(tiny_checkpoint, texts, tmp_path, changed):
    sweep = sweep_of(tiny_checkpoint, texts, tmp_path / "sweep", **changed)
    with pytest.raises(RequestError):
        check(sweep, trials(sweep))
    assert not (tmp_path / "sweep").exists()
    for line in ('{"artefact": "a.g', '{"x": 1}', "[" * 100_000):
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep" / "bench.jsonl").write_text(f"\n{line}\n")
        with pytest.raises(RequestError):
            run(sweep_of(tiny_checkpoint, texts, tmp_path / "sweep"), print)
        assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["bench.jsonl"]


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
    same = ("run", "chrf", "size_bytes", "engine", "provenance")
    assert [[row[key] for key in same] for row in rows] == [[row[key] for key in same] for row in alone]
