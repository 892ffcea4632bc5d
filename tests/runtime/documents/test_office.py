"""Word documents and presentations: paragraph by paragraph, with everything that is no text as it was."""

from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import expected, packed, part, texts_of, translated, upper

W = 'xmlns:w="w" xmlns:r="r" xmlns:wp="wp" xmlns:wps="wps" xmlns:mc="mc" xmlns:a="a" xmlns:p="p"'
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n'


def run(text: str, properties: str = "") -> str:
    return f'<w:r w:rsidR="00A1">{properties}<w:t xml:space="preserve">{text}</w:t></w:r>'


def field(code: str, result: str) -> str:
    character = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    begin, separate, end = (character.format(kind) for kind in ("begin", "separate", "end"))
    return f'{begin}<w:r><w:instrText xml:space="preserve"> {code} </w:instrText></w:r>{separate}{result}{end}'


BOLD, ITALIC = "<w:rPr><w:b/></w:rPr>", "<w:rPr><w:i/></w:rPr>"
BOX = (
    '<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wp:docPr id="1" name="picture 1" descr="‹a drawing›"/>'
    f"<wps:txbx><w:txbxContent><w:p>{run('‹in the box›')}</w:p></w:txbxContent></wps:txbx></w:drawing></mc:Choice>"
    f"<mc:Fallback><w:pict><w:txbxContent><w:p>{run('‹in the box›')}</w:p></w:txbxContent></w:pict></mc:Fallback>"
    "</mc:AlternateContent></w:r>"
)
PARAGRAPHS = [
    f"<w:pPr><w:pStyle w:val=\"heading\"/><w:tabs><w:tab w:val=\"left\"/></w:tabs></w:pPr>{run('‹a title &amp;amp; more›')}",
    run("‹plain, ›") + run("‹bold›", BOLD) + run("‹ and ›")
    + f'<w:hyperlink r:id="rId1">{run("‹a link›", "<w:rPr><w:u/></w:rPr>")}</w:hyperlink>' + run("‹.›")
    + '<w:r><w:footnoteReference w:id="2"/></w:r>',
    run("‹page ›") + field("PAGE \\* MERGEFORMAT", run("one")) + run("‹ of many›"),
    run("‹see ›") + field('HYPERLINK "http://a.b"', run("‹the site›", ITALIC)) + run("‹ now›"),
    field("TOC \\o", run("‹first chapter›") + "<w:r><w:tab/></w:r>" + field("PAGEREF _x", run("seven"))),
    f'<w:fldSimple w:instr=" AUTHOR ">{run("somebody")}</w:fldSimple>' + run("‹ wrote it›"),
    run("‹it ›") + f'<w:del w:id="1" w:author="someone"><w:r><w:delText>was</w:delText></w:r></w:del>'
    f'<w:ins w:id="2" w:author="someone">{run("‹is›")}</w:ins>' + run("‹ so›") + f"<w:moveFrom>{run('moved')}</w:moveFrom>",
    "<w:r><w:t>‹name:›</w:t><w:tab/><w:t>‹value›</w:t><w:br/><w:t>‹next line›</w:t></w:r>",
    run("‹before ›") + BOX + run("‹after›"),
    f'<w:sdt><w:sdtPr><w:alias w:val="control"/></w:sdtPr><w:sdtContent>{run("‹in a control›")}</w:sdtContent></w:sdt>',
    '<w:bookmarkStart w:id="0" w:name="mark"/>' + run("‹marked›") + '<w:bookmarkEnd w:id="0"/>',
    "<w:r/>",
    run("12.5"),
]  # fmt: skip


def parts() -> dict[str, str]:
    body = "".join(f"<w:p>{each}</w:p>\n" for each in PARAGRAPHS)
    table = f"<w:tbl><w:tr><w:tc><w:p>{run('‹cell one›')}</w:p></w:tc><w:tc><w:p>{run('‹cell two›')}</w:p></w:tc></w:tr></w:tbl>"

    def whole(name: str, inside: str) -> str:
        return f"{HEAD}<w:{name} {W}>{inside}</w:{name}>"

    return {
        "_rels/.rels": f"{HEAD}<Relationships/>",
        "word/document.xml": whole("document", f"<w:body>{body}{table}<w:sectPr/></w:body>"),
        "word/footnotes.xml": whole("footnotes", f'<w:footnote w:id="2"><w:p>{run("‹a note.›")}</w:p></w:footnote>'),
        "word/endnotes.xml": whole("endnotes", f'<w:endnote w:id="2"><w:p>{run("‹an end note.›")}</w:p></w:endnote>'),
        "word/header1.xml": whole("hdr", f"<w:p>{run('‹the header›')}</w:p>"),
        "word/footer2.xml": whole("ftr", f"<w:p>{run('‹the footer›')}</w:p>"),
        "word/comments.xml": whole(
            "comments",
            f'<w:comment w:id="0" w:author="someone" w:initials="s"><w:p>{run("‹a comment›")}</w:p></w:comment>',
        ),
        "word/charts/chart1.xml": f"{HEAD}<c:chart {W} xmlns:c='c'><a:p><a:r><a:t>‹chart title›</a:t></a:r></a:p></c:chart>",
        "word/styles.xml": whole("styles", '<w:style w:styleId="heading"><w:name w:val="heading 1"/></w:style>'),
        "word/media/image.png": "no picture",
        "docProps/core.xml": f"{HEAD}<cp:coreProperties xmlns:cp='cp'><title>the title</title></cp:coreProperties>",
    }


def two(marked: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Parts as they are, and with what ``‹...›`` marks in capitals."""
    both = {name: expected(text) for name, text in marked.items()}
    return {n: a.decode() for n, (a, _) in both.items()}, {
        n: b.decode().replace("&AMP;", "&amp;") for n, (_, b) in both.items()
    }


def check_packed(marked: dict[str, str], name: str, first: dict[str, str] | None = None) -> None:
    plain, capitals = two(marked)
    source = packed(plain, first)
    assert translated(source, name) == source
    done = upper(source, name)
    for each in plain:
        assert part(done, each) == capitals[each]


def document(*paragraphs: str) -> bytes:
    inside = "".join(f"<w:p>{each}</w:p>" for each in paragraphs)
    return packed({"word/document.xml": f"{HEAD}<w:document {W}><w:body>{inside}</w:body></w:document>"})


def test_word_keeps_all_but_its_text() -> None:
    marked = parts()
    marked["word/document.xml"] = marked["word/document.xml"].replace("&amp;amp;", "›&amp;‹")
    check_packed(marked, "x.docx")


def test_a_paragraph_is_one_text_whatever_runs_it_is_cut_into() -> None:
    spelling = '<w:proofErr w:type="spellStart"/>'
    language = '<w:rPr><w:lang w:val="en-US"/></w:rPr>'
    source = document(
        run("Hel") + spelling + run("lo wor", language) + "<w:lastRenderedPageBreak/>" + run("ld, "), run("bold", BOLD)
    )
    opened = open_document(Path("x.docx"), source, Pair("en", "de"))
    assert texts_of(opened) == ["Hello world, ", "bold"]
    text = part(translated(source, "x.docx", lambda _: "Hallo Welt"), "word/document.xml")
    assert text.count("Hallo Welt") == 2 and text.count("<w:proofErr") == 1 and text.count("<w:t ") == 4


def test_formatting_comes_back_around_a_word() -> None:
    source = document(run("This is ") + run("bold", BOLD) + run(" text."))
    text = part(translated(source, "x.docx", lambda _: "Das ist fetter Text."), "word/document.xml")
    assert text == part(document(run("Das ist ") + run("fetter", BOLD) + run(" Text.")), "word/document.xml")


def test_white_space_at_the_ends_is_kept_by_word() -> None:
    source = document("<w:r><w:t>One </w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>two</w:t></w:r>")
    assert '<w:t xml:space="preserve">ONE </w:t>' in part(upper(source, "x.docx"), "word/document.xml")


def test_word_says_the_target_s_language() -> None:
    language = '<w:rPr><w:lang w:val="en-US" w:eastAsia="ja-JP"/></w:rPr>'
    source = packed({
        "word/document.xml": f"<w:document {W}><w:p>{run('x', language)}</w:p></w:document>",
        "word/styles.xml": f'<w:styles {W}><w:lang w:val="en-GB"/><w:lang w:val="fr-FR"/></w:styles>',
    })  # fmt: skip
    done = upper(source, "x.docx", Pair("en", "de"))
    assert '<w:lang w:val="de" w:eastAsia="ja-JP"/>' in part(done, "word/document.xml")
    assert part(done, "word/styles.xml") == f'<w:styles {W}><w:lang w:val="de"/><w:lang w:val="fr-FR"/></w:styles>'


def test_a_presentation_keeps_all_but_its_text() -> None:
    def shape(inside: str) -> str:
        return f'<p:sp><p:cNvPr id="2" name="title 1" descr="‹a shape›"/><p:txBody>{inside}</p:txBody></p:sp>'

    text = (
        '<a:p><a:pPr/><a:r><a:rPr lang="en-US" dirty="0"/><a:t>‹hello ›</a:t></a:r><a:r><a:rPr lang="en-GB"/><a:t/></a:r>'
        '<a:r><a:rPr b="1"/><a:t>‹bold›</a:t></a:r><a:br/><a:r><a:t>‹next line›</a:t></a:r>'
        '<a:fld id="{x}" type="slidenum"><a:rPr/><a:t>number</a:t></a:fld><a:endParaRPr lang="fr-FR"/></a:p>'
    )
    check_packed({
        "ppt/slides/slide1.xml": f"{HEAD}<p:sld {W}>{shape(text)}</p:sld>",
        "ppt/notesSlides/notesSlide1.xml": f"<p:notes {W}><a:p><a:r><a:t>‹a note›</a:t></a:r></a:p></p:notes>",
        "ppt/slideLayouts/slideLayout1.xml": f"<p:l {W}><a:p><a:r><a:t>click to edit</a:t></a:r></a:p></p:l>",
        "ppt/presentation.xml": "<p/>",
    }, "x.pptx")  # fmt: skip


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><w:document xmlns:w="w"><w:t>&b;</w:t></w:document>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><w:document xmlns:w="w"><w:t>&a;</w:t></w:document>'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no zip", "no ZIP file"),
        (packed({"word/document.xml": "<a>" + "x" * 90_000})[:200], "no ZIP file"),
        (packed({"word/other.xml": "<a/>"}), "none of the parts"),
        (packed({"word/document.xml": "<w:document"}), "damaged XML"),
        (packed({"word/document.xml": "<a>" * 3}), "damaged XML"),
        (packed({"word/document.xml": BOMB}), "entities"),
        (packed({"word/document.xml": OUTSIDE}), "entities"),
        (packed({"word/document.xml": "<a/>", "../../x": "y"}), "part named"),
        (packed({"word/document.xml": "<a/>", "/etc/x": "y"}), "part named"),
        (packed({"word/document.xml": "<a/>", "x": "\0" * (30 << 20)}), "unpacks to"),
    ],
)
def test_what_is_no_document_is_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        open_document(Path("x.docx"), data, Pair("en", "de"))


def test_a_damaged_part_is_one_sentence() -> None:
    data = bytearray(packed({"word/document.xml": f"<a>{'text ' * 500}</a>", "word/media/x.bin": "abc" * 1000}))
    at = data.find(b"x.bin") + 12
    data[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(RequestError, match="damaged"):
        open_document(Path("x.docx"), bytes(data), Pair("en", "de"))
