"""Subtitles and files of messages by key: what changes is the text, and nothing else."""

import codecs
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import DE, check, texts_of, translated, upper

SRT = """1
00:00:01,000 --> 00:00:02,500 X1:1 X2:2
‹first line›
‹and second.›

2
00:00:03,000 --> 00:00:04,000
<i>‹in italics›</i> {\\an8}‹up there›

3
00:00:05,000 --> 00:00:06,000
- ‹who?›
- ‹me!›

4
00:00:07,000 --> 00:00:08,000

"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_srt_keeps_all_but_its_text(end: str) -> None:
    check(SRT.replace("\n", end), "x.srt")


def test_a_cue_is_one_text_and_keeps_its_lines() -> None:
    source = b"1\n00:01,000 --> 00:02,000\nThis is a sentence\nover two lines.\n"
    assert texts_of(open_document(Path("x.srt"), source, DE)) == ["This is a sentence over two lines."]
    done = translated(source, "x.srt", lambda _: "Das ist ein Satz auf zwei Zeilen.")
    assert done == b"1\n00:01,000 --> 00:02,000\nDas ist ein Satz\nauf zwei Zeilen.\n"
    assert translated(source, "x.srt", lambda _: "Ja.") == b"1\n00:01,000 --> 00:02,000\nJa.\n"


VTT = """WEBVTT - a title
Kind: captions

NOTE a note
over lines

STYLE
::cue { color: red }

REGION
id:fred width:40%

intro
00:01.000 --> 00:02.000 region:fred align:start position:10%,line-left
<v Bob>‹hello› <c.loud>‹world›</c> &amp; ‹all›

00:00:03.000 --> 00:00:04.000 vertical:rl
‹one› <00:00:03.500>‹two›
<b>‹three›</b>
"""


def test_vtt_keeps_settings_styles_and_notes() -> None:
    check(VTT, "x.vtt")


PROPERTIES = """# a comment: stays
! another
save = ‹save the file›
open.file: ‹open› \\
    ‹it›
key\\ with\\ spaces  ‹value one›
tab=\\t‹after a tab›
path=C:\\\\dir\\\\x
empty=
alone
message={0} ‹files, don''t ask›
color=#ff00aa
id=some.key
"""


def test_properties_keep_keys_comments_and_escapes() -> None:
    source = PROPERTIES.replace("‹open› \\\n    ‹it›", "‹open it›")
    check(source, "x.properties")
    assert upper(b"a=one \\\n   two", "x.properties") == b"a=ONE TWO"


def test_properties_are_written_as_their_encoding_can() -> None:
    assert (
        translated(b"a=x", "x.properties", lambda _: "gr\u00f6\u00dfe \U0001f600")
        == b"a=gr\\u00F6\\u00DFe \\uD83D\\uDE00"
    )
    assert translated("a=ö".encode(), "x.properties", lambda _: "größe") == "a=größe".encode()
    assert translated("a=ö".encode("latin-1"), "x.properties", lambda _: "ß€") == b"a=\xdf\\u20AC"
    assert translated(b"a={0} it", "x.properties", lambda _: "l'un") == b"a={0} l''un"
    assert translated(b"a=gr\\u00f6\\u00dfe", "x.properties") == b"a=gr\\u00f6\\u00dfe"


STRINGS = """/* a comment = "stays"; */
"save.key" = "‹save the file›";
// "not" = "this";
bare_key="‹say› \\"‹hi›\\"‹, %@ and %1$@›";
"no value";
"lines" = "‹one.›\\n‹two.›";
"""


def test_strings_keep_keys_and_comments() -> None:
    source = STRINGS.replace("%@ and %1$@", "›%@ ‹and› %1$@‹")
    check(source, "x.strings")
    data = codecs.BOM_UTF16_LE + '"a" = "b";\r\n'.encode("utf-16-le")
    assert upper(data, "x.strings") == codecs.BOM_UTF16_LE + '"a" = "B";\r\n'.encode("utf-16-le")


JSON = """{
  "title": "‹the title›",  "n": 12, "list": ["‹one›", 2, null, {"deep": "‹two›"}], "yes": true,
  "quote": "‹say› \\"‹x›\\"‹.›\\n‹next {name}›", "color": "#ff0000", "key": "some.key", "empty": "", "url": "https://a.b/c",
  "greeting": {"message": "‹hello $NAME$›", "description": "stays", "placeholders": {"name": {"content": "$1", "example": "b"}}},
  "@title": {"description": "stays", "type": "text"}
}
"""


def test_json_keeps_keys_numbers_and_notes() -> None:
    check(JSON.replace("{name}", "›{name}‹").replace("$NAME$", "›$NAME$‹").replace("‹hello ›", "‹hello ›"), "x.json")


def test_json_says_the_target_s_language() -> None:
    assert upper(b'{"en": {"a": "b"}}', "x.json", Pair("en", "de")) == b'{"de": {"a": "B"}}'
    assert upper(b'{"@@locale": "en", "a": "b"}', "x.arb", Pair("en", "de")) == b'{"@@locale": "de", "a": "B"}'


def test_json_is_written_as_it_was() -> None:
    assert translated(b'{"a": "\\u00f6 x"}', "x.json", lambda _: "ä") == b'{"a": "\\u00e4"}'
    assert translated(b'{"a": "x"}', "x.json", lambda _: 'ä "y"') == '{"a": "ä \\"y\\""}'.encode()
    assert translated(b'{"a": "\\ud800 x"}', "x.json") == b'{"a": "\\ud800 x"}'
    assert upper(b'{"a": "\\ud800 x"}', "x.json") == b'{"a": "\\ud800 X"}'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.srt", b"no subtitles"),
        ("x.vtt", b"00:01.000 --> 00:02.000\nx"),
        ("x.properties", b"a=\\u12"),
        ("x.properties", b"a=\0"),
        ("x.strings", b'"a" = "b'),
        ("x.json", b'{"a": "b"'),
        ("x.json", b"[" * 200_000 + b"]" * 200_000),
        ("x.json", b"\xff"),
    ],
)
def test_a_damaged_file_is_one_sentence(name: str, data: bytes) -> None:
    with pytest.raises(RequestError, match=r"^x\."):
        open_document(Path(name), data, DE)
