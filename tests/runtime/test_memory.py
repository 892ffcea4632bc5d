"""Memory is told in few points, and a limit is a limit: what is too large is killed, and nothing is left of the group."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.gguf import export_gguf
from runtime import machine
from runtime.engines import open_engine
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.measure import bench_limited, memory_limit
from runtime.measure.bench import bench
from runtime.measure.memory import POINTS, Memory, PeakMemory, Series, parse_memory
from runtime.measure.memory_limit import Outcome, limited, run
from runtime.text.pairs import Pair

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
LIMIT = 100 << 20


def holds(size: int) -> list[str]:
    """A program that holds so many MiB for a moment, and says so."""
    return [sys.executable, "-c", f"import time; held = bytearray({size} << 20); time.sleep(0.3); print(len(held))"]


def can_make_groups() -> bool:
    if sys.platform != "linux":
        return False
    with limited(["true"], LIMIT) as (_, group):
        return group is not None


GROUPS = pytest.mark.skipif(not can_make_groups(), reason="no memory cgroup may be made here")


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * 2**30), ("8GB", 8 * 10**9), ("500MiB", 500 * 2**20), (" 1.5 g ", 1_500_000_000), ("2gib", 2**31)],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert parse_memory(text, "") == size


@pytest.mark.parametrize(
    "text", ["much", "", "8", "-8GiB", "8PB", "0GB", "GiB", "8 GiB RAM", "9" * 400 + "GB", "9e9TB", "9" * 19 + "MB"]
)
def test_nonsense_is_no_memory(text: str) -> None:
    with pytest.raises(RequestError, match=r"not a size of memory.*\n  next: type this"):
        parse_memory(text, "type this")


def test_a_limit_that_is_no_size_is_refused_before_any_work() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "slimmoe", "bench", "a.gguf", "--memory-limit", "2GiB", "--memory-limit", "lots", "-o", "x"],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 2 and "'lots' is not a size of memory" in result.stderr
    assert "slimmoe bench ARTEFACT --memory-limit 2GiB" in result.stderr


@pytest.mark.parametrize("samples", [1, POINTS, POINTS + 1, 4 * POINTS + 3])
def test_a_series_is_short_and_loses_no_peak(samples: int) -> None:
    series, peak = Series(), samples // 3
    for i in range(samples):
        series.add(float(i), Memory(i, 7 if i == peak else 1, i))
    rows = series.rows()
    assert min(samples, POINTS // 2) <= len(rows) <= POINTS
    assert rows[0][0] == 0 and rows[-1][2] == samples - 1
    times = [time for time, *_ in rows]
    assert len({later - sooner for sooner, later in zip(times, times[1:])}) <= 1
    at = max(place for place, time in enumerate(times) if time <= peak)
    assert [place for place, (_, anonymous, _) in enumerate(rows) if anonymous == 7] == [at]


def test_a_watched_process_is_seen_at_its_largest() -> None:
    child = subprocess.Popen(holds(64), stdout=subprocess.DEVNULL)
    with PeakMemory(child.pid) as memory:
        child.wait()
    row = memory.row()
    assert 64 << 20 < row["peak_anonymous_bytes"] < 110 << 20
    assert max(anonymous for _, anonymous, _ in row["memory_series"]) == row["peak_anonymous_bytes"]
    assert ("memory_note" in row) == (sys.platform != "linux")


@GROUPS
def test_more_than_the_limit_is_killed_and_less_is_not() -> None:
    outcome = run(holds(200), LIMIT)
    assert outcome.killed and not outcome.stopped and outcome.method.startswith("cgroup v")
    outcome = run(holds(40), LIMIT)
    assert outcome.status == 0 and not outcome.killed and outcome.output.strip() == str(40 << 20)


@GROUPS
def test_pages_of_files_count_but_do_not_kill(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(1 << 20) * 160)
    code = f"import mmap; f = open({str(file)!r}); m = mmap.mmap(f.fileno(), 0, prot=1); print([sum(m[::4096]) for _ in 'ab'])"
    free, held = run([sys.executable, "-c", code], files=[file]), run([sys.executable, "-c", code], LIMIT, [file])
    assert held.status == 0 and held.output == free.output and not held.killed
    assert free.refaults is None and held.refaults and held.memory.peak.file < LIMIT


@GROUPS
def test_a_process_knows_how_much_it_may_still_take() -> None:
    code = "from runtime.machine import memory_left; held = bytearray(40 << 20); print(memory_left())"
    left = int(run([sys.executable, "-c", code], LIMIT).output)
    assert left < LIMIT - (40 << 20)
    assert left > 10 << 20 and machine.memory_left() > LIMIT


@GROUPS
def test_the_group_is_gone_afterwards_with_all_that_ran_in_it() -> None:
    with limited(["sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"], LIMIT) as (command, group):
        assert group is not None
        child = subprocess.run(command, capture_output=True, text=True, close_fds=True, timeout=30)
        left = int(child.stdout)
        os.kill(left, 0)
    assert not group.folder.exists()
    stat = Path(f"/proc/{left}/stat")
    assert not stat.exists() or " Z " in stat.read_text()  # gone, or waiting for init to collect it


@LINUX
def test_without_groups_anonymous_memory_is_limited_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "_make_group", lambda _: None)  # as where none may be made
    outcome = run(holds(200), LIMIT)
    assert outcome.killed and outcome.status == 1 and "MemoryError" in outcome.errors
    assert outcome.method == "RLIMIT_DATA" and outcome.refaults is None
    assert run(holds(40), LIMIT).status == 0


@LINUX
def test_a_failure_of_another_kind_is_not_for_want_of_memory() -> None:
    outcome = run([sys.executable, "-c", "raise SystemExit('no such file')"], LIMIT)
    assert outcome.status == 1 and not outcome.killed
    with pytest.raises(WorkError, match="no such file"):
        bench_limited._limited_row(outcome, {}, Path("a.gguf"))


@LINUX
def test_what_takes_too_long_is_ended() -> None:
    outcome = run([sys.executable, "-c", "import time; time.sleep(60)"], LIMIT, seconds=0.5)
    assert outcome.stopped and not outcome.killed
    row = bench_limited._limited_row(outcome, {}, Path("a.gguf"))
    assert row["verdict"] == "thrashes" and "ended" in row["limit_note"] and "throughput_share" not in row


@pytest.mark.parametrize(("unlimited", "seconds"), [(1.5, 60), (20.0, 200)])
def test_a_small_model_gets_a_minute_and_a_large_one_ten_times_its_own(unlimited: float, seconds: float) -> None:
    assert bench_limited.patience(unlimited) == seconds


@pytest.mark.parametrize(("decode", "verdict"), [(99.0, "fits"), (30.0, "thrashes")])
def test_the_verdict_goes_by_the_time_of_prompt_and_translation(decode: float, verdict: str) -> None:
    free = {"prefill_tokens_per_second": 1280.0, "decode_tokens_per_second": 100.0}
    told = json.dumps(free | {"decode_tokens_per_second": decode})
    memory = PeakMemory(os.getpid())
    row = bench_limited._limited_row(Outcome(0, told, "", 1.0, memory, method="cgroup v2"), free, Path("a.gguf"))
    assert row["verdict"] == verdict
    assert row["throughput_share"] == pytest.approx((0.1 + 64 / 100) / (0.1 + 64 / decode), abs=1e-3)


@pytest.fixture(scope="module")
def artefacts(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    gguf = export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "Q8_0")
    return [gguf, tiny_onnx / "onnx" / "model_q4.onnx"]


def test_engines_tell_weights_and_cache_apart(artefacts: list[Path]) -> None:
    """The cache of 1024 tokens: 2 layers, key and value, 2 heads of 64; float16 in llama.cpp, float32 in ONNX."""
    for artefact, width in zip(artefacts, (2, 4)):
        with contextlib.closing(open_engine(artefact, 1)) as engine:
            assert engine.buffers["kv_cache_bytes"] == 1024 * 2 * 2 * 2 * 64 * width
            assert engine.buffers["weights_bytes"] == pytest.approx(artefact_bytes(artefact), rel=0.01)


def artefact_bytes(artefact: Path) -> int:
    if artefact.suffix == ".gguf":
        return sum(tensor.stop - tensor.start for tensor in GgufFile(artefact).tensors.values())
    return artefact.stat().st_size + artefact.with_name(artefact.name + "_data").stat().st_size


@GROUPS
def test_weights_larger_than_memory_stay_in_their_file(tmp_path: Path) -> None:
    """44 MB of weights, where Python, llama.cpp and its buffers leave room for 30."""
    model = export_gguf(Path(__file__).parents[2] / "models" / "default", tmp_path / "model.gguf", "Q8_0")
    code = (
        "import os, sys; from pathlib import Path; from runtime.engines.llama import LlamaEngine\n"
        "engine = LlamaEngine(Path(sys.argv[1]), 1); engine.generate([5, 6, 7], 4, stop=False)\n"
        "from runtime.measure.memory import read_memory; print(read_memory(os.getpid()).anonymous)"
    )
    command = [sys.executable, "-c", code, str(model)]
    free, held = run(command), run(command, 48 << 20, [model])
    assert int(free.output) > model.stat().st_size > int(held.output)


@GROUPS
def test_a_row_for_each_limit(artefacts: list[Path]) -> None:
    for artefact in artefacts:
        whole = bench(artefact, Pair("en", "de"), threads=1, reference=False)
        fits, killed = bench_limited.bench_limited(whole, [2 << 30, 8 << 20])
        # On a busy machine a speed may be half of another one, which is what thrashing is told by.
        assert fits["verdict"] in ("fits", "thrashes") and killed["verdict"] == "killed"
        assert fits["throughput_share"] > 0 and fits["peak_bytes"] > 0 and fits["decode_tokens_per_second"] > 0
        assert "decode_tokens_per_second" not in killed and "throughput_share" not in killed
        for name in ("artefact", "type", "provenance", "pair", "engine", "threads", "size_bytes", "machine"):
            assert killed[name] == whole[name]
        assert not {"chrf", "load_seconds"} & killed.keys() and killed["memory_limit_bytes"] == 8 << 20
