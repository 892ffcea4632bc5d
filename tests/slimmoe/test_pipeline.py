"""The whole way on a tiny model: what is done again, and what is not, from a finished run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.measure.rows import finished_rows
from runtime.text.pairs import Pair
from slimmoe.hashes import Hashes
from slimmoe.runs import Exported, export
from slimmoe.stages import Runner, Stage
from slimmoe.variants import Recovery, Request, Texts, Variant, claim, home_of
from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
EN_DE = Pair("en", "de")
SFT = (Recovery(steps=2),)


def write_text(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """Few segments: what is tried here is the way, not the model."""
    folder = tmp_path_factory.mktemp("texts")
    lines = "The file is open.\tDie Datei ist offen.", "Close it.\tSchließe sie."
    return Texts(*(write_text(folder / f"{name}.tsv", *lines) for name in ("corpus", "dev", "test")))


@pytest.fixture(scope="module")
def finished(tiny_checkpoint: Path, texts: Texts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    """A request and the folder in which all of it was done, a blank in its name; read only: copy before changing it."""
    home = tmp_path_factory.mktemp("runs") / "keep me"
    wanted = Request(Variant(tiny_checkpoint, EN_DE, ratio=0.5), texts, "Q8_0", "int8", threads=1)
    done = export(wanted, str(tiny_checkpoint), home)
    assert done.report.exists() and len(done.done) == 14
    return wanted, home


@pytest.fixture
def copied(finished: tuple[Request, Path], tmp_path: Path) -> tuple[Request, Path]:
    return finished[0], shutil.copytree(finished[1], tmp_path / "home")


def todo(request: Request, home: Path, **more: bool) -> set[str]:
    """Outputs that would be made, from the run's folder on."""
    found = export(request, str(request.variant.model), home, dry_run=True, **more)
    return {stage.split(": ", 1)[1].removeprefix(f"{home}/") for stage, _ in found.done}


def test_a_finished_run_is_verified_and_measured(finished) -> None:
    _, home = finished
    checks = json.loads((home / "gate-0.5" / "verify.json").read_text(encoding="utf-8"))["checks"]
    assert len(checks) == 5 and all(check["passed"] for check in checks)
    rows = finished_rows(home / "gate-0.5" / "bench.jsonl")
    assert [row["type"] for row in rows] == ["Q8_0", "int8"] * 2 and all("against_unpruned" in row for row in rows[2:])
    assert not list(home.rglob("*.part"))


def test_the_same_request_again_does_nothing_whatever_the_clocks_say(copied) -> None:
    request, home = copied
    assert todo(request, home) == set()
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file() and path.name[0] != "."}
    for path in (request.texts.corpus, *request.variant.model.iterdir(), *before):
        os.utime(path, (1e9, 1e9))
    assert todo(request, home) == todo(request, home, check=True) == set()


RUN, BASE = "gate-0.5/", "unpruned/"
LAST = {RUN + "bench.jsonl", RUN + "report.html"}
MEASURED = {RUN + "rows/Q8_0.json", RUN + "rows/int8.json"}
WRITTEN = {RUN + "tiny-en-de-p50-Q8_0.gguf", RUN + "onnx-int8"}
CUT = {RUN + "plan.json", RUN + "checkpoint", *WRITTEN, RUN + "verify.json", *MEASURED, *LAST}
Change = Callable[[Request, Path], Request]


def other(name: str, text: str = "Save the file.\tSpeichern Sie die Datei.") -> Change:
    """A text of other contents."""
    return lambda request, work: replace(
        request, texts=replace(request.texts, **{name: write_text(work / f"{name}.tsv", text)})
    )


def varied(**changes) -> Change:
    return lambda request, _: replace(request, variant=replace(request.variant, **changes))


def allocated(name: str) -> Change:
    """This family's GGUF files hold one count for all layers."""
    return lambda request, _: replace(request, gguf_type="no", variant=replace(request.variant, allocation=name))


def of_source(request: Request, work: Path) -> Request:
    """Sentences alone: the model's own translations stand for corpus and dev."""
    source = write_text(work / "source.txt", "Save the file.", "Close it.")
    return replace(request, texts=replace(request.texts, source=source, dev=None))


def in_folder(outputs: set[str], name: str) -> set[str]:
    return {output.replace("gate-0.5/", f"{name}/") for output in outputs}


IN_GGUF = {RUN + "tiny-en-de-p50-Q8_0.gguf", RUN + "rows/Q8_0.json"}
REFITTED = "gate-0.5-recovered-least-squares"
RECOVERED = in_folder(CUT - {RUN + "plan.json"}, "gate-0.5-recovered")


@pytest.mark.parametrize(
    ("change", "made"),
    [
        (lambda request, _: replace(request, gguf_type="F16"),
         {RUN + "tiny-en-de-p50-F16.gguf", BASE + "tiny-en-de-F16.gguf", RUN + "rows/F16.json", BASE + "rows/F16.json",
          RUN + "verify.json", *LAST}),
        (lambda request, _: replace(request, onnx_type="int4"),
         {RUN + "onnx-int4", BASE + "onnx-int4", RUN + "rows/int4.json", BASE + "rows/int4.json", RUN + "verify.json", *LAST}),
        (other("corpus"), {"stats.safetensors", *CUT}),
        (other("dev"), {RUN + "verify.json", RUN + "report.html"}),
        (other("test"), {*MEASURED, BASE + "rows/Q8_0.json", BASE + "rows/int8.json", *LAST}),
        (varied(criterion="frequency"), in_folder(CUT, "frequency-0.5")),
        (varied(ratio=0.25), {each.replace("p50", "p25") for each in in_folder(CUT, "gate-0.25")}),
        (allocated("layerwise"), in_folder(CUT - IN_GGUF, "gate-0.5-layerwise")),
        (allocated("search"), in_folder(CUT - IN_GGUF, "gate-0.5-search")),
        (of_source, {"own.tsv", "stats.safetensors", *CUT}),
        (varied(recoveries=SFT), RECOVERED),
        (varied(recoveries=(Recovery("least-squares"),)), in_folder(CUT - {RUN + "plan.json"}, REFITTED)),
        (lambda request, _: replace(request, threads=2), {*MEASURED, BASE + "rows/Q8_0.json", BASE + "rows/int8.json", *LAST}),
        (lambda request, _: replace(request, verify=False), {RUN + "report.html"}),
    ],
    ids=["quant", "type", "corpus", "dev", "test", "criterion", "ratio", "allocation", "search", "source", "recovery",
         "method", "threads", "verify"],
)  # fmt: skip
def test_another_request_makes_exactly_the_stages_it_concerns(
    finished, tmp_path, change: Change, made: set[str]
) -> None:
    request, home = finished
    model = request.variant.model.name
    assert todo(change(request, tmp_path), home) == {each.replace("tiny-", f"{model}-") for each in made}


def test_other_steps_recover_again_and_nothing_before(copied) -> None:
    request, home = copied
    short = replace(request, variant=replace(request.variant, recoveries=SFT), gguf_type="no", verify=False)
    export(short, str(request.variant.model), home)
    longer = replace(short, variant=replace(short.variant, recoveries=(Recovery(steps=3),)))
    folder = "gate-0.5-recovered/"
    assert todo(short, home) == set()
    assert todo(longer, home) == {
        folder + each for each in ("checkpoint", "onnx-int8", "rows/int8.json", "bench.jsonl", "report.html")
    }


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "where", "output"),
    [
        (delete, "stats.safetensors", "stats.safetensors"),
        (delete, RUN + "checkpoint", RUN + "checkpoint"),
        (truncate, RUN + "plan.json", RUN + "plan.json"),
        (delete, RUN + "onnx-int8/onnx/model_int8.onnx_data", RUN + "onnx-int8"),
        (truncate, RUN + "onnx-int8/config.json", RUN + "onnx-int8"),
    ],
)
def test_what_is_deleted_or_cut_short_is_made_again(
    copied, damage: Callable[[Path], None], where: str, output: str
) -> None:
    """And nothing after it, since the same request gives the same bytes."""
    request, home = copied
    damage(home / where)
    assert todo(request, home) == {output}
    assert [stage.split(": ")[1] for stage, _ in export(request, str(request.variant.model), home).done] == [
        str(home / output)
    ]
    assert todo(request, home, check=True) == set()


def test_a_changed_byte_is_found_by_its_hash(copied) -> None:
    request, home = copied
    path = next((home / "gate-0.5").glob("*.gguf"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert todo(request, home) == set()
    assert todo(request, home, check=True) == {str(path.relative_to(home))}


def test_a_model_that_changed_in_its_place_is_done_again(copied, tmp_path) -> None:
    request, home = copied
    model = write_tiny_checkpoint(tmp_path / "model", seed=3)
    request = replace(request, variant=replace(request.variant, model=model))
    shutil.rmtree(home)
    assert "stats.safetensors" in todo(request, home)


def test_models_of_one_name_have_folders_of_their_own(tmp_path) -> None:
    for name in ("a/model", "b/model"):
        (tmp_path / name).mkdir(parents=True)
    first, second = (str(tmp_path / name) for name in ("a/model", "b/model"))
    homes = []
    for model in (first, second):
        homes.append(home_of(tmp_path / "runs", model, EN_DE))
        claim(homes[-1], model, EN_DE)
    assert homes[0].name == "model-en-de" and homes[0] != homes[1]
    assert [home_of(tmp_path / "runs", model, EN_DE) for model in (first, second)] == homes
    with pytest.raises(RequestError, match="holds the run of"):
        claim(homes[0], second, EN_DE)


def test_a_file_that_no_stage_wrote_is_kept(finished, tmp_path) -> None:
    request, _ = finished
    mine = write_text(tmp_path / "stats.safetensors", "mine")
    with pytest.raises(RequestError, match="kept as it is"):
        export(request, str(request.variant.model), tmp_path)
    assert mine.read_text() == "mine\n"


def command(request: Request, home: Path) -> list[str]:
    texts = request.texts
    words = [sys.executable, "-m", "slimmoe", "export", str(request.variant.model), "--ratio", "0.5", "-o", str(home)]
    words += ["--corpus", str(texts.corpus), "--dev", str(texts.dev), "--test", str(texts.test), "--threads", "1"]
    return [*words, "--quant", "no", "--type", "int8", "--no-verify"]


def test_a_killed_run_leaves_nothing_half_and_the_next_one_ends_it(finished, tmp_path) -> None:
    request, home = finished[0], tmp_path / "home"
    for seconds in (1.5, 3, 4.5):
        child = subprocess.Popen(command(request, home), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command(request, home), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*.part")) and (home / "gate-0.5" / "report.html").exists()
    expected = (finished[1] / "gate-0.5" / "onnx-int8" / "onnx" / "model_int8.onnx_data").read_bytes()
    assert (home / "gate-0.5" / "onnx-int8" / "onnx" / "model_int8.onnx_data").read_bytes() == expected


def test_a_run_killed_while_its_files_move_is_done_again(tmp_path, monkeypatch) -> None:
    def make(output: Path) -> None:
        output.write_text("made")
        output.with_suffix(".Modelfile").write_text("beside it")

    stage, runner = Stage("GGUF", tmp_path / "x.gguf", {}, {}, make), Runner(Hashes(tmp_path / ".hashes.json"))
    written = []

    def killed_at_the_end(stage: Stage, about: dict) -> None:
        write(stage, about)
        written.append(about)
        monkeypatch.setattr(Path, "replace", killed)

    def killed(moved: Path, target: Path) -> None:
        os.replace(moved, target)
        raise KeyboardInterrupt

    write = Runner._write
    with monkeypatch.context() as monkeypatch, pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(runner, "_write", killed_at_the_end)
        runner.run(stage)
    assert len(written) == 1 and len(list(tmp_path.glob("x.*"))) == 1  # the first of two arrived
    assert runner.why(stage) == "not done yet"
    runner.run(stage)
    assert not runner.why(stage) and len(list(tmp_path.glob("x.*"))) == 2


def test_two_runs_in_one_folder_wait_for_each_other(finished, tmp_path) -> None:
    request, home = finished[0], tmp_path / "home"
    runs = [
        subprocess.Popen(command(request, home), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sum("waiting for it" in output for output in outputs) == 1


def test_what_would_fail_late_is_refused_at_once(finished, tmp_path) -> None:
    request, _ = finished
    model = str(request.variant.model)
    for wrong in (
        replace(request, gguf_type="Q9"),
        replace(request, variant=replace(request.variant, ratio=0.99)),
        replace(request, variant=replace(request.variant, criterion="luck")),
        replace(request, texts=replace(request.texts, test=tmp_path / "missing.tsv")),
    ):
        with pytest.raises(RequestError):
            export(wrong, model, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_an_unpruned_model_is_exported_as_well(finished, tmp_path) -> None:
    request, home = finished
    unpruned: Exported = export(
        replace(request, variant=replace(request.variant, ratio=0.0), verify=False),
        str(request.variant.model),
        home,
        dry_run=True,
    )
    assert unpruned.folder == home / "unpruned" and len(unpruned.done) == 2  # bench and report: the rest is there


@pytest.mark.slow
def test_from_source_text_alone_the_whole_way(tmp_path: Path) -> None:
    """The default model, its own teacher: a recovery that is named for what it is, in the report as well."""
    lines = (ROOT / "runtime/text/data/calibration.en").read_text(encoding="utf-8").splitlines()[:60]
    source = write_text(tmp_path / "source.txt", *lines)
    model = ROOT / "models" / "default"
    variant = Variant(model, EN_DE, ratio=0.5, allocation="search", recoveries=(Recovery(steps=10),))
    done = export(Request(variant, Texts(source=source), "no", "int4"), str(model), tmp_path / "run")
    about = json.loads((tmp_path / "run" / "own.json").read_text(encoding="utf-8"))
    assert about["sentences"] == 60 and about["kept"] + sum(about["failures"].values()) == 60
    row = finished_rows(done.folder / "bench.jsonl")[-1]
    assert row["provenance"]["recoveries"][0]["text"] == "own translations" and row["chrf"] > 40
    assert row["provenance"]["allocation"] == "search" and "sequence distillation" in done.report.read_text(
        encoding="utf-8"
    )
