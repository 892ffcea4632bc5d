"""Glossaries: what is read from files, what is found in a text, and that the model's translations follow them."""

import contextlib
from pathlib import Path

import pytest

import slimmoe
from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.checked import translate_checked
from runtime.translate.glossary import Glossary, Term, read_glossary
from tests.runtime.test_checked import opened
from tests.runtime.test_text import SEPARATORS

EN_DE = Pair("en", "de")
TBX = """<?xml version="1.0"?><tbx type="TBX-Basic" style="dca" xml:lang="en"><text><body>
<conceptEntry id="1"><langSec xml:lang="en"><termSec><term>side<hi>bar</hi></term></termSec><termSec><term>side bar</term>
</termSec></langSec><langSec xml:lang="de"><termSec><term>Seitenleiste</term></termSec><termSec><term>Leiste</term></termSec>
</langSec></conceptEntry><conceptEntry id="2"><langSec xml:lang="fr"><termSec><term>fichier</term></termSec></langSec>
</conceptEntry></body></text></tbx>"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Open the file.", ["file"]),
        ("FILE and File", ["file", "file"]),
        ("The file manager and the files", ["file manager"]),
        ("profile, filer, file2", []),
        ("IT has it.", ["IT"]),
        ("it has none.", []),
        ("Öffnen Sie C++!", ["C++"]),
        ("新しいファイルを開く", ["ファイル"]),
        ("", []),
    ],
)
def test_terms_are_found_as_words_and_the_longest_wins(text: str, found: list[str]) -> None:
    glossary = Glossary(Term(each, "x") for each in ("file", "file manager", "IT", "C++", "ファイル"))
    assert [term.source for term in glossary.find(text)] == found


@pytest.mark.parametrize(
    ("term", "translation", "there"),
    [
        (Term("file", "Datei"), "Alle Dateien", True),
        (Term("file", "Datei"), "alle dateien", True),
        (Term("file", "Datei"), "Systemdatei", False),
        (Term("Word", "Word"), "mit Word öffnen", True),
        (Term("Word", "Word"), "mit word öffnen", False),
        (Term("file", "文件"), "打开文件。", True),
        (Term("file", "Datei"), "", False),
    ],
)
def test_a_term_may_have_an_ending(term: Term, translation: str, there: bool) -> None:
    assert term.is_in(translation) == there


def read(folder: Path, name: str, text: str) -> list[tuple[str, str]]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return sorted((term.source, term.target) for term in read_glossary(file, EN_DE))


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    both = [("Word", "Word"), ("file", "Datei")]
    assert read(tmp_path, "a.tsv", "\ufefffile\tDatei\n\nWord\n") == both
    assert read(tmp_path, "b.tsv", "de\ten\tfr\r\nDatei\tfile\tfichier\r\n\tWord\t\r\n") == both
    assert read(tmp_path, "c.csv", 'en,de\nfile,Datei\n"Word, the program",Word\n')[0] == ("Word, the program", "Word")
    assert read(tmp_path, "d.tbx", TBX) == [("side bar", "Seitenleiste"), ("sidebar", "Seitenleiste")]
    legacy = TBX.replace("conceptEntry", "termEntry").replace("langSec", "langSet").replace("termSec", "tig")
    assert read(tmp_path, "e.tbx", legacy) == [("side bar", "Seitenleiste"), ("sidebar", "Seitenleiste")]


@pytest.mark.parametrize("separator", [each for each in SEPARATORS if each != "\r"])
def test_no_other_separator_ends_a_line(separator: str, tmp_path: Path) -> None:
    expected = [(f"hard{separator}disk", "Platte"), ("x", "y")]
    assert read(tmp_path, "a.tsv", f"hard{separator}disk\tPlatte\r\nx\ty\n") == expected
    assert read(tmp_path, "a.csv", f"\ufeffhard{separator}disk,Platte\nx,y\n") == expected


def test_a_single_cr_is_no_line_s_end_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"file\tDatei\rx\ty\n")
    with pytest.raises(RequestError, match="cannot be read as a table"):
        read_glossary(tmp_path / "a.tsv", EN_DE)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tsv", "", "no terms of en-de"),
        ("a.tsv", "en\tfr\nfile\tfichier\n", "no column of 'de'"),
        ("a.csv", 'file,"Datei\n', "cannot be read"),
        ("a.tsv", f"{'x' * 300}\ty\n", "no glossary"),
        ("a.tbx", "<tbx>", "tbx"),
        ("a.tbx", "<tbx></tbx>", "no terms of en-de"),
        ("a.tbx", "file\tDatei", "a.tbx"),
    ],
)
def test_a_bad_file_is_told(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=said):
        read_glossary(tmp_path / name, EN_DE)


# "files." where "button." is nearly as likely.
NEAR = {"<|assistant|>": {" files": 1, " button": 0.8}, " files": {".": 1}, " button": {".": 1}, ".": {"<|end|>": 1}}


@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_a_translation_has_its_terms_and_goes_on_behind_them(kind: str, tmp_path: Path) -> None:
    with contextlib.closing(opened(kind, NEAR, tmp_path)) as engine:
        texts = ["Save the file.", "Open the system file.", "Nothing of it."]
        plain = [each.text for each in translate_checked(engine, EN_DE, texts)]
        glossary = Glossary([Term("file", "button"), Term("system", "files")])
        done = list(translate_checked(engine, EN_DE, texts, glossary=glossary))
        exact = list(translate_checked(engine, EN_DE, texts, exact=True, glossary=glossary))
        given = list(slimmoe.translate(engine, texts, "en-de", glossary={"file": "button", "system": "files"}))
    assert plain == ["files."] * 3
    assert [each.text for each in done] == [each.text for each in exact] == given
    assert (done[0].text, done[0].remedy, done[0].marks) == ("button.", "term", ())
    assert {"button", "files"} <= {*done[1].text.replace(".", " ").split()} and done[1].marks == ()
    assert (done[2].text, done[2].remedy) == ("files.", "")


@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_what_a_translation_begins_with_is_part_of_it(kind: str, tmp_path: Path) -> None:
    from runtime.engines.scheduler import Scheduler
    from runtime.translate.segments import SegmentTranslator, Try

    told: list[str] = []
    with contextlib.closing(opened(kind, NEAR, tmp_path)) as engine, contextlib.closing(Scheduler(engine)) as scheduler:
        segments = SegmentTranslator(engine, EN_DE, scheduler)
        asked = Try("Save the file.", begins="Eine <|user|> und files", watched=(15, 17))
        generation = segments.submit(asked, told.append).result().generation
        begun = len(engine.encode("Eine")) + 1
    assert generation is not None and generation.finished
    assert generation.text == "".join(told) == "Eine <|user|> und files."
    given, last, end = generation.margins[:-2], *generation.margins[-2:]
    assert set(given) == {None} and len(given) >= begun and last is not None and end is not None
    assert last[1] == 0 and last[0] < 0 and max(end) < 0
