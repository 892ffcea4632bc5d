"""Models that stay: what is added is checked and kept whole, and translate finds it by its pair or name."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import slimmoe
from runtime.errors import RequestError
from runtime.formats import store
from runtime.formats.artefact import find_artefact, is_model
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.stored import Stored, choose_model, choose_pair, find_stored, stored_models
from slimmoe.storing import add_model, default_name
from tests.bad_inputs import cut
from tests.gguf_files import write_moe
from tests.slimmoe.test_killed import run as run_killed
from tests.warm_command import Finished, run_command

ROOT = Path(__file__).parents[2]
EN_DE, FR_DE, DE_EN = Pair("en", "de"), Pair("fr", "de"), Pair("de", "en")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of a test, which is not there yet."""
    monkeypatch.setenv("SLIMMOE_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def small_onnx(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX folder of one graph, cut for en-de as it says."""
    others = shutil.ignore_patterns("model.onnx*", "model_int8*", "model_fp16*")
    folder = shutil.copytree(tiny_onnx, tmp_path_factory.mktemp("small") / "small", ignore=others)
    (folder / store.ENTRY_POINTS).write_text("no part of the model")
    (folder / "slimmoe.json").write_text('{"pair": "en-de", "hash": "x"}')
    return folder


def command(home: Path, *words: str | Path, **variables: str) -> Finished:
    return run_command(*words, seconds=60, variables={"SLIMMOE_MODELS": str(home)} | variables)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("name", ["a", "Qwen3-30B.A3B_Q4", "en-de", "0", "x" * 64, "console", "com10"])
def test_a_name_is_a_name(name: str) -> None:
    assert store.is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "a/b", "/a", "a\\b", "-a", "--json", ".hidden", "a\n", "a\x1b[m", "a b", "ü", "x" * 65, "a.",
        "CON", "nul", "aux.gguf", "com1", "LPT9.x", "C:", "a:b", "a*", "~", "~root", "x.gguf", "x.ONNX", "a\0b", "%2e%2e",
    ],
)  # fmt: skip
def test_a_name_never_leaves_the_store(name: str, home: Path, small_onnx: Path) -> None:
    with pytest.raises(RequestError, match="is no name for a model"):
        add_model(str(small_onnx), name)
    assert store.stored_folder(name) is None and not home.exists()
    with pytest.raises(RequestError, match="no model called"):
        store.remove_model(name)


def test_a_copy_is_kept_and_found_by_name_and_pair(home: Path, small_onnx: Path, tmp_path: Path) -> None:
    source = shutil.copytree(small_onnx, tmp_path / "mine")
    added = command(home, "models", "add", source)
    assert added.status == 0 and added.output.startswith("mine: en-de, ONNX RT int4, "), added
    shutil.rmtree(source)
    assert not (home / "mine" / store.ENTRY_POINTS).exists()
    (row,) = json.loads(command(home, "models", "list", "--json").output)
    assert row["name"] == "mine" and row["pairs"] == ["en-de"] and row["bytes"] > 1e5 and not row["problem"]
    ways = [("mine", "Save it."), ("--to", "de", "Save it."), ("--pair", "en-de", "Save it."), ("Save it.",)]
    done = [command(home, "translate", "--threads", "1", *words) for words in ways]
    assert {each.status for each in done} == {0} and len({each.output for each in done}) == 1, done
    assert list(slimmoe.translate("mine", ["Save it."])) == [done[0].output.removesuffix("\n")]
    assert command(home, "prompt", "mine").output and command(home, "doctor", "mine").status == 0
    removed = command(home, "models", "remove", "mine")
    assert removed.output.startswith("removed mine, ") and names_in(home) == [".lock"]
    assert "No model is stored here" in command(home, "translate", "--to", "de", "Save it.").errors
    assert "no models in" in command(home, "models", "list").output


def test_of_a_run_its_model_has_the_run_s_name(small_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "gate-0.5").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    folder = shutil.copytree(small_onnx, tmp_path / "run" / "gate-0.5" / "onnx-int4")
    (folder / "slimmoe.json").write_text('{"pair": "en-de", "ratio": 0.5}')
    assert default_name(folder) == default_name(folder / "onnx" / "model_q4.onnx") == "run-p50-int4"
    assert default_name(Path("x/Some model (1)-00001-of-00003.gguf")) == "Some-model-1"
    assert find_artefact(tmp_path / "run") == folder


def test_a_gguf_file_is_kept_with_all_its_parts_and_the_pair_that_is_told(home: Path, tmp_path: Path) -> None:
    first = write_moe(tmp_path / "split.gguf", parts=3)
    assert add_model(str(first)).pairs == ()
    told = add_model(str(tmp_path / "split-00002-of-00003.gguf"), "told", EN_DE)
    assert told.pairs == (EN_DE,) and told.engine == "llama.cpp" and told.artefact == home / "told" / first.name
    assert (
        len(names_in(home / "split")) == 3 and add_model("told", "again").pairs == ()
    )  # what was told was not of the file
    (home / "told" / ".pair").write_bytes(b"\xff/../x")
    assert find_stored("told").pairs == ()


@pytest.mark.parametrize("kind", ["gguf", "weights", "flipped", "checkpoint", "text", "nothing", "other pair"])
def test_what_is_damaged_or_no_model_is_refused_and_leaves_nothing(
    kind: str, home: Path, small_onnx: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    what, words = tmp_path / "m", list[str]()
    if kind == "gguf":
        what = write_moe(tmp_path / "m.gguf")
        cut(0.9)(what)
    elif kind in ("weights", "flipped", "other pair"):
        shutil.copytree(small_onnx, what)
        data = what / "onnx" / "model_q4.onnx_data"
        if kind == "weights":
            cut(0.9)(data)
        elif kind == "flipped":
            content = bytearray(data.read_bytes())
            content[-60_000:] = b"\xff" * 60_000
            data.write_bytes(content)
        else:
            words = ["--pair", "en-fr"]
    elif kind == "checkpoint":
        what = tiny_checkpoint
    elif kind == "text":
        what.write_text("x")
    done = command(home, "models", "add", what, *words)
    patterns = {
        "gguf": "is damaged: it is cut short", "weights": "is cut short", "flipped": "answers otherwise",
        "text": "neither a GGUF", "checkpoint": "is a checkpoint's folder", "nothing": "There is no model",
        "other pair": "cut for en-de, not for en-fr",
    }  # fmt: skip
    assert done.status in (1, 2) and patterns[kind] in done.errors and "Traceback" not in done.errors, done
    assert str(home) not in done.errors and names_in(home) == []


def test_of_two_at_once_one_is_whole_and_the_other_refused(home: Path) -> None:
    both, ended = threading.Barrier(2, timeout=60), dict[str, str]()

    def add(content: str, name: str) -> None:
        try:
            with store.new_model(name) as folder:
                (folder / "file").write_text(content)
                both.wait()
            ended[content] = "kept"
        except RequestError:
            ended[content] = "refused"

    threads = [threading.Thread(target=add, args=(content, name)) for content, name in (("1", "a"), ("2", "A"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (kept,) = (content for content, how in ended.items() if how == "kept")
    (name,) = store.own_folders()
    assert (home / name / "file").read_text() == kept and sorted(ended.values()) == ["kept", "refused"]
    assert names_in(home) == sorted([".lock", name])


def test_what_a_killed_one_left_goes_with_the_next_of_any_name(home: Path, small_onnx: Path) -> None:
    words = ["models", "add", str(small_onnx), "--name"]
    ended = run_killed(signal.SIGTERM, *words, "a")
    assert ended.returncode == 143 and b"slimmoe: stopped" in ended.stderr and b"Traceback" not in ended.stderr
    assert names_in(home) == []
    assert run_killed(signal.SIGKILL, *words, "a").returncode == -signal.SIGKILL
    assert len(names_in(home)) == 1 and not store.own_folders() and not stored_models()
    assert command(home, *words, "b").status == 0
    assert names_in(home) == [".lock", "b"]


def test_defaults_outlive_nothing_and_no_damage_costs_a_model(home: Path, tmp_path: Path) -> None:
    file = write_moe(tmp_path / "x.gguf")
    for name in ("one", "two"):
        add_model(str(file), name, EN_DE)
    add_model(str(file), "general")
    with pytest.raises(RequestError, match=r"Several .* one, two"):
        choose_model(stored_models(), EN_DE)
    assert "default for en-de" in command(home, "models", "default", "two").output
    assert "for any pair" in command(home, "models", "default", "general").output
    assert choose_model(stored_models(), EN_DE).name == "two" and choose_model(stored_models(), FR_DE).name == "general"
    assert "cut for en-de, not for fr-de" in command(home, "models", "default", "two", "--pair", "fr-de").errors
    removed = command(home, "models", "remove", "two").output
    assert "was the default for en-de" in removed and "removed two" in removed
    add_model(str(file), "two", EN_DE)
    assert store.defaults() == {"any": "general"}  # a model of the same name is another one
    store.set_default("two", "en-de")
    for damage in (b"\xff\0", b"../x", b"gone", b"", b"x" * 5000):
        (home / ".defaults" / "en-de").write_bytes(damage)
        assert store.defaults() == {"any": "general"} and len(stored_models()) == 3
    shutil.rmtree(home / "two")  # by hand
    (home / "one" / "x.gguf").write_bytes(b"GGUF")
    (home / "junk.txt").write_text("x")
    rows = {row["name"]: row for row in json.loads(command(home, "models", "list", "--json").output)}
    assert set(rows) == {"one", "general"} and "damaged" in rows["one"]["problem"] and not rows["general"]["problem"]
    assert "one cannot be used: " in command(home, "models", "list").output
    assert command(home, "models", "remove", "one").status == 0


def stored(name: str, pairs: str = "", defaults: str = "") -> Stored:
    known = tuple(parse_pair(each) for each in pairs.split())
    return Stored(name, Path(name), known, defaults=tuple(defaults.split()))


FRENCH = "Le fichier ne peut pas être ouvert par ce programme."
MODELS = {
    "only": ([stored("a", "en-de")], "en-de", "a"),
    "closest": ([stored("a", "en-de de-en"), stored("b", "fr-de"), stored("c")], "de-en", "a"),
    "default before only": ([stored("a", "en-de"), stored("b", "", "any")], "en-de", "b"),
    "default for the pair": (
        [stored("a", "en-de", "en-de"), stored("b", "en-de"), stored("c", "", "any")],
        "en-de",
        "a",
    ),
    "default for its base": ([stored("a", "en-pt", "en-pt"), stored("b", "en-pt")], "en-pt-BR", "a"),
    "variant": ([stored("a", "en-pt"), stored("b", "en-de")], "en-pt-BR", "a"),
    "the same variant": ([stored("a", "en-pt"), stored("b", "en-pt-BR")], "en-pt-BR", "b"),
    "any": ([stored("a", "en-de"), stored("b")], "en-fr", "b"),
    "none": ([stored("a", "en-de")], "en-fr", "No stored model translates en-fr; there are: a .en-de"),
    "several": ([stored("a"), stored("b")], "en-fr", "Several stored models"),
}


@pytest.mark.parametrize("case", MODELS)
def test_the_model_for_a_pair(case: str) -> None:
    models, pair, expected = MODELS[case]
    if " " in expected:
        with pytest.raises(RequestError, match=expected):
            choose_model(models, parse_pair(pair))
    else:
        assert choose_model(models, parse_pair(pair)).name == expected


def test_the_pair_that_is_meant() -> None:
    def text() -> str:
        return FRENCH

    def unread() -> str:
        raise AssertionError("the text was not needed")

    one, two, general = stored("a", "en-de"), stored("b", "fr-de de-en"), stored("c")
    assert choose_pair([one], "de", unread) == (EN_DE, False) and choose_pair([one], None, unread) == (EN_DE, False)
    assert choose_pair([one, two], "de", text) == choose_pair([one, general], "de", text) == (FR_DE, True)
    assert choose_pair([one, two], "en", unread) == (DE_EN, False)
    for models, target, pattern in (
        ([], "de", "No model is stored"), ([one, two], None, "do not tell"), ([one, two], "fr", "that language already"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=pattern):
            choose_pair(models, target, text)


def test_a_word_is_the_model_where_text_follows_it(home: Path, small_onnx: Path, tmp_path: Path) -> None:
    add_model(str(small_onnx), "Save")
    words = ["translate", "--threads", "1"]
    alone = command(home, *words, "--model", "Save", "Save")
    assert alone.status == 0 and alone.output.count("\n") == 1
    assert command(home, *words, "Save").output == ""  # as the model, of which standard input is empty
    assert command(home, *words, "Save", "Save").output == alone.output
    above, below = pty.openpty()
    typed = [sys.executable, "-m", "slimmoe", *words, "Save"]
    at_terminal = subprocess.run(typed, cwd=ROOT, stdin=below, capture_output=True, text=True, timeout=60)
    os.close(above)
    os.close(below)
    assert at_terminal.stdout == alone.output
    (tmp_path / "Save").write_text("Save\n")  # what is there counts before a name
    there = run_command(*words, "Save", seconds=60, folder=tmp_path, variables={"SLIMMOE_MODELS": str(home)})
    assert there.output == alone.output


def test_a_word_is_a_model_s_path_or_text(small_onnx: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("run", "papers"):
        (tmp_path / name / "gate").mkdir(parents=True)
        write_moe(tmp_path / name / "gate" / "x.gguf")
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "manual" / "onnx").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "config.json").write_text("{}")
    (tmp_path / "letter.txt").write_text("x")
    models = [
        small_onnx,
        tiny_checkpoint,
        tmp_path / "run",
        tmp_path / "run" / "gate" / "x.gguf",
        "gone.gguf",
        "gone.onnx",
    ]
    assert all(is_model(str(each)) for each in models)
    assert not any(is_model(str(tmp_path / each)) for each in ("manual", "site", "papers", "letter.txt", "gone"))


def test_documents_find_their_model(home: Path, small_onnx: Path, tmp_path: Path) -> None:
    add_model(str(small_onnx), "m")
    (tmp_path / "letter.txt").write_text("Save the file.\n")
    for words in (("letter.txt",), ("m", "letter.txt")):
        done = run_command(
            "translate", *words, "--to", "de", "--overwrite", "--no-memory", "--threads", "1", seconds=60,
            folder=tmp_path, variables={"SLIMMOE_MODELS": str(home)},
        )  # fmt: skip
        assert done.status == 0 and "translation: letter.de.txt" in done.output, done
    before = (tmp_path / "letter.de.txt").read_bytes()
    into = ("translate", tmp_path / "letter.txt", "--to", "fr", "-o", tmp_path / "x.txt")
    assert (
        "No stored model translates en-fr" in command(home, *into).errors or "too short" in command(home, *into).errors
    )
    assert (tmp_path / "letter.de.txt").read_bytes() == before and not (tmp_path / "x.txt").exists()


def test_a_model_may_be_removed_while_it_translates(home: Path, small_onnx: Path) -> None:
    add_model(str(small_onnx), "m")
    with slimmoe.Translator("m", threads=1) as translator:
        before = list(translator.translate(["Save the file."]))
        store.remove_model("m")
        assert list(translator.translate(["Save the file."])) == before and not store.own_folders()


def test_the_store_is_where_the_platform_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLIMMOE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store.store_folder() == tmp_path / "slimmoe" / "models" or sys.platform != "linux"
