"""What a terminal gets: nothing of a model's files that it would obey, and help wherever it stands."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from tests.gguf_files import write_moe
from tests.warm_command import run_command

ROOT = Path(__file__).parents[2]
SEEN = "OWNED"
ESCAPES = f"\x1b]0;{SEEN}\x07\x1b[2J\x9b31m\u202e"  # a title, an empty screen, a colour, text turned round
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
GGUF_FIELDS = {
    "slimmoe.pair": f"en-de{ESCAPES}", "slimmoe.criterion": ESCAPES, "slimmoe.hash": ESCAPES, "slimmoe.recoveries": ESCAPES,
    "general.name": ESCAPES, "general.basename": ESCAPES, "general.architecture": f"tiny{ESCAPES}",
    "tokenizer.ggml.model": ESCAPES, "tokenizer.ggml.pre": ESCAPES, "tokenizer.ggml.tokens": [*"abcdefghijklmno", ESCAPES],
    "tokenizer.chat_template": f"{ESCAPES}{{{{ messages }}}}",
    "tokenizer.chat_template that is refused": f"{{{{ raise_exception('{ESCAPES}') }}}}",
}  # fmt: skip
GGUF_VERBS = [
    "translate x.gguf Save. --pair en-de", "calibrate x.gguf --pair en-de --tokens 9 -o stats",
    "fit x.gguf --memory 8GiB", "prune x.gguf --plan plan.json -o cut.gguf", "doctor x.gguf", "models add x.gguf",
    "models list",
]  # fmt: skip


def told(folder: Path, *verbs: str) -> str:
    """All that the commands print into pipes; each ends by itself."""
    variables = {"SLIMMOE_MODELS": str(folder / "store"), "HOME": str(folder), "TERM": "dumb"}
    found = ""
    for verb in verbs:
        done = run_command(*verb.split(), seconds=60, folder=folder, variables=variables)
        assert done.status in (0, 1, 2) and "Traceback" not in done.errors, (verb, done.errors)
        found += done.output + done.errors
    return found


@pytest.mark.parametrize("field", GGUF_FIELDS)
def test_no_field_of_a_gguf_file_reaches_the_terminal_as_an_escape(field: str, tmp_path: Path) -> None:
    model = GgufModel(write_moe(tmp_path / "right.gguf"))
    layers = [Layer(layer, count, [0, 1, 2, 3]) for layer, count in model.moe_layers.items()]
    plan = Plan("x", model.fingerprint, "en-de", "gate", "uniform", 0.5, 0, model.top_k, layers)
    plan.save(tmp_path / "plan.json")
    name = field.partition(" ")[0]
    if name == "general.architecture":
        write_moe(tmp_path / "x.gguf", architecture=GGUF_FIELDS[name])
    else:
        write_moe(tmp_path / "x.gguf", {name: GGUF_FIELDS[field]})
    assert not OBEYED.search(told(tmp_path, *GGUF_VERBS))


@pytest.mark.parametrize("key", ["model_type", "architectures", "torch_dtype", "quantization_config"])
def test_no_field_of_a_config_reaches_the_terminal_as_an_escape(
    key: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config[key] = {"quantization_config": {"quant_method": ESCAPES}, "architectures": [ESCAPES]}.get(key, ESCAPES)
    (folder / "config.json").write_text(json.dumps(config))
    verbs = (
        "doctor model",
        "fit model --memory 8GiB",
        "prune model --plan none.json -o cut",
        "gguf model -o x.gguf --quant Q9",
    )
    assert not OBEYED.search(told(tmp_path, *verbs))


def on_a_terminal(folder: Path, *words: str) -> str:
    """What a terminal gets of a command that has it for output and errors."""
    terminal, end = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    command = [sys.executable, "-m", "slimmoe", *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=end, stdout=end, stderr=end):
        os.close(end)
        data = b""
        try:
            while more := os.read(terminal, 4096):
                data += more
        except OSError:  # the other end is closed
            pass
    os.close(terminal)
    return data.decode(errors="replace").replace("\r\n", "\n")


def test_a_prompt_is_shown_to_a_terminal_without_escapes_and_to_a_pipe_as_it_is(tmp_path: Path) -> None:
    write_moe(tmp_path / "x.gguf", {"tokenizer.chat_template": f"{ESCAPES}{{{{ messages[0].content }}}}"})
    for more in ([], ["--json"]):
        shown = on_a_terminal(tmp_path, "prompt", "x.gguf", "Save.", *more)
        assert SEEN in shown and not OBEYED.search(shown)
    assert ESCAPES in json.loads(shown)["prompt"]
    assert ESCAPES.encode() in run_in(tmp_path, "prompt", "x.gguf", "Save.").stdout


def test_a_pair_of_a_gguf_file_with_escapes_is_one_sentence_on_a_terminal(tmp_path: Path) -> None:
    write_moe(tmp_path / "x.gguf", {"slimmoe.pair": f"en-de{ESCAPES}"})
    for words in (("models", "add", "x.gguf"), ("bench", "x.gguf", "-o", "bench.jsonl")):
        shown = on_a_terminal(tmp_path, *words)
        assert shown.startswith("slimmoe: x.gguf is damaged") and not OBEYED.search(shown), shown


def run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "slimmoe", *words], cwd=folder, env=environment, capture_output=True)


HELP = """
import contextlib, io, os, sys
import typer.main
from slimmoe.cli import app_of, run

if sys.argv[1:]:
    os.rmdir(sys.argv[1])

def verbs(command, words=()):
    yield words
    for name, each in getattr(command, "commands", {}).items():
        yield from verbs(each, (*words, name))

for words in [*verbs(typer.main.get_command(app_of()))]:
    sys.argv = ["slimmoe", *words, "--help"]
    try:
        run()
    except SystemExit as end:
        print("STATUS", end.code or 0, *words)
"""


@pytest.mark.parametrize("kind", ["removed", "neither read nor written", "of an odd name"])
def test_every_verb_has_its_help_wherever_the_command_stands(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / ("a\n\x1b[2J 'x' %s ü" if kind == "of an odd name" else "folder")
    folder.mkdir()
    is_locked = kind == "neither read nor written"
    if is_locked:
        folder.chmod(0o111)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if is_locked and os.getuid() == 0 else {}
    command = [sys.executable, "-P", "-c", HELP, *([str(folder)] if kind == "removed" else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **nobody)
    folder.chmod(0o700) if folder.exists() else None
    if nobody and "Permission denied" in done.stderr and "slimmoe" not in done.stderr.splitlines()[-1]:
        pytest.skip("no other user may run this Python")
    statuses = [line for line in done.stdout.splitlines() if line.startswith("STATUS ")]
    assert len(statuses) > 20 and all(line.startswith("STATUS 0") for line in statuses), done.stderr
    assert done.stdout.count("Usage: ") == len(statuses) and not done.stderr


LEAVING = """
import atexit, sys, threading, time
from slimmoe.cli.terminal import leave

class Kept:
    def __del__(self):
        print("torn down")

kept = Kept()
atexit.register(print, "registered")
if sys.argv[1:]:
    threading.Thread(target=lambda: (time.sleep(0.2), print("worked"))).start()
print("told", end=" ")
leave(SystemExit(3))
"""


def test_a_command_ends_without_a_teardown_once_all_is_done() -> None:
    def left(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-c", LEAVING, *words], capture_output=True, text=True)
        return done.returncode, done.stdout

    assert left() == (3, "told registered\n")
    assert left("a thread") == (3, "told worked\nregistered\ntorn down\n")
