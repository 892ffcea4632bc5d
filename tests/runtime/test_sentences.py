"""Paragraphs become sentences and codes stay where they are: text in is text out, to the byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.text.markup import Code, Marked, cut, joined, plain, protect, trimmed, with_codes, without_codes
from runtime.text.sentences import cut_at_spaces, split_sentences
from runtime.translate.paragraphs import ParagraphTranslator, sentences_of
from runtime.translate.segments import Translation


@pytest.mark.parametrize(
    "sentences",
    [
        ["Save the file.  ", "Close it.\n", "Then go on!"],
        ["See vol. 2 of it. ", "It is in Fig. 3 on p. 12. ", "Good."],
        ["Dr. Smith paid 3.50 EUR. ", "He left."],
        ["Go to https://a.org/x.html?a=b. ", "Write to j.doe@a.org. ", "Done."],
        ["Use `a. B` or {user. Name} now. ", "Next one."],
    ],
)
def test_a_paragraph_is_split_into_its_sentences(sentences: list[str]) -> None:
    assert split_sentences("".join(sentences), "en") == sentences


def test_languages_have_their_own_ends() -> None:
    assert split_sentences("Das ist z. B. gut. Nr. 5 fehlt am 3. Mai.", "de") == [
        "Das ist z. B. gut. ",
        "Nr. 5 fehlt am 3. Mai.",
    ]
    assert split_sentences("今日は。明日は！はい", "ja") == ["今日は。", "明日は！", "はい"]
    assert split_sentences("مرحبا. كيف حالك؟ جيد.", "ar") == ["مرحبا. ", "كيف حالك؟ ", "جيد."]


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from('aB1 .\n\t!?"()\u2028\x85\x00\u0301\u200d😀。 <b>{}%s&;@/\ud800'), max_size=80),
    st.integers(1, 20),
)
def test_joined_sentences_are_the_text_whatever_it_is(text: str, limit: int) -> None:
    pieces = split_sentences(text, "en", limit)
    assert "".join(pieces) == text and all(len(piece.strip()) <= limit for piece in pieces)
    assert joined(protect((text,))) == ((text,) if text else ())
    whole = [piece for each in sentences_of((text,), "en") for piece in (*each.head, *each.core, *each.tail)]
    assert joined(whole) == ((text,) if text else ())


def test_a_megabyte_without_an_end_is_cut() -> None:
    for text in ("word " * 200_000, "x" * 1_000_000, "語" * 300_000):
        pieces = split_sentences(text, "en", 500)
        assert "".join(pieces) == text and max(map(len, pieces)) <= 501
    assert cut_at_spaces("e\u0301" * 4, 3) == ["e\u0301", "e\u0301", "e\u0301", "e\u0301"]


def codes_of(marked: Marked) -> list[str]:
    return [piece.raw for piece in marked if isinstance(piece, Code)]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Copy %s to %(name)s, %1$d of %d: 100% of all, 5 % off", ["%s", "%(name)s", "%1$d", "%d"]),
        ("Hello {name}, {{x.y}} ${HOME} $USER {0}", ["{name}", "{{x.y}}", "${HOME}", "$USER", "{0}"]),
        ("{n, plural, one {# file} other {# files}} left", ["{n, plural, one {# file} other {# files}}"]),
        ("Save &amp; close &#160; AT&T", ["&amp;", "&#160;"]),
        ("&File ~Edit E~xit", ["&", "~", "~"]),
        ("A <b>bold</b> <br/> <a href='x>y'>link</a> 3 < 4 > 2", ["<b>", "</b>", "<br/>", "<a href='x>y'>", "</a>"]),
        ("See https://a.org/b?c=d, www.x.org or j.doe@a.org.", ["https://a.org/b?c=d", "www.x.org", "j.doe@a.org"]),
        ("Run `make x` with --all=yes in /usr/lib/x, and/or open()", ["`make x`", "--all=yes", "/usr/lib/x", "open()"]),
    ],
)
def test_placeholders_are_codes(text: str, codes: list[str]) -> None:
    assert codes_of(protect((text,))) == codes and joined(protect((text,))) == (text,)


@pytest.mark.parametrize(
    ("source", "bare", "translation", "expected"),
    [
        ("Hello %s, how are you?", "Hello, how are you?", "Hallo, wie geht es?", "Hallo %s, wie geht es?"),
        ("Copy %d of %d files", "Copy of files", "Kopie von Dateien", "Kopie %d von %d Dateien"),
        ("The <b>new file</b>.", "The new file.", "Die neue Datei.", "Die <b>neue Datei</b>."),
        ("a <i>b <b>c</b></i> d", "a b c d", "x y", "<i>x <b>y</b></i>"),
        ("one<br/>two", "one two", "eins zwei", "eins<br/>zwei"),
        ("Nothing", "Nothing", "Nichts", "Nichts"),
    ],
)
def test_codes_come_back_where_they_belong(source: str, bare: str, translation: str, expected: str) -> None:
    marked = protect((source,))
    assert without_codes(marked)[0] == bare
    assert joined(with_codes(marked, translation)) == (expected,)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "bc. ", " ", "<i>", "</i>", "<b>", "</b>", "<br/>", "%s", "\n"]), max_size=14),
    st.text("ab .\u8a9e", max_size=12),
)
def test_each_code_comes_once_and_in_order(pieces: list[str], translation: str) -> None:
    marked = protect(("".join(pieces),))
    done = with_codes(marked, translation)
    assert codes_of(done) == codes_of(marked)
    assert plain(done).split() == translation.split() or without_codes(marked)[0] == translation or "<br/>" in pieces


def test_codes_around_a_text_stay_outside_and_pairs_stay_whole() -> None:
    head, core, tail = trimmed(protect(("  <p><b>Bold</b> word</p> ",)))
    assert [joined(each) for each in (head, core, tail)] == [("  <p>",), ("<b>Bold</b> word",), ("</p> ",)]


def test_cutting_keeps_every_code() -> None:
    marked = ("One ", Code("<b>", "open", ((0, 3),)), "two. ", Code("</b>", "close", ((8, 12),)), "Three.", Code("<i>"))
    first, second = cut(marked, [9, 6])
    assert (*first, *second) == marked and codes_of(first) == ["<b>", "</b>"]


def test_paragraphs_come_in_order_with_their_own_white_space() -> None:
    paragraphs = ["  One.  Two %s.\t", "", "   ", "12.5", "Three\u2028four. "]
    seen: list[str] = []

    def translate(texts):
        for text in texts:
            seen.append(text)
            yield Translation(text, text.upper().replace("%S", "%s"), None)

    done = ParagraphTranslator(translate, "en").translate((text,) for text in paragraphs)
    assert ["".join(map(str, each.marked)) for each in done] == [
        "  ONE.  TWO %s.\t",
        "",
        "   ",
        "12.5",
        "THREE\u2028FOUR. ",
    ]
    assert [text for text in seen if text] == ["One.", "Two %s.", "Three\u2028four."]
