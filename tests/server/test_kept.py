"""Documents and glossaries outlive their server, also one that is killed."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runtime.errors import RequestError
from slimmoe.server.asked import Ask, Limits, Refused
from slimmoe.server.jobs import ACCEPTED, MOST_STARTS
from slimmoe.server.kept import GLOSSARY, JOB, Kept, forget_elsewhere
from tests.server.serving import Client, serving
from tests.warm_command import run_command

ROOT = Path(__file__).parents[2]
LINES = 80


@contextlib.contextmanager
def killed_at_the_end(model: Path, home: Path, port: str) -> Iterator[Client]:
    """A real server that keeps its documents where every server does; SIGKILL ends it."""
    command = [sys.executable, "-m", "slimmoe", "serve", str(model), "--pair", "en-de", "--port", port]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(home), "TMPDIR": str(home / "tmp")}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield Client(child.stdout.readline().strip())
    finally:
        child.kill()
        child.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the state's folder has another variable")
def test_a_killed_server_loses_no_document_and_no_glossary(tiny_onnx, tmp_path) -> None:
    (tmp_path / "tmp").mkdir()
    text = "".join(f"Save the file number {number}.\n" for number in range(LINES)).encode()
    english = {"source_lang": "EN", "target_lang": "DE"}
    with killed_at_the_end(tiny_onnx, tmp_path, "0") as client:
        url = client.upload("/translate_file", "a.txt", b"Save.\n", source="en", target="de").json["translatedFileUrl"]
        kept = client.get(urlsplit(url).path)
        terms = {**english, "name": "n", "entries": "a\tb", "entries_format": "tsv"}
        glossary = client.post("/v2/glossaries", terms).json
        sent = client.upload("/v2/document", "b.txt", text, **english).json
        path, key = f"/v2/document/{sent['document_id']}", {"document_key": sent["document_key"]}
        assert client.post(path, key).json["status"] == "translating"
    assert not list((tmp_path / "tmp").iterdir())
    with killed_at_the_end(tiny_onnx, tmp_path, str(urlsplit(client.address).port)) as client:
        assert client.get(urlsplit(url).path).body == kept.body
        assert client.get("/v2/glossaries").json["glossaries"] == [glossary]
        while (state := client.post(path, key).json)["status"] == "translating":
            time.sleep(0.05)
        done = client.post(f"{path}/result", key)
        assert state["status"] == "done" and done.body.count(b"\n") == LINES
        assert "b.de.txt" in done.headers["content-disposition"]
        assert client.post(f"{path}/result", key).status == 404
    (folder,) = (tmp_path / "slimmoe" / "server").iterdir()
    assert len([path for path in folder.iterdir() if path.suffix != ".json" and path.name != ".lock"]) == 1


def test_a_document_under_way_outlives_a_server_that_is_stopped(graph, tmp_path) -> None:
    text = b"Save the file.\n" * LINES
    with serving(graph, state=tmp_path) as client:
        sent = client.upload("/v2/document", "b.txt", text, source_lang="EN", target_lang="DE").json
    path, key = f"/v2/document/{sent['document_id']}", {"document_key": sent["document_key"]}
    with serving(graph, state=tmp_path) as client:
        while (state := client.post(path, key).json)["status"] == "translating":
            time.sleep(0.05)
        assert state["status"] == "done"


def test_two_servers_do_not_share_a_folder(tmp_path) -> None:
    first = Kept(tmp_path, Limits())
    with pytest.raises(RequestError, match="Another server keeps its documents"):
        Kept(tmp_path, Limits(), wait=0)
    first.close()
    Kept(tmp_path, Limits(), wait=0).close()


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="Documents cannot be kept"):
        Kept(tmp_path / "file" / "state", Limits())


def test_a_folder_of_other_files_is_left_as_it_is(tiny_onnx, tmp_path) -> None:
    """``--state .`` once removed every file of the folder."""
    files = {".hidden": b"1", "letter.txt": b"2", "tokenizer_config.json": b"3", "below/x.txt": b"4"}
    (tmp_path / "below").mkdir(mode=0o755)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    tmp_path.chmod(0o755)
    before = tmp_path.stat().st_mode
    for state in (".", "", str(tmp_path)):
        words = ("serve", str(tiny_onnx), "--pair", "en-de", "--port", "0", "--state", state)
        done = run_command(*words, seconds=60, folder=tmp_path)
        assert done.status == 2 and "is not a folder of a server's documents: it holds" in done.errors
        assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.*")} == files
        assert tmp_path.stat().st_mode == before


def test_what_nobody_here_wrote_stays_and_is_not_led_to(tmp_path) -> None:
    """A volume has a folder of its own, and a system puts hidden files everywhere; a record names no file elsewhere."""
    folder = tmp_path / "state"
    (folder / "lost+found").mkdir(parents=True)
    (folder / ".DS_Store").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    for at, data in enumerate(("../secret", str(tmp_path / "secret"), f"{'x' * 32}.7")):
        row = {"kind": JOB, "told": {}, "data": data, "size": 6, "until": 0}
        (folder / f"{at:032}.json").write_text(json.dumps(row))
    (folder / f"{'x' * 32}.7").write_bytes(b"another's")
    kept = Kept(folder, Limits())
    assert not kept.all(JOB)
    kept.close()
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert {".DS_Store", "lost+found"} == {path.name for path in folder.iterdir()} - {".lock"}


def test_what_expired_goes_and_what_was_accepted_stays(tmp_path) -> None:
    """Also of a server that never starts again; of what a kill left half-written nothing stays."""
    old = Kept(tmp_path / "old", Limits(kept_seconds=0))
    done = old.put_translation("a.txt", b"text")
    job = old.put(JOB, {"state": ACCEPTED}, b"document")
    old.close()
    (tmp_path / "old" / f"{done}.7").write_bytes(b"data without a record")
    (tmp_path / "old" / f"{'x' * 32}.json").write_text("{")
    forget_elsewhere(tmp_path / "new", Limits())
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == sorted([".lock", f"{job}.0", f"{job}.json"])


def test_a_record_changes_whole_and_keeps_its_id(tmp_path) -> None:
    kept = Kept(tmp_path, Limits(kept=10))
    id = kept.put(JOB, {"n": 1}, b"source")
    kept.change(id, {"n": 2}, b"a translation of more than ten bytes")  # accepted: its result is never refused
    with pytest.raises(Refused):
        kept.put(GLOSSARY, {}, b"1")
    kept.close()
    kept = Kept(tmp_path, Limits())
    assert kept.get(JOB, id).told == {"n": 2} and kept.read(kept.get(JOB, id)).startswith(b"a translation")
    with pytest.raises(Refused):
        kept.get(GLOSSARY, id)
    kept.drop(id)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    kept.close()


def test_a_document_that_ends_servers_is_given_up(graph, tmp_path) -> None:
    kept = Kept(tmp_path, Limits())
    told = {"state": ACCEPTED, "name": "a.txt", "ask": vars(Ask((), "de", "en")), "key": "k", "starts": MOST_STARTS}
    id = kept.put(JOB, told, b"Save.\n")
    kept.close()
    with serving(graph, state=tmp_path) as client:
        while (state := client.post(f"/v2/document/{id}", {"document_key": "k"}).json)["status"] == "translating":
            time.sleep(0.05)
    assert state["status"] == "error" and "ended 3 times" in state["error_message"]
