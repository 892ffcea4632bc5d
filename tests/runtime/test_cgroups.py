"""Limits of cgroups, as containers of all kinds set them: in trees made by hand, and in real ones where they may be made."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime import machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
MB = 10**6
MOST = 2**63 - 4096  # how version 1 says that there is no limit
ROOT = "31 23 0:28 / /sys rw - sysfs sysfs rw"


class Tree:
    """A /proc/self and a mounted hierarchy; ``groups`` and ``root`` are paths as the kernel tells them."""

    def __init__(self, folder: Path, groups: list[str], mounts: list[tuple[str, str, str]]) -> None:
        self.folder = folder
        (folder / "proc").mkdir(parents=True)
        (folder / "proc" / "cgroup").write_text("".join(f"{line}\n" for line in groups))
        lines = [f"35 31 0:32 {root} {folder}/{place} rw,relatime - {system}" for root, place, system in mounts]
        (folder / "proc" / "mountinfo").write_text("\n".join([ROOT, *lines]) + "\n")

    def group(self, path: str, files: Mapping[str, object]) -> None:
        (self.folder / path).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.folder / path / name).write_text(f"{content}\n")


V1 = [("/", "cpu", "cgroup cgroup rw,cpu,cpuacct"), ("/", "memory", "cgroup cgroup rw,memory")]
V2 = [("/", "unified", "cgroup2 cgroup2 rw")]


def v1(quota: int, period: int = 100_000) -> dict[str, object]:
    return {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}


def memory_v1(limit: int, used: int = 0) -> dict[str, object]:
    return {"memory.limit_in_bytes": limit, "memory.stat": f"cache 5\nrss 1\ntotal_rss {used}"}


def memory_v2(most: object, high: object = "max", used: int = 0) -> dict[str, object]:
    return {"memory.max": most, "memory.high": high, "memory.stat": f"anon {used}\nfile 7"}


Groups = Mapping[str, Mapping[str, object]]
CONTAINERS: dict[str, tuple[list[str], list[tuple[str, str, str]], Groups, float, int | None]] = {
    "version 1": (
        ["4:memory:/a", "1:cpu,cpuacct:/a"], V1,
        {"cpu/a": v1(150_000), "cpu": v1(-1), "memory/a": memory_v1(100 * MB, 30 * MB), "memory": memory_v1(MOST)}, 1.5, 70 * MB,
    ),
    "version 1 without limits": (["4:memory:/", "1:cpu:/"], V1, {"cpu": v1(-1), "memory": memory_v1(MOST)}, math.inf, None),
    "version 1 where an outer group has less": (
        ["4:memory:/a/b", "1:cpu:/a/b"], V1,
        {"cpu/a/b": v1(-1), "cpu/a": v1(50_000), "memory/a/b": memory_v1(90 * MB), "memory/a": memory_v1(80 * MB, 60 * MB)},
        0.5, 20 * MB,
    ),
    "version 1 in a container that sees its own group as the root": (
        ["4:memory:/docker/x", "1:cpu:/docker/x"],
        [("/docker/x", "cpu", "cgroup cgroup rw,cpu"), ("/docker/x", "memory", "cgroup cgroup rw,memory")],
        {"cpu": v1(200_000), "memory": memory_v1(50 * MB)}, 2.0, 50 * MB,
    ),
    "version 2": (["0::/a"], V2, {"unified/a": {"cpu.max": "150000 100000", **memory_v2(100 * MB, used=MB)}}, 1.5, 99 * MB),
    "version 2 without limits": (["0::/a"], V2, {"unified/a": {"cpu.max": "max 100000", **memory_v2("max")}}, math.inf, None),
    "version 2 that is slowed down before it is full": (
        ["0::/a"], V2, {"unified/a": memory_v2(100 * MB, 40 * MB, 10 * MB)}, math.inf, 30 * MB,
    ),
    "version 2 with memory.high alone": (["0::/a"], V2, {"unified/a": memory_v2("max", 40 * MB)}, math.inf, 40 * MB),
    "version 2 that has all it may have": (["0::/a"], V2, {"unified/a": memory_v2(9 * MB, used=10 * MB)}, math.inf, 0),
    "version 2 where an outer group has less": (
        ["0::/a/b/c"], V2,
        {
            "unified/a/b/c": {"cpu.max": "max 100000", **memory_v2("max")},
            "unified/a/b": {"cpu.max": "300000 100000", **memory_v2(90 * MB)},
            "unified/a": {"cpu.max": "100000 100000", **memory_v2("max", 60 * MB, 50 * MB)},
        },
        1.0, 10 * MB,
    ),
    "version 2 in a namespace whose root is further up": (
        ["0::/../../x"], V2, {"unified": {"cpu.max": "50000 100000", **memory_v2(70 * MB)}}, 0.5, 70 * MB,
    ),
    "both versions, with the controllers in the first": (
        ["4:memory:/a", "1:cpu:/a", "0::/b"], [*V1, *V2],
        {"cpu/a": v1(100_000), "memory/a": memory_v1(30 * MB), "unified/b": {"cpu.max": "1000 100000"}}, 1.0, 30 * MB,
    ),
    "both versions, with the controllers in the second": (
        ["1:name=systemd:/a", "0::/b"], [("/", "systemd", "cgroup cgroup rw,name=systemd"), *V2],
        {"unified/b": {"cpu.max": "100000 100000", **memory_v2(30 * MB)}}, 1.0, 30 * MB,
    ),
    "controllers that are mounted nowhere": (["4:memory:/a", "1:cpu:/a"], [], {}, math.inf, None),
    "no cgroups": ([], [], {}, math.inf, None),
    "files that hold nonsense": (
        ["0::/a"], V2, {"unified/a": {"cpu.max": "", "memory.max": "x", "memory.high": "", "memory.stat": ""}}, math.inf, None,
    ),
    "a mount with a space in its path": (
        ["0::/a"], [("/", "my\\040groups", "cgroup2 cgroup2 rw")], {"my groups/a": memory_v2(5 * MB)}, math.inf, 5 * MB,
    ),
}  # fmt: skip


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes a tree, and this process believe that it is its own."""

    def enter(groups: list[str], mounts: list[tuple[str, str, str]], files: Groups) -> Tree:
        tree = Tree(tmp_path, groups, mounts)
        for path, content in files.items():
            tree.group(path, content)
        monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
        return tree

    return enter


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_a_container_may_take_is_known(kind: str, enter) -> None:
    groups, mounts, files, cores, left = CONTAINERS[kind]
    unlimited = machine.memory_left()
    enter(groups, mounts, files)
    allowed = len(os.sched_getaffinity(0))
    assert machine.usable_cores() == max(1, int(min(allowed, cores)))
    found = machine.memory_left()
    assert found == left if left is not None else found > unlimited / 4  # others take some meanwhile
    assert left is None or left < unlimited


@pytest.mark.parametrize("version", [1, 2])
def test_what_may_not_be_read_limits_nothing(version: int, enter) -> None:
    """A folder in a file's place: to be refused a file needs another user than root, whom nothing is refused."""
    groups, mounts = (["4:memory:/a", "1:cpu:/a"], V1) if version == 1 else (["0::/a"], V2)
    names = ("cpu.cfs_quota_us", "memory.limit_in_bytes", "cpu.max", "memory.max", "memory.high", "memory.stat")
    tree = enter(groups, mounts, {})
    for path in ("cpu/a", "memory/a", "unified/a"):
        for name in names:
            (tree.folder / path / name).mkdir(parents=True)
    assert machine.usable_cores() == len(os.sched_getaffinity(0))
    assert machine.memory_left() > 0
    for name in ("cgroup", "mountinfo"):
        (tree.folder / "proc" / name).unlink()
        (tree.folder / "proc" / name).mkdir()
    assert machine.cgroup_of("cpu") is None and machine.memory_left() > 0


def test_a_real_quota_bounds_the_cores() -> None:
    found = machine.cgroup_of("cpu")
    try:
        assert found is not None
        folder = Path(tempfile.mkdtemp(prefix="slimmoe-", dir=found.folder))
    except (OSError, AssertionError):
        pytest.skip("no cgroup may be made here")
    group = machine.Group(folder, found.version)
    try:
        if found.version == 1:
            (folder / "cpu.cfs_quota_us").write_text("100000")
        else:
            (folder / "cpu.max").write_text("100000 100000")
    except OSError:
        group.remove()
        pytest.skip("no quota may be set here")
    try:
        code = "from runtime.machine import usable_cores; print(usable_cores())"
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs"), sys.executable, "-c", code]
        done = subprocess.run(enter, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    finally:
        group.remove()
    assert done.stdout.strip() == "1"
