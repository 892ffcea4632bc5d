"""OpenDocument texts and e-books: what changes is the text, and nothing else."""

import io
import zipfile
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import DE, packed, part, texts_of, translated, upper
from tests.runtime.documents.test_office import check_packed

SPACES = 'xmlns:office="o" xmlns:text="t" xmlns:draw="d" xmlns:table="b" xmlns:svg="s" xmlns:dc="c" xmlns:fo="f" xmlns:style="y"'
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
CONTENT = f"""{HEAD}<office:document-content {SPACES}><office:body><office:text>
<text:tracked-changes><text:changed-region><text:deletion><dc:creator>someone</dc:creator><text:p>deleted</text:p></text:deletion>
</text:changed-region></text:tracked-changes>
<text:h text:outline-level="1">‹a title› &amp; ‹more›</text:h>
<text:p>‹plain, › <text:span text:style-name="b">‹bold›</text:span> ‹and› <text:a href="h">‹a link›</text:a>‹.›</text:p>
<text:p>‹name:›<text:tab/>‹value›<text:line-break/>‹next line›</text:p>
<text:p>‹page› <text:page-number>one</text:page-number> ‹of many›</text:p>
<text:p>‹a note›<text:note text:id="n"><text:note-citation>i</text:note-citation>
<text:note-body><text:p>‹the note.›</text:p></text:note-body></text:note> ‹here›</text:p>
<text:p>‹a comment›<office:annotation><dc:creator>someone</dc:creator><dc:date>2020</dc:date>
<text:p>‹said so›</text:p></office:annotation> ‹here›</text:p>
<text:p><draw:frame draw:name="frame"><draw:text-box><text:p>‹in the box›</text:p></draw:text-box>
<svg:title>‹a picture›</svg:title></draw:frame></text:p>
<text:list><text:list-item><text:p>‹item›</text:p></text:list-item></text:list>
<table:table table:name="table">
<table:table-row><table:table-cell><text:p>‹cell›</text:p></table:table-cell></table:table-row></table:table>
<text:p/><text:p>12.5</text:p>
</office:text></office:body></office:document-content>""".replace("‹plain, ›", "‹plain,›")  # fmt: skip
STYLES = f"{HEAD}<office:styles {SPACES}><style:footer><text:p>‹the footer›</text:p></style:footer></office:styles>"


def test_odt_keeps_all_but_its_text() -> None:
    parts = {
        "content.xml": CONTENT,
        "styles.xml": STYLES,
        "meta.xml": "<title>stays</title>",
        "Pictures/a.png": "no picture",
    }
    check_packed(parts, "x.odt", {"mimetype": "application/vnd.oasis.opendocument.text"})


def test_odt_says_the_target_s_language() -> None:
    style = f'<a {SPACES}><style:text-properties fo:language="en" fo:country="US"/></a>'
    source = packed({"content.xml": f"<a {SPACES}/>", "styles.xml": style})
    assert 'fo:language="pt" fo:country="BR"' in part(
        translated(source, "x.odt", str, Pair("en", "pt-BR")), "styles.xml"
    )


PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en"><head><title>‹chapter one›</title><style>p { x: y }</style></head>
<body><p>‹once›&nbsp;‹upon› <em>‹a time›</em><br/>‹there was› <a id="x"/>‹something.›</p><pre>stays</pre>
<img src="a.png" alt="‹a castle›"/></body></html>
"""
OPF = '<package xmlns:dc="d"><metadata><dc:title>the book</dc:title><dc:language>en</dc:language></metadata></package>'


def book() -> dict[str, str]:
    ncx = '<?xml version="1.0"?><ncx><navMap><navPoint><navLabel><text>‹chapter one›</text></navLabel></navPoint></navMap></ncx>'
    return {
        "META-INF/container.xml": "<container/>",
        "OEBPS/one.xhtml": PAGE,
        "OEBPS/toc.ncx": ncx,
        "OEBPS/book.opf": OPF,
    }


def test_epub_keeps_all_but_its_text() -> None:
    marked = book()
    marked["OEBPS/one.xhtml"] = PAGE.replace("‹once›&nbsp;‹upon›", "‹once upon›")
    check_packed(marked, "x.epub", {"mimetype": "application/epub+zip"})


def test_epub_is_still_one_for_its_readers() -> None:
    source = packed(
        {name: text.replace("‹", "").replace("›", "") for name, text in book().items()},
        {"mimetype": "application/epub+zip"},
    )
    done = upper(source, "x.epub", DE)
    with zipfile.ZipFile(io.BytesIO(done)) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type, first.date_time) == (
            "mimetype",
            zipfile.ZIP_STORED,
            (2020, 1, 2, 3, 4, 6),
        )
    assert done[30:58] == b"mimetypeapplication/epub+zip"
    assert "<dc:title>the book</dc:title><dc:language>de<" in part(done, "OEBPS/book.opf")
    assert 'xml:lang="de"' in part(done, "OEBPS/one.xhtml")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.odt", b"", "no ZIP"),
        ("x.odt", packed({"content.xml": "<a"}), "damaged XML"),
        ("x.odt", packed({"other.xml": "<a/>"}), "none of the parts"),
        ("x.epub", packed({"a.xhtml": "<p>"}), "damaged XML"),
        ("x.epub", packed({"a.xhtml": "<p/>", "META-INF/rights.xml": "<a/>"}), "protected"),
    ],
)
def test_a_damaged_file_is_one_sentence(name: str, data: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        open_document(Path(name), data, DE)


def test_a_paragraph_of_odt_is_one_text() -> None:
    source = packed(
        {"content.xml": f'<a {SPACES}><text:p>He<text:span text:style-name="t">llo wor</text:span>ld</text:p></a>'}
    )
    assert texts_of(open_document(Path("x.odt"), source, DE)) == ["Hello world"]
