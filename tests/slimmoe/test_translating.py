"""A line in is a line out: what ``slimmoe translate`` makes of files, arguments and standard input."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engines import Generation
from runtime.translate.segments import Translation

ROOT = Path(__file__).parents[2]


def translate(model: Path, *arguments: str | Path, data: bytes = b"", **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "slimmoe", "translate", str(model), "--pair", "en-de", "--threads", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, input=data, env=environment, capture_output=True)


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("    Save.", "Speichern.", "    Speichern."),
        ("\tSave.  ", "Speichern.", "\tSpeichern.  "),
        ("Save.", "Speichern.\n\nJetzt.\r\nGleich.", "Speichern.  Jetzt. Gleich."),
        ("One.\nTwo.", "Eins.\nZwei.", "Eins.\nZwei."),
        ("\u2028Save.\x85", "Speichern.", "\u2028Speichern.\x85"),
        ("   ", "", "   "),
        ("  Save.  ", "", ""),
    ],
)
def test_a_translation_takes_its_source_s_place(source: str, text: str, expected: str) -> None:
    generation = Generation((1,), text, True, 5, 0.1, 0.1)
    assert Translation(source, text, generation).in_place == expected


def test_encodings_and_ways_in_make_no_difference(tiny_onnx, tmp_path) -> None:
    lines = "Save the file.\r\nGröße\u2028x\r\n\r\n  Print the page.\r\n"
    plain = translate(tiny_onnx, data=lines.encode(), PYTHONIOENCODING="cp1252", LC_ALL="C", PYTHONUTF8="0")
    assert plain.returncode == 0 and plain.stdout.decode().count("\n") == 4
    assert plain.stdout.decode().split("\n")[2] == "" and plain.stdout.decode().split("\n")[3].startswith("  ")
    for data in (lines.encode("utf-8-sig"), lines.encode("utf-16"), gzip.compress(lines.encode("utf-16"))):
        path = tmp_path / "x.txt"
        path.write_bytes(data)
        assert translate(tiny_onnx, path).stdout == plain.stdout
    assert translate(tiny_onnx, data=data).stdout == plain.stdout
    argument = translate(tiny_onnx, "\ufeffSave the file.")
    assert argument.stdout == plain.stdout.split(b"\n")[0] + b"\n"


def test_a_line_that_is_too_long_is_named_and_the_rest_is_done(tiny_onnx, tmp_path) -> None:
    (tmp_path / "x.txt").write_text("Save the file.\n" + "word " * 3000 + "\nPrint the page.\n")
    done = translate(tiny_onnx, tmp_path / "x.txt", "-o", tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n")
    assert done.returncode == 1 and len(lines) == 4 and lines[0] and lines[2] and lines[1] == lines[3] == ""
    assert f"line 2 of {tmp_path}/x.txt is left empty" in done.stderr.decode() and b"1 line was too long" in done.stderr
    assert b"did not come to an end within" in done.stderr  # of a model with random weights


def test_a_reader_that_has_enough_is_no_trouble(tiny_onnx) -> None:
    command = (
        f"yes 'Save the file.' | head -50 | {sys.executable} -m slimmoe translate {tiny_onnx} --pair en-de --threads 1"
    )
    done = subprocess.run(["sh", "-c", f"{command} | head -1"], cwd=ROOT, capture_output=True)
    assert done.stdout.count(b"\n") == 1 and b"Traceback" not in done.stderr and b"Broken" not in done.stderr


@pytest.mark.parametrize("data", [b"Gr\xf6\xdfe\n", "Save.\n".encode("utf-16-le"), b"ok\n\xff\n"])
def test_what_is_no_text_ends_in_one_sentence(data: bytes, tiny_onnx) -> None:
    done = translate(tiny_onnx, data=data)
    assert done.returncode == 2 and b"standard input" in done.stderr and b"Traceback" not in done.stderr
    argument = translate(tiny_onnx, os.fsdecode(data.replace(b"\0", b"").rstrip() + b"\xff"))
    assert argument.returncode == 2 and b"not UTF-8" in argument.stderr and b"Traceback" not in argument.stderr
