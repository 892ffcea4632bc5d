"""A model as a package: the same bytes each time, found without a store, and read only."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import slimmoe
from runtime.errors import RequestError, WorkError
from runtime.formats import store
from runtime.formats.artefact import find_artefact
from runtime.translate.stored import stored_models
from slimmoe.storing import add_model
from slimmoe.wheels import write_wheel
from tests.bad_inputs import cut
from tests.gguf_files import write_moe

ROOT = Path(__file__).parents[2]
CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture(scope="module")
def model(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    others = shutil.ignore_patterns("model.onnx*", "model_int8*", "model_fp16*")
    folder = shutil.copytree(tiny_onnx, tmp_path_factory.mktemp("wheels") / "small", ignore=others)
    (folder / "slimmoe.json").write_text('{"pair": "en-de", "hash": "x", "ratio": 0.5}')
    (folder / "LICENSE").write_text("As you like.\n")
    (folder / "README.md").write_text(CARD)
    return folder


def test_a_wheel_is_whole_and_the_same_each_time(model: Path, tmp_path: Path) -> None:
    first = write_wheel(model, tmp_path / "1")
    other = shutil.copytree(model, tmp_path / "other")
    for path in other.rglob("*"):
        os.utime(path, (1e9, 1e9))
    second = write_wheel(other, tmp_path / "2", "1.0")
    assert first.name == second.name == "slimmoe_model_en_de-1.0-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        *rows, own = archive.read("slimmoe_model_en_de-1.0.dist-info/RECORD").decode().splitlines()
        for row in rows:
            name, digest, size = row.split(",")
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert digest == f"sha256={expected}" and int(size) == len(data)
        assert [row.split(",")[0] for row in rows] + [own.split(",")[0]] == names
        about = archive.read("slimmoe_model_en_de-1.0.dist-info/METADATA").decode()
        assert (
            about.endswith(CARD) and "\nName: slimmoe-model-en-de\n" in about and "\nRequires-Dist: slimmoe\n" in about
        )
        assert archive.read("slimmoe_model_en_de-1.0.dist-info/licenses/LICENSE") == b"As you like.\n"


def test_an_unpacked_wheel_is_found_by_name_and_pair_and_left_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(write_wheel(model, tmp_path)) as archive:
        archive.extractall(site)
    files = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("SLIMMOE_MODELS", str(tmp_path / "store"))
    (found,) = stored_models()
    assert found.name == "en-de" == str(*found.pairs) and found.package == "slimmoe-model-en-de" and not found.problem
    assert find_artefact(Path("en-de")) == found.artefact == site / "slimmoe_model_en_de" / "model"
    with pytest.raises(RequestError, match="next: pip uninstall slimmoe-model-en-de"):
        store.remove_model("en-de")
    with pytest.raises(RequestError, match="called en-de already"):
        add_model(str(model), "EN-de")
    store.set_default("en-de", "en-de")
    assert stored_models()[0].defaults == ("en-de",)
    command = [sys.executable, "-m", "slimmoe", "translate", "--threads", "1", "--to", "de", "Save the file."]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"{next(slimmoe.translate('en-de', ['Save the file.']))}\n", (
        done.stderr
    )
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == files


def test_no_code_of_a_package_is_run_to_find_its_model(model: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_wheel(model, tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site" / "slimmoe_model_en_de" / "__init__.py").write_text("raise SystemExit(9)\n")
    points = tmp_path / "site" / "slimmoe_model_en_de-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "../x = os\nb = no.such\nc = nothing_here\nd = json:loads\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from runtime.formats import store; print(*store.package_folders())"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "site"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "en-de\n", done.stderr


def test_what_cannot_be_a_wheel_is_a_sentence(model: Path, tmp_path: Path) -> None:
    gguf = write_moe(tmp_path / "x.gguf")
    broken = shutil.copytree(model, tmp_path / "broken")
    cut(0.9)(broken / "onnx" / "model_q4.onnx_data")
    (tmp_path / "binary").write_bytes(b"\xff\0")
    out = tmp_path / "out"
    for kind, pattern, make in (
        (RequestError, "names no language pair", lambda: write_wheel(gguf, out)),
        (RequestError, "no .*LICENSE: the licence", lambda: write_wheel(gguf, out, name="x")),
        (RequestError, "no text in UTF-8", lambda: write_wheel(model, out, licence=tmp_path / "binary")),
        (RequestError, "There is no none", lambda: write_wheel(model, out, card=Path("none"))),
        (RequestError, "no version", lambda: write_wheel(model, out, "1.0/../x")),
        (RequestError, "no name for a package", lambda: write_wheel(model, out, name="../x")),
        (RequestError, "no name for a package", lambda: write_wheel(model, out, name="a-")),
        (RequestError, "'' is no name for a package", lambda: write_wheel(model, out, name="")),
        (RequestError, "There is no ", lambda: write_wheel(tmp_path / "gone", out)),
        (WorkError, "broken/onnx/model_q4.onnx is cut short", lambda: write_wheel(broken, out)),
    ):
        with pytest.raises(kind, match=pattern):
            make()
    assert not out.exists()
    assert (
        write_wheel(gguf, out, name="my.Model", licence=model / "LICENSE").name
        == "slimmoe_model_my_model-1.0-py3-none-any.whl"
    )


@pytest.mark.slow
def test_pip_installs_two_wheels_and_a_letter_is_translated(tmp_path: Path) -> None:
    """Without a clone, a compiler or torch."""
    from export.onnx import export_onnx
    from tests.runtime.documents.splicing import part
    from tests.runtime.documents.test_office import BOLD, document, run

    model = export_onnx(ROOT / "models" / "default", tmp_path / "model", "int4")
    (model / "slimmoe.json").write_text('{"pair": "en-de", "hash": "x"}')
    wheels = tmp_path / "wheels"
    write_wheel(model, wheels, licence=ROOT / "LICENSE", card=ROOT / "models" / "README.md")
    source = shutil.copytree(  # building leaves folders in the source
        ROOT,
        tmp_path / "source",
        ignore=shutil.ignore_patterns(".*", "runs", "build", "tests", "models", "docs", "*.egg-info"),
    )
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, source], check=True)
    (ours,) = wheels.glob("slimmoe-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "-q", "install", "--find-links", wheels, f"{ours}[model]"]
    subprocess.run(install, check=True, cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    environment = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    assert subprocess.run([python, "-c", "import torch"], env=environment, capture_output=True).returncode == 1
    letter = document(run("The file could not be ") + run("opened", BOLD) + run("."), run("Save the file."))
    (tmp_path / "letter.docx").write_bytes(letter)
    words = ["slimmoe", "translate", "letter.docx", "--to", "de"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, executable=python.parent / "slimmoe", capture_output=True
    )
    assert done.returncode == 0, done.stderr
    text = part((tmp_path / "letter.de.docx").read_bytes(), "word/document.xml")
    assert text.count(BOLD) == 1 and "Datei" in text and "Save" not in text
