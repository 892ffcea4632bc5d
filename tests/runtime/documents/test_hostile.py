"""Text that is made to be slow or large takes no more time than its length: each test ends, or hangs for minutes."""

import pytest

from runtime.errors import RequestError
from runtime.translate.documents.html import html_tokens
from tests.runtime.documents.splicing import translated

SIZE = 60_000
OF_PARSERS = 2000  # markdown-it-py and html.parser take quadratic time for some of these themselves
PATTERNS = [
    "a",
    " ",
    "\r",
    "\n",
    "a.",
    "/a",
    "http:.",
    "{a,",
    '<a "',
    "<!--",
    "](",
    "[a",
    "`a ``",
    "*a ",
    "_a_",
    "$$",
    "@",
    "a@",
    "&a",
    "(((",
]


@pytest.mark.parametrize("name", ["x.txt", "x.srt", "x.json"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_text_is_slow(pattern: str, name: str) -> None:
    text = (pattern * (SIZE // len(pattern)))[:SIZE] + " a@b.c :<{`"
    if name == "x.json":
        import json

        text = json.dumps([text])
    if name == "x.srt":
        text = f"1\n00:01,000 --> 00:02,000\n{text}\n"
    source = text.encode()
    assert translated(source, name) == source


@pytest.mark.parametrize("name", ["x.md", "x.html"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_markup_is_slow(pattern: str, name: str) -> None:
    source = f"# a\n\n{pattern * (OF_PARSERS // len(pattern))}\n".encode()
    assert translated(source, name) == source


def test_thousands_of_nested_elements_are_no_trouble() -> None:
    source = b"<p>a" + b"<div><b>x" * 5_000 + b"y" + b"</b></div>" * 5_000
    assert translated(source, "x.html") == source
    with pytest.raises(RequestError):
        translated(b"<xliff>" + b"<g>" * 5_000, "x.xlf")


def test_tags_that_only_begin_are_read_once() -> None:
    """Where each of them is searched for its end, this takes hours."""
    text = "<p>x</p>" + "<a " * 300_000
    assert [(each.kind, each.start) for each in html_tokens(text)] == [
        ("open", 0),
        ("text", 3),
        ("close", 4),
        ("text", 8),
    ]
    assert [each.kind for each in html_tokens("<p>a < b")] == ["open", "text"]
    assert "".join(text[each.start : each.end] for each in html_tokens(text)) == text
