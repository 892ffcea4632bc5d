"""Text and Markdown: what changes is the text, and nothing else."""

import codecs
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime import test_text as text
from tests.runtime.documents.splicing import check, texts_of, translated, upper


def test_text_keeps_its_lines() -> None:
    check("‹one. two.›\r\n\r\n  ‹three›\u2028‹four›\t \n\x0c‹five›", "x.txt")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_encodings_stay(mark: bytes, encoding: str) -> None:
    source = mark + "größe.\r\nx\n".encode(encoding)
    assert translated(source, "x.txt") == source
    assert upper(source, "x.txt") == mark + "GRÖSSE.\r\nX\n".encode(encoding)


FORMATS = {
    "x.txt": "one{}two\n", "x.md": "one{}two\n", "x.html": "<p>one{}two</p>\n", "x.ftl": "a = one{}two\n",
    "x.srt": "1\n00:00:01,000 --> 00:00:02,000\none{}two\n", "x.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\none{}two\n",
    "x.properties": "a=one{}two\n", "x.strings": '"a" = "one{}two";\n',
}  # fmt: skip
SEPARATORS = [
    each for each in text.SEPARATORS if each not in ("\f", "\r")
]  # which some formats escape, or end lines with


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "marked"])
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("name", FORMATS)
def test_separators_and_marks_stay_where_they_are(name: str, separator: str, mark: str) -> None:
    source = (mark + FORMATS[name].format(separator)).encode()
    assert translated(source, name) == source
    assert upper(source, name) == source.replace(b"one", b"ONE").replace(b"two", b"TWO")


@pytest.mark.parametrize("data", [b"Gr\xf6\xdfe", b"a\0b", "x".encode("utf-16-le"), b"\xff\xfea"])
@pytest.mark.parametrize("name", ["x.txt", "x.md", "x.html"])
def test_what_is_no_text_is_one_sentence(data: bytes, name: str) -> None:
    with pytest.raises(RequestError, match="x"):
        translated(data, name)


MARKDOWN = """---
title: front matter stays
tags: [a, b]
---

# ‹the title › #

‹a paragraph with› **‹bold words›**, *‹emphasis›*, __‹more›__, ~~‹gone›~~, `code stays`, ``co`de``,
‹a› [‹link›](http://a.b/c_d_e "title") ‹and› ![‹an image›](x_y.png), ‹snake_case_word, 5 * 3 * 2›.
‹see› [‹ref›][one] ‹or [text] only. escaped› \\* ‹star. a hard break›  
‹next line›\\
‹last one› &amp; <b>‹tag›</b> <https://x.y> ‹or› <a@b.c>‹, a note›[^1] ‹at› https://d.e/f_g_h.

> ‹a quote›
> ‹over lines›
‹lazy one›

1. ‹one 1›
   ‹goes on›
2. ‹two›
   - [ ] ‹nested› **‹x›**
   - [x] ‹more›

         code in a list

* * *

‹setext title›
============

| ‹head› | ‹b› \\| ‹c› |
|------|:------:|
| ‹cell one› | `a\\|b` ‹x› \\| ‹d› |
| ‹no› | |
‹no bars› | ‹two›

```python
code block
```

~~~
another
~~~

    indented code
\tand with a tab

<div class="x">
html block
</div>

<!-- a comment -->

[one]: http://ref "Title"
[^1]: ‹the note's text.›

$$
x = y
$$

::: note
{% include x %}
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_markdown_keeps_all_but_its_text(end: str) -> None:
    check(MARKDOWN.replace("\n", end), "x.md")


def test_an_indented_item_keeps_its_place() -> None:
    check(
        "# ‹title›\n\n- ‹save the file.›\n    - ‹print the page.›\n\n          make install\n\n  ‹open the window.›\n‹done.›  \n",
        "x.md",
    )


def test_what_a_translation_brings_is_escaped_in_markdown() -> None:
    assert translated(
        b"One\n\n| a | b |\n|---|---|\n| c | d |\n", "x.md", lambda text: {"One": "1. *x*", "c": "c|d"}.get(text, text)
    ) == (b"1\\. \\*x\\*\n\n| a | b |\n|---|---|\n| c\\|d | d |\n")
    assert translated(b"One", "x.md", lambda _: "# x") == b"\\# x"
    assert translated(b"> one\n> two three", "x.md", lambda _: "a\n\nb c d") == b"> a\n> b c d"


def test_a_short_translation_leaves_no_empty_line() -> None:
    assert translated(b"> one\n> two\n> three\n", "x.md", lambda _: "eins") == b"> eins\n"


HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>‹a title›</title>
<meta name="description" content="‹about› &amp; ‹more›"><meta name="viewport" content="width=device-width">
<script>var a = "<p>b</p>";</script><style>p { color: red }</style></head>
<body class="lower"><!-- a comment -->
<h1>‹hello› <b>‹bold› <i>‹both›</i></b></h1>
<p>‹use› <code>the code</code>‹, then!›
  ‹press› <kbd>x</kbd>‹; it›&nbsp;‹is› <img src=x.png alt="‹an image›"> ‹nice.›<br>
‹next› <span translate="no">Brand</span> ‹x›</p>
<pre>pre <b>stays</b></pre><div translate=no title="no"><p>no</p></div><p class="a notranslate">no</p>
<p lang="fr">bonjour</p><ul><li>‹one›<li>‹two› &lt; ‹3›</ul>
<svg><text>no</text></svg><input type=submit value="‹go on›"><input type="text" value="x" placeholder="‹your name›">
<a href="x" title="‹say x›">‹link›</a><textarea>‹text›</textarea><p>‹5› &lt; ‹6, a›&amp;‹b›</p>
<table><tr><td>‹cell›</td><th>‹head›</th></tr></table><button aria-label="‹close it›">‹x›</button>
</body></html>
"""


def test_html_keeps_all_but_its_text() -> None:
    check(HTML, "x.html")


def test_html_says_the_target_s_language() -> None:
    source = b'<html lang="en-GB"><p lang=en>x</p><p lang="fr">bonjour</p><meta http-equiv=content-language content=en>'
    done = b'<html lang="de"><p lang=de>X</p><p lang="fr">bonjour</p><meta http-equiv=content-language content=de>'
    assert upper(source, "x.html", Pair("en", "de")) == done
    assert upper(b'<html lang="fr"><p>x</p>', "x.html", Pair("en", "de")) == b'<html lang="de"><p>X</p>'


def test_html_in_its_own_encoding() -> None:
    source = '<meta charset="iso-8859-1"><p>größe</p>'.encode("latin-1")
    assert translated(
        source, "x.html", lambda _: "größe €"
    ) == '<meta charset="iso-8859-1"><p>größe &#8364;</p>'.encode("latin-1")


def test_html_with_errors_is_read_as_far_as_it_goes() -> None:
    check("<p>‹a› <b>‹c› <p>‹d›</b></div> <a href=x>‹e›<tr>‹f›", "x.html")
    assert upper(b"<p>a < b", "x.html") == b"<p>A &lt; B"


def test_what_html_could_take_for_markup_is_escaped() -> None:
    assert translated(b'<p title="a">b</p>', "x.html", lambda text: f'<{text}> & "x"') == (
        b'<p title="&lt;a&gt; &amp; &quot;x&quot;">&lt;b&gt; &amp; "x"</p>'
    )


def test_units_are_whole_paragraphs() -> None:
    document = open_document(Path("x.html"), b"<p>One <b>two</b>.<br>Three<div>four</div>", Pair("en", "de"))
    assert texts_of(document) == ["One two.", "Three", "four"]
