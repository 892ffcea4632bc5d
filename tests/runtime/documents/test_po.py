"""PO files: empty translations are filled, and nothing else changes."""

from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import DE, translated, upper

HEADER = r"""# Translators: nobody
msgid ""
msgstr ""
"Project-Id-Version: x\n"
"Language: {language}\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: {plural}\n"
"X-Generator: hand\n"

"""
TWO = "nplurals=2; plural=(n != 1);"
BODY = r"""# translator's note
#. extracted note
#: src/a.c:12
#, c-format
msgctxt "menu"
msgid "&Save %s now"
msgstr "<1>"

msgid ""
"a long text. "
"goes on \"here\".\n"
"last line\n"
msgstr <2>

msgid "one file"
msgid_plural "%d files"
msgstr[0] "<3>"
msgstr[1] "<4>"

#, fuzzy
#| msgid "old"
msgid "fuzzy stays"
msgstr "falsch"

#, fuzzy
msgid "fuzzy and empty"
msgstr ""

msgid "done"
msgstr "fertig"

#~ msgid "obsolete"
#~ msgstr ""
"""


def filled(one: str, two: str, three: str, four: str, language: str = "de", plural: str = TWO) -> str:
    body = BODY.replace("<1>", one).replace("<2>", two).replace("<3>", three).replace("<4>", four)
    return HEADER.format(language=language, plural=plural) + body


DONE = ("&SAVE %s NOW", '""\n"A LONG TEXT. GOES ON \\"HERE\\".\\n"\n"LAST LINE\\n"', "ONE FILE", "%d FILES")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_translations_are_filled_and_all_else_stays(end: str) -> None:
    source = filled("", '""', "", "").replace("\n", end).encode()
    assert upper(source, "x.po", DE).decode() == filled(*DONE).replace("\n", end)
    assert upper(upper(source, "x.po", DE), "x.po", DE) == upper(source, "x.po", DE)  # nothing is left to do


def test_a_whole_translation_is_the_same_file() -> None:
    source = filled(*DONE).encode()
    assert translated(source, "x.po", str, DE) == source


def test_a_template_becomes_a_translation_with_the_target_s_plural_forms() -> None:
    template = filled("", '""', "", "", "", "nplurals=INTEGER; plural=EXPRESSION;").replace(
        'msgstr "fertig"', 'msgstr ""'
    )
    template = template.replace('msgstr "falsch"', 'msgstr ""').replace("charset=UTF-8", "charset=CHARSET")
    done = upper(template.encode(), "x.pot", Pair("en", "pl")).decode()
    assert (
        '"Language: pl\\n"' in done
        and "charset=UTF-8" in done
        and '"Plural-Forms: nplurals=3; plural=(n==1 ? 0' in done
    )
    assert 'msgstr[0] "ONE FILE"\nmsgstr[1] "%d FILES"\nmsgstr[2] "%d FILES"\n\n' in done
    one = upper(template.encode(), "x.pot", Pair("en", "ja")).decode()
    assert "nplurals=1; plural=0;" in one and 'msgstr[0] "%d FILES"' in one


def test_its_charset_is_kept() -> None:
    source = filled("", '""', "", "").replace("UTF-8", "ISO-8859-1").replace("a long", "größe").encode("latin-1")
    assert "GRÖSSE".encode("latin-1") in upper(source, "x.po", DE)
    with pytest.raises(RequestError, match="lacks"):
        translated(source, "x.po", lambda _: "Ł", DE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'msgid "a\nmsgstr ""\n', "line 1"),
        (b'"a"\n', "line 1"),
        (b'msgid "a"\n\nmsgid "b"\nmsgstr ""\nx\n', "line 5"),
        (b'msgid "a"\n', "lacks msgstr"),
        (filled("Enregistrer", '""', "", "", "fr").encode(), "translation into fr"),
        (b'msgid "\xf6"\nmsgstr ""\n', "not UTF-8"),
    ],
)
def test_what_is_no_po_file_for_this_is_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        open_document(Path("x.po"), data, DE)
