"""Files and folders of documents, their names, and runs that are stopped."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents.exchange import tmx_translations
from runtime.translate.files import (
    Job,
    count_sentences,
    found_documents,
    jobs_for,
    read_job,
    translate_documents,
    translated_name,
)
from runtime.translate.memory import GivenTranslations, TranslationMemory, cache_folder, model_key
from runtime.translate.paragraphs import ParagraphTranslator
from runtime.translate.segments import Translation

DE = Pair("en", "de")


@pytest.mark.parametrize(
    ("name", "pair", "beside", "inside"),
    [
        ("letter.docx", "en-de", "letter.de.docx", "letter.docx"),
        ("en.json", "en-de", "de.json", "de.json"),
        ("app_en.properties", "en-pt-BR", "app_pt-BR.properties", "app_pt-BR.properties"),
        ("app_en_US.properties", "en-pt-BR", "app_pt_BR.properties", "app_pt_BR.properties"),
        ("guide.en.md", "en-fr", "guide.fr.md", "guide.fr.md"),
        ("app.pot", "en-de", "app.de.po", "app.po"),
        ("men.txt", "en-de", "men.de.txt", "men.txt"),
    ],
)
def test_a_translation_is_named_by_its_language(name: str, pair: str, beside: str, inside: str) -> None:
    from runtime.text.pairs import parse_pair

    assert translated_name(Path(name), parse_pair(pair)) == beside
    assert translated_name(Path(name), parse_pair(pair), beside=False) == inside


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.md", "deep/b.txt", "a.de.md", ".hidden.md", "picture.png"):
        (folder / name).write_text("Save it.")
    return folder


def test_a_folder_gives_its_documents_but_no_translations(tmp_path) -> None:
    folder = folder_of(tmp_path)
    found = found_documents(str(folder))
    assert found is not None and [path.name for path in found] == ["a.de.md", "a.md", "b.txt"]
    jobs = jobs_for([str(folder)], [found], DE, None)
    assert [(job.source.name, job.target) for job in jobs] == [
        ("a.md", folder / "a.de.md"),
        ("b.txt", folder / "deep" / "b.de.txt"),
    ]
    (folder / "a.de.md").unlink()
    out = tmp_path / "out"
    jobs = jobs_for([str(folder)], [found_documents(str(folder)) or []], DE, out)
    assert [job.target for job in jobs] == [out / "a.md", out / "deep" / "b.txt"]


def test_a_pattern_is_expanded_where_the_shell_does_not(tmp_path) -> None:
    folder = folder_of(tmp_path)
    assert found_documents(f"{folder}/**/*.txt") == [folder / "deep" / "b.txt"]
    assert found_documents("Save the *file*.") is None and found_documents("x" * 5000) is None
    assert found_documents(str(folder / "picture.png")) is None


def test_two_documents_never_become_one_and_none_is_replaced_by_its_translation(tmp_path) -> None:
    for name in ("x/a.md", "y/a.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    words = [str(tmp_path / "x/a.md"), str(tmp_path / "y/a.md")]
    found = [[Path(word)] for word in words]
    with pytest.raises(RequestError, match="one by one"):
        jobs_for(words, found, DE, tmp_path / "out")
    with pytest.raises(RequestError, match="is read for"):
        jobs_for(words[:1], found[:1], DE, tmp_path / "x/a.md")
    with pytest.raises(RequestError, match="is read for"):
        jobs_for(words[:1], found[:1], DE, tmp_path / "x")


class Stopped(Exception):
    pass


def run(jobs: list[Job], memory: TranslationMemory | None, stop_after: int = 1000) -> list[str]:
    """Translate with capitals; which sentences were asked for."""
    asked: list[str] = []

    def translate(texts: Iterable[str]) -> Iterator[Translation]:
        for text in texts:
            if text and len(asked) == stop_after:
                raise Stopped
            if text:
                asked.append(text)
            yield Translation(text, text.upper(), None)

    for done in translate_documents(jobs, DE, ParagraphTranslator(translate, "en", None, memory), lambda *_: None):
        assert done.failure is None
    return asked


def test_a_run_that_was_stopped_goes_on_and_writes_nothing_half(tmp_path) -> None:
    jobs = []
    for name, text in (
        ("empty.md", ""),
        ("a.md", "One. Two.\n\nThree."),
        ("none.txt", "1\n2\n"),
        ("b.txt", "Four.\nFive."),
    ):
        (tmp_path / name).write_text(text)
        jobs.append(Job(tmp_path / name, tmp_path / "out" / name))
    memory = TranslationMemory(tmp_path / "cache" / "m.sqlite", "model")
    with pytest.raises(Stopped):
        run(jobs, memory, stop_after=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["empty.md"]
    assert run(jobs, memory) == ["Three.", "Four.", "Five."] and run(jobs, memory) == []
    memory.close()
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert written == {"empty.md": "", "a.md": "ONE. TWO.\n\nTHREE.", "none.txt": "1\n2\n", "b.txt": "FOUR.\nFIVE."}
    assert [count_sentences(read_job(job, DE), "en") for job in jobs] == [0, 3, 0, 2]


def test_a_memory_is_of_one_model_and_one_way_to_ask(tmp_path) -> None:
    path = tmp_path / "m.sqlite"
    first, second = TranslationMemory(path, "a"), TranslationMemory(path, "b")
    first.put("Save.", "Speichern.")
    first.put("half \ud800", "x")
    assert first.get("Save.") == "Speichern." and second.get("Save.") is None and first.get("half \ud800") is None
    (tmp_path / "model.gguf").write_bytes(b"x")
    key = model_key(tmp_path / "model.gguf", "en-de")
    (tmp_path / "model.gguf").write_bytes(b"xy")
    assert len({key, model_key(tmp_path / "model.gguf", "en-de"), model_key(tmp_path / "model.gguf", "en-fr")}) == 3


def test_given_translations_come_before_remembered_ones(tmp_path) -> None:
    segment = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    units = [("en-US", "Save <bpt i='1'/>it&amp;.", "de", "Gib &lt;her"), ("en", "Only", "fr", "Seul")]
    body = "".join(f"<tu>{segment.format(a, b)}{segment.format(c, d)}</tu>" for a, b, c, d in units)
    given = tmx_translations(f"<tmx><body>{body}</body></tmx>".encode(), "x.tmx", DE)
    assert given == {"Save it&.": "Gib <her"}
    rest = TranslationMemory(tmp_path / "m.sqlite", "a")
    memory = GivenTranslations(given, rest)
    memory.put("Save it&.", "x")
    memory.put("Close it.", "Zu.")
    assert [memory.get(each) for each in ("Save it&.", "Close it.", "Other")] == ["Gib <her", "Zu.", None]
    with pytest.raises(RequestError, match="holds no translations of en-pl"):
        tmx_translations(f"<tmx><body>{body}</body></tmx>".encode(), "x.tmx", Pair("en", "pl"))


def test_a_damaged_memory_is_put_aside_and_a_missing_one_costs_a_warning(tmp_path, caplog) -> None:
    path = tmp_path / "m.sqlite"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 20)
    memory = TranslationMemory(path, "a")
    memory.put("x", "y")
    assert memory.get("x") == "y" and path.with_suffix(".damaged").exists()
    memory.close()
    (tmp_path / "file").write_text("x")
    without = TranslationMemory(tmp_path / "file" / "m.sqlite", "a")
    without.put("x", "y")
    assert without.get("x") is None and "nothing is remembered" in caplog.text
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sentences").fetchone() == (1,)


def test_the_cache_is_where_the_platform_has_it(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("SLIMMOE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "slimmoe"
    monkeypatch.setenv("SLIMMOE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
