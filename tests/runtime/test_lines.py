"""Text in the encodings that people have, as lines: from files, corpora and standard input alike."""

import codecs
import gzip
import io
import json
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.corpus import corpus_files, read_po, read_segments
from runtime.text.lines import each_line, read_file, read_stream, split_lines
from runtime.text.pairs import Pair

EN_DE = Pair("en", "de")
LINES = ["Save the file.\tGröße", "", "  one\u2028line\x85still\v\f\x1c\x1d\x1e\r it", "Schluß"]
TEXT = "\r\n".join(LINES)
WRITTEN = {
    "UTF-8": TEXT.encode(),
    "with its mark": TEXT.encode("utf-8-sig"),
    "with two marks": ("\ufeff" + TEXT).encode("utf-8-sig"),
    "UTF-16 with two": ("\ufeff" + TEXT).encode("utf-16"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16BE": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "LF": TEXT.replace("\r\n", "\n").encode() + b"\n",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("data", WRITTEN.values(), ids=WRITTEN)
def test_every_unicode_encoding_gives_the_same_lines(data: bytes, packed: bool, tmp_path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read_file(path) == list(read_stream(io.BytesIO(path.read_bytes()), "standard input")) == LINES


@pytest.mark.parametrize("text", ["", "\n", "a", "a\r", "a\r\n", "\r\r\n\n", "a\n\nb", "a\r\nb\r", TEXT])
def test_lines_are_the_same_one_after_the_other(text: str) -> None:
    assert list(each_line(text)) == split_lines(text)


@pytest.mark.parametrize(
    ("data", "sentence", "remedy"),
    [
        ("Größe\n".encode("latin1"), "not UTF-8 text .line 1", "iconv -f WINDOWS-1252"),
        (b"one\n\xff\xfe\xfd\x81", "not UTF-8 text .line 2", "iconv -f ENCODING"),
        ("Save the file.\n".encode("utf-16-le"), "UTF-16LE without", "iconv -f UTF-16LE"),
        ("Save the file.\n".encode("utf-16-be"), "UTF-16BE without", "iconv -f UTF-16BE"),
        (b"\xff\xfeS", "is utf-16, and is not|begins with the byte order mark of utf-16", ""),
        (b"a\nb\0c\n", "zero byte", ""),
        (b"BZh91AY&SY\xff\x00", "is packed", "bzcat"),
        (b"\xfd7zXZ\0\xff", "is packed", "xzcat"),
        (b"\x28\xb5\x2f\xfd\xff\0", "is packed", "zstdcat"),
        (b"PK\x03\x04\xff\0", "is packed", "unzip -p"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "damaged gzip", "gzip -t"),
        (b"\x1f\x8b\x08\xff\xff\xff", "damaged gzip", "gzip -t"),
    ],
)
def test_what_is_no_text_is_one_sentence_with_the_command_that_helps(
    data: bytes, sentence: str, remedy: str, tmp_path
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    for read in (lambda: read_file(path), lambda: list(read_stream(io.BytesIO(data), str(path)))):
        with pytest.raises(RequestError, match=sentence) as refused:
            read()
        assert remedy in str(refused.value)


def test_corpora_may_be_packed(tmp_path) -> None:
    expected = [("Save.", "Speichern.")]
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress("Save.\tSpeichern.\n".encode("utf-16")))
    (tmp_path / "y.en.gz").write_bytes(gzip.compress(b"Save.\n"))
    (tmp_path / "y.de.gz").write_bytes(gzip.compress(b"Speichern.\n"))
    (tmp_path / "z.po.gz").write_bytes(gzip.compress(b'msgid "Save."\nmsgstr "Speichern."\n'))
    for name in ("x.tsv.gz", "y", "z.po.gz"):
        assert read_segments(tmp_path / name, EN_DE) == expected
    assert [path.name for path in corpus_files(tmp_path / "y", EN_DE)] == ["y.en.gz", "y.de.gz"]


HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset={}\\n"\n\n'


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        ("ISO-8859-1", "latin1"), ("EUC-JP", "euc-jp"), ("UTF-8", "utf-8"), ("UTF-8", "utf-8-sig"), ("ASCII", "utf-8"),
        ("CHARSET", "utf-8"), ("rot13", "utf-8"), ("UTF-16", "utf-16"), ("UTF-8", "utf-16"), ("KOI8-R", "koi8-r"),
    ],
)  # fmt: skip
def test_a_po_file_is_read_as_its_header_says(charset: str, encoding: str, tmp_path) -> None:
    target = {"euc-jp": "保存", "koi8-r": "Сохранить"}.get(encoding, "Größe")
    (tmp_path / "x.po").write_bytes((HEADER.format(charset) + f'msgid "Size"\nmsgstr "{target}"\n').encode(encoding))
    assert read_po(tmp_path / "x.po") == [("Size", target)]


def test_a_po_file_may_end_its_lines_with_crlf_and_say_a_text_twice(tmp_path) -> None:
    entries = (
        'msgctxt "verb"\nmsgid "Open"\nmsgstr "Öffnen"\n\nmsgid "Open"\nmsgstr "Offen"\n\nmsgid "Open"\nmsgstr "Auf"\n'
    )
    (tmp_path / "x.po").write_bytes((HEADER.format("UTF-8") + entries).replace("\n", "\r\n").encode())
    assert read_po(tmp_path / "x.po") == [("Open", "Öffnen"), ("Open", "Offen"), ("Open", "Auf")]


def test_plurals_of_a_po_file_are_two_segments_and_separators_are_text(tmp_path) -> None:
    (tmp_path / "x.po").write_text(
        HEADER.format("UTF-8")
        + 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d Datei"\nmsgstr[1] "%d Dateien"\n\n'
        'msgid "One\u2028line"\nmsgstr "Eine\x85Zeile"\n',
        encoding="utf-8",
    )
    assert read_po(tmp_path / "x.po") == [
        ("%d file", "%d Datei"), ("%d files", "%d Dateien"), ("One\u2028line", "Eine\x85Zeile"),
    ]  # fmt: skip


def write_corpus(folder: Path, kind: str, segments: list[tuple[str, str]]) -> Path:
    if kind == "tsv":
        (folder / "x.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in segments), encoding="utf-8")
        return folder / "x.tsv"
    if kind == "po":
        text = "\n".join(f'msgid "{a}"\nmsgstr "{b}"\n' for a, b in segments)
        (folder / "x.po").write_text(text, encoding="utf-8")
        return folder / "x.po"
    if kind == "wmt":
        rows = (json.dumps({"source": a, "target": b}) + "\n" for a, b in segments)
        (folder / "en-de_DE.jsonl").write_text("".join(rows), encoding="utf-8")
        return folder
    names = ("eng_Latn.devtest", "deu_Latn.devtest") if kind == "flores" else ("x.en", "x.de")
    for name, side in zip(names, zip(*segments), strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
    return folder if kind == "flores" else folder / "x"


@pytest.mark.parametrize("kind", ["tsv", "moses", "po", "flores", "wmt"])
def test_segments_with_an_empty_side_are_left_out_of_every_kind_of_corpus_and_counted(
    kind: str, tmp_path, caplog
) -> None:
    whole = [("Save the file.", "Speichern Sie die Datei."), ("Print the page.", "Drucken Sie die Seite.")]
    path = write_corpus(tmp_path, kind, [whole[0], ("Open.", " "), (" ", "Leer."), whole[1], ("Close.", "")])
    assert read_segments(path, EN_DE) == whole
    assert f"{2 if kind == 'po' else 3} of " in caplog.text and "segments have an empty side" in caplog.text


@pytest.mark.parametrize("kind", ["tsv", "moses", "po", "flores", "wmt"])
def test_a_mark_is_no_text_of_any_corpus(kind: str, tmp_path) -> None:
    segments = [("Save the file.", "Speichern Sie die Datei."), ("Print the page.", "Drucken Sie die Seite.")]
    path = write_corpus(tmp_path, kind, segments)
    for file in tmp_path.rglob("*.*"):
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    assert read_segments(path, EN_DE) == segments
