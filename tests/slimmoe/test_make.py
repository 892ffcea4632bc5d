"""make forwards values as they are: nothing in them runs, and nothing outside the run's folder is touched."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prune.test_stats import some_stats
from tests.warm_command import run_command

ROOT = Path(__file__).parents[2]
RUNS = "touch {sentinel}/ran"

ODD_VALUES = [
    ("PAIR", "en-de "), ("PAIR", " en-de"), ("PAIR", ""), ("PAIR", "`" + RUNS + "`"), ("PAIR", "en-de;" + RUNS),
    ("PAIR", "$(" + RUNS + ")"), ("PAIR", "$(shell " + RUNS + ")"), ("PAIR", "--help"), ("PAIR", "en-de\n" + RUNS),
    ("PAIR", "日本-語"), ("PAIR", "../en-de"),
    ("RATIO", "0.75 "), ("RATIO", ""), ("RATIO", "`" + RUNS + "`"), ("RATIO", "$(shell " + RUNS + ")"),
    ("RATIO", "0.5' ; " + RUNS + " ; '"), ("RATIO", "-0.5"), ("RATIO", "nan"), ("RATIO", "0.75\n"),
    ("MODEL", "models/default "), ("MODEL", "no such model"), ("MODEL", "`" + RUNS + "`"), ("MODEL", "../../etc"),
    ("MODEL", "--help"), ("MODEL", "$(shell " + RUNS + ")"), ("MODEL", "\"; " + RUNS + "; \""),
    ("OUT", "{sentinel}/keep me"), ("OUT", "{sentinel}/keep\nme"), ("OUT", ""), ("OUT", "{sentinel}/keep/.."),
    ("OUT", "{sentinel}/`" + RUNS + "`"), ("OUT", "{sentinel}/$(shell " + RUNS + ")"), ("OUT", "{sentinel}/'\"$5"),
    ("OUT", "--help"), ("OUT", "{sentinel}/ünï 目"),
    ("QUANT", "Q9; " + RUNS), ("CRITERION", "$(shell " + RUNS + ")"), ("CORPUS", "{sentinel}/no `" + RUNS + "`.tsv"),
    ("STEPS", "5;" + RUNS), ("THREADS", "`" + RUNS + "`"), ("RECOVER", "$(" + RUNS + ")"), ("RATO", "0.5"),
    ("TEXT", "`" + RUNS + "` $(shell " + RUNS + ") \"$5\" '"), ("NONSENSE", "$(shell " + RUNS + ")"),
]  # fmt: skip


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """By path a file's size and when it was changed."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in found.items()}


# As a word of the command line, and what might run from the environment, too.
ODD = [
    pytest.param(name, value, of_environment, id=f"{name}-{i}{'-environment' * of_environment}")
    for i, (name, value) in enumerate(ODD_VALUES)
    for of_environment in (False, True)
    if not of_environment or (RUNS in value and "$" in value)
]


@pytest.mark.parametrize(("name", "value", "from_environment"), ODD)
def test_odd_values_run_nothing_and_touch_nothing(
    name: str, value: str, from_environment: bool, tmp_path: Path
) -> None:
    """The request itself is wrong (another corpus is missing), so an export that is reached ends before any work."""
    sentinel = tmp_path / "sentinel"
    (sentinel / "keep").mkdir(parents=True)
    for file in ("keep/checkpoint", "me", "stats.safetensors"):
        (sentinel / file).write_text("mine")
    before, runs = snapshot(sentinel), snapshot(ROOT / "runs")
    value = value.replace("{sentinel}", str(sentinel))
    usual = {"OUT": f"{tmp_path}/out", "CORPUS": f"{tmp_path}/missing.tsv"}
    usual.pop(name, None)
    environment = os.environ | usual | ({name: value} if from_environment else {})
    words = ["make", "export", *([] if from_environment else [f"{name}={value}"])]
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert snapshot(sentinel) == before and snapshot(ROOT / "runs") == runs
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_expands_nothing(tmp_path: Path) -> None:
    for words, more in (
        ([f"RATIO=$(shell touch {tmp_path}/ran)"], {}),
        ([], {"RATIO": f"$(shell touch {tmp_path}/ran)"}),
    ):
        result = subprocess.run(
            ["make", "help", *words], cwd=ROOT, env=os.environ | more, capture_output=True, text=True
        )
        assert result.returncode == 0 and "make export" in result.stdout
    assert not (tmp_path / "ran").exists()


def test_text_reaches_the_command_as_it_is(tmp_path: Path) -> None:
    """``tools.make`` run with a stand-in for the environment's Python that prints its words."""
    printer = tmp_path / "python"
    printer.write_text("#!/bin/sh\nfor word; do printf '%s|' \"$word\"; done\n")
    printer.chmod(0o755)
    code = (
        "import tools.make as m, pathlib, sys\n"
        f"m.PYTHON = pathlib.Path({str(printer)!r})\n"
        "m.exported = lambda: {'artefacts': {'Q4_K_M': '/x y.gguf'}}\n"
        "m.translate()"
    )
    text = 'It\'s "5$" `a`\n$(b) --help'
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-c", code],
        cwd=ROOT,
        env=os.environ | {"TEXT": text},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("|")[-3:-1] == ["/x y.gguf", text]


@pytest.mark.parametrize("spelt", [".75", "0.750", "+0.75", "75e-2"])
def test_a_ratio_is_the_same_run_and_plan_however_it_is_spelt(
    spelt: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code = "import json, sys, tools.make as m; m.PYTHON = sys.executable; m.preflight(); "
    code += "print(json.dumps(m.exported('--dry-run')))"
    some_stats().save(tmp_path / "stats")

    def run(ratio: str) -> tuple[str, str, bytes]:
        variables = {"RATIO": ratio, "MODEL": str(tiny_checkpoint), "OUT": str(tmp_path / "run"), "PAIR": "en-de"}
        made = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        export = ("export", tiny_checkpoint, "--pair", "en-de", "--ratio", ratio, "-o", tmp_path / "run")
        told = run_command(*export, "--dry-run", "--json", seconds=60)
        planned = run_command("plan", "stats", "--ratio", ratio, "-o", "plan.json", seconds=60, folder=tmp_path)
        assert told.status == planned.status == 0, told.errors + planned.errors
        plan = (tmp_path / "plan.json").read_bytes()
        (tmp_path / "plan.json").unlink()
        return made.stdout, told.output, plan

    usual = run("0.75")
    assert run(spelt) == usual
    assert json.loads(usual[0])["folder"] == json.loads(usual[1])["folder"] == str(tmp_path / "run" / "gate-0.75")


def test_what_ends_make_s_process_is_told_to_its_command_first(tmp_path) -> None:
    work = "import signal, sys, time\n"
    work += "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').close(), sys.exit(7)))\n"
    work += "print('ready', flush=True); time.sleep(60)"
    script = "import sys; from tools import make; make.PYTHON = sys.executable; make.python('-c', *sys.argv[1:])"
    command = [sys.executable, "-c", script, work, str(tmp_path / "told")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 7
    assert (tmp_path / "told").exists()
