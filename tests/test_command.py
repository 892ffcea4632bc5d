"""The command and the Makefile as a user meets them."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from models.recipe.prepare import DIRECTIONS
from runtime.measure.rows import finished_rows, ratio
from runtime.text.pairs import Pair
from slimmoe.cli import ROOMS, app_of
from tools import make as slimmoe_make
from tools.build_llama import options

ROOT = Path(__file__).parents[1]


def run(*arguments: str, timeout: float = 300, **options) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout, **options)


def slimmoe(*arguments: str) -> subprocess.CompletedProcess:
    return run(sys.executable, "-m", "slimmoe", *arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"RATIO": "1.2"}, "share of experts to cut"),
        ({"RATIO": "0.99"}, "leave none of 32 experts"),
        ({"RATIO": "much"}, "not a ratio"),
        ({"PAIR": "xx-yy"}, "not a language pair"),
        ({"MODEL": "/nowhere"}, "no model folder /nowhere"),
    ],
)
def test_a_wrong_request_is_refused_before_any_set_up(arguments: dict[str, str], sentence: str, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("make", "export", f"OUT={out}", *(f"{name}={value}" for name, value in arguments.items()))
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert result.returncode == 2
    assert len(lines) == 2 and sentence in lines[0] and lines[1].startswith("  next: ")
    assert not out.exists()


@pytest.mark.parametrize("path", ["/usr/bin:/bin", f"{Path(sys.executable).parent}:/usr/bin:/bin"])
def test_the_next_command_can_be_typed_as_it_is_printed(path: str) -> None:
    run_in = {"env": os.environ | {"PATH": path}}
    refused = run(sys.executable, "-m", "slimmoe", "bench", "a.gguf", "--memory-limit", "lots", "-o", "x", **run_in)
    command, *_ = refused.stderr.partition("next: ")[2].split()
    assert run("sh", "-c", f"{command} --version", **run_in).stdout.startswith("slimmoe ")


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, slimmoe; assert not {'torch', 'transformers', 'onnxruntime', 'llama_cpp'} & set(sys.modules)"
    assert run(sys.executable, "-c", code).returncode == 0
    assert "calibrate" in slimmoe("--help").stdout


def test_every_make_target_has_its_line_of_help() -> None:
    result = run("make", "help")
    for target in ("export", "setup", "test", "lint", "bench", "sweep", "report", "translate"):
        assert f"make {target} " in result.stdout


@pytest.mark.slow  # minutes for each
@pytest.mark.parametrize("pair", DIRECTIONS, ids=str)
def test_the_whole_way_for_every_direction_of_the_default_model(pair: Pair, tmp_path) -> None:
    result = run("make", "export", f"PAIR={pair}", "RATIO=0.75", f"OUT={tmp_path / 'out'}", timeout=1800)
    assert result.returncode == 0, result.stderr
    run_folder = tmp_path / "out" / "gate-0.75"
    assert "75% cut" in (run_folder / "report.md").read_text()
    rows = finished_rows(run_folder / "bench.jsonl")
    unpruned, cut = ([row for row in rows if bool(ratio(row)) == is_cut] for is_cut in (False, True))
    assert len(unpruned) == len(cut) == 2
    for before, after in zip(unpruned, cut):
        assert after["size_bytes"] < before["size_bytes"] / 2
        assert after["chrf"] > 0.7 * before["chrf"] > 0.7 * 25  # copying the source has 25 at most


def test_no_compiler_is_one_sentence(tmp_path) -> None:
    code = "from tools.build_llama import require_compiler; require_compiler()"
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | {"PATH": str(tmp_path)}
    result = run(sys.executable, "-c", code, env=environment)
    assert "No C++ compiler was found" in result.stderr and "next: sudo apt-get install g++" in result.stderr


@pytest.mark.parametrize(
    ("programs", "given", "has", "says"),
    [
        ([], "", "-DGGML_NATIVE=ON", ""),
        (["nvidia-smi", "nvcc"], "", "-DGGML_CUDA=ON", ""),
        (["nvidia-smi"], "", "-DGGML_RPC=ON", "no nvcc"),
        (["vulkaninfo", "glslc"], "", "-DGGML_RPC=ON", "CMAKE_ARGS=-DGGML_VULKAN=ON make setup"),
        (["nvidia-smi"], "-DGGML_VULKAN=ON -DX='a b'", "-DX=a b", ""),
    ],
)
def test_llama_cpp_is_built_for_the_card_that_is_there(programs: list[str], given: str, has: str, says: str) -> None:
    chosen, note = options(given, lambda name: name if name in programs else None)
    assert has in chosen
    assert says in note if says else not note
    assert ("-DGGML_CUDA=ON" in chosen) == ("nvcc" in programs)


def test_artefacts_are_measured_without_a_test_set(tiny_onnx, tmp_path) -> None:
    """Also that the default pair is one: --pair is left out."""
    other = {"artefact": "other.gguf"}
    (tmp_path / "bench.jsonl").write_text(json.dumps(other) + "\n")
    result = slimmoe("bench", str(tiny_onnx), "--threads", "1", "-o", str(tmp_path / "bench.jsonl"))
    assert result.returncode == 0, result.stderr
    kept, row = finished_rows(tmp_path / "bench.jsonl")
    assert kept == other and row["format"] == "slimmoe-bench/1"
    assert row["pair"] == "en-de" and row["threads"] == 1 and row["type"] == "int4"
    assert 0 <= row["other_load"] <= 1
    assert row["decode_tokens_per_second"] > 0 and row["peak_bytes"] > row["peak_anonymous_bytes"] > 0


def test_no_verb_writes_over_a_file_of_another_kind(tiny_onnx, tmp_path) -> None:
    letter, model = tmp_path / "letter.txt", tmp_path / "m.gguf"
    letter.write_text("Save.\n")
    model.write_bytes(b"GGUF\0")
    for command, remedy in (
        (("bench", str(tiny_onnx), "-o", str(model)), "another name"),
        (("translate", str(tiny_onnx), "--pair", "en-de", "Save.", "-o", str(model)), "--overwrite"),
        (
            ("translate", str(tiny_onnx), "--pair", "en-de", str(letter), "--overwrite", "-o", str(letter)),
            "another name",
        ),
        (
            ("translate", str(tiny_onnx), "Save.", "--pair", "en-de", "--overwrite", "-o", f"{tiny_onnx}/config.json"),
            "another name",
        ),
    ):
        result = slimmoe(*command)
        assert result.returncode == 2 and remedy in result.stderr and "Traceback" not in result.stderr
    assert letter.read_text() == "Save.\n" and model.read_bytes() == b"GGUF\0"
    older = tmp_path / "brief.txt"
    older.write_text("x")
    translate = ("translate", str(tiny_onnx), "--pair", "en-de", str(letter), "--overwrite", "-o", str(older))
    assert slimmoe(*translate).returncode == 0 and older.read_text() != "x"


def test_a_pair_that_the_artefact_was_not_pruned_for_is_noted(tiny_onnx, tmp_path) -> None:
    folder = shutil.copytree(tiny_onnx, tmp_path / "onnx")
    (folder / "slimmoe.json").write_text('{"pair": "en-de + de-en"}')
    notes = [slimmoe("translate", str(folder), "--pair", pair, "Save.").stderr for pair in ("en-fr", "de-en")]
    assert "cut for en-de + de-en" in notes[0] and "en-fr" in notes[0] and "cut for" not in notes[1]


def test_ctrl_c_is_one_sentence_and_leaves_nothing(tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "slimmoe",
        "calibrate",
        "models/default",
        "--pair",
        "en-de",
        "-o",
        tmp_path / "stats",
    ]
    # Where the tests run as a job in the background, they ignore the signal, and so would their child.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert child.stderr is not None
    line = child.stderr.readline()  # the device and the reason for it: the work has begun
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait() == 130
    assert "cpu" in line or "cuda" in line
    assert "slimmoe: stopped" in rest and "Traceback" not in rest
    assert not (tmp_path / "stats").exists()


def test_every_package_of_set_up_is_held_against_its_hashes() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( ;.*?)?( +--hash=sha256:[0-9a-f]{64})+", line.rstrip()), line
    assert '"--require-hashes", "-r", "constraints.txt"' in (ROOT / "tools" / "setup.py").read_text(encoding="utf-8")


def test_every_test_that_the_page_on_odd_input_names_exists() -> None:
    text = (ROOT / "docs" / "odd-input.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.]+\.py)::(\w+)`", text))
    assert len(named) > 60 and text.count("::") == len(re.findall(r"`[\w/.]+\.py::\w+`", text))
    for path, function in sorted(named):
        assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8"), (path, function)


def readme_commands() -> list[str]:
    """Lines of the README's shell blocks, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_readme_s_commands_exist_with_their_flags() -> None:
    verbs = [re.search(r"slimmoe (?!-)(\w+)(.*)", line) for line in readme_commands()]
    found = {match[1]: set(re.findall(r"(?<=\s)--?[a-z]+", match[2])) for match in verbs if match}
    assert len(found) >= 11  # every stage is shown
    for verb, flags in found.items():
        text = slimmoe(verb, "--help").stdout
        assert all(re.search(rf"{flag}\b", text) for flag in flags), (verb, flags)
    targets = slimmoe_make.TARGETS
    for line in readme_commands():
        if match := re.match(r"make (\w+)(.*)", line):
            assert match[1] in targets
            assert set(re.findall(r"([A-Z]+)=", match[2])) <= set(slimmoe_make.VARIABLES)


def test_a_verb_loads_what_is_beside_it_alone_and_is_the_same() -> None:
    """Each verb is found by its first word in the room that has it, with the options that it has among all."""
    whole: Any = get_command(app_of()).commands  # type: ignore[attr-defined]
    for _, _, verbs in ROOMS:
        for verb in verbs:
            alone: Any = get_command(app_of(verb)).commands  # type: ignore[attr-defined]
            assert {*verbs} <= {*alone} and len(alone) < len(whole)
            params = [[(each.name, each.opts) for each in found[verb].params] for found in (alone, whole)]
            assert params[0] == params[1]
    assert {verb for *_, verbs in ROOMS for verb in verbs} == {*whole}
    assert app_of("no-verb").registered_groups and len(app_of("no-verb").registered_groups) == len(ROOMS)


def test_the_package_has_what_it_says_before_any_of_it_is_loaded() -> None:
    program = "import slimmoe, sys; print('slimmoe.api' in sys.modules, {*slimmoe.__all__} <= {*dir(slimmoe)}); "
    program += "print(all(getattr(slimmoe, each) is not None for each in slimmoe.__all__))"
    assert run(sys.executable, "-c", program).stdout.split() == ["False", "True", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = importlib.import_module("slimmoe").nothing
