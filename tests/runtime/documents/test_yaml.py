"""YAML and Fluent: what changes is the text, and nothing else."""

from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import DE, check, texts_of, translated, upper

YAML = """%YAML 1.1
---
# a comment: stays
title: ‹the title›   # another
quoted: "‹say› \\"‹x›\\" ‹and› \\u00e9\\n‹next›"
single: '‹it''s here›'
number: 12
yes: yes
empty:
null: ~
date: 2020-01-02
key: some.key
base: &base
  name: &n ‹a name›
  double: &d !!str "‹quoted›"
  block: &e |
    ‹block›
  list: [‹one›, "‹two›", 3, {deep: ‹three›}]
other:
  <<: *base
  again: *base
literal: |
  ‹first line›
    ‹indented›

  ‹last line›
folded: >-
  ‹one paragraph›

  ‹another one›
tagged: !!str ‹text›
custom: !thing stays
? complex key
: ‹value›
- not: here
"""


def test_yaml_keeps_comments_anchors_and_styles() -> None:
    source = YAML.replace("- not: here\n", "list:\n- ‹item one›\n-   ‹item two›\n").replace("\\u00e9", "")
    check(source, "x.yaml")
    check(source.replace("\n", "\r\n"), "x.yml")


def test_folded_lines_are_one_text() -> None:
    source = b'a: >\n  this is\n  one text\n\n  two\nb: plain\n  over lines\nc: "quoted\n  over lines"\n'
    texts = texts_of(open_document(Path("x.yaml"), source, DE))
    assert texts == ["this is one text", "two", "plain over lines", "quoted over lines"]
    assert (
        upper(source, "x.yaml") == b'a: >\n  THIS IS ONE TEXT\n\n  TWO\nb: PLAIN OVER LINES\nc: "QUOTED OVER LINES"\n'
    )


@pytest.mark.parametrize(
    "text", ["yes", "a: b", "# c", "- x", "12", "[x", "@x", "null", "a #b", "x:", "'", '"', "\\", "*a", "-x", "a, b]"]
)
def test_a_plain_scalar_stays_a_string(text: str) -> None:
    import yaml

    for source in (b"a: plain\nb: c\n", b"a: [plain, d]\nb: c\n", b"a: 'plain'\nb: c\n", b'a: "plain"\nb: c\n'):
        done = translated(source, "x.yaml", lambda each: text if each == "plain" else each)
        value = yaml.safe_load(done)["a"]
        assert (value[0] if isinstance(value, list) else value) == text


def test_the_language_at_the_top_is_the_target_s() -> None:
    assert upper(b"en:\n  a: b\n", "x.yml", Pair("en", "de")) == b"de:\n  a: B\n"


FTL = """# a comment
### another

-brand = ‹the brand›
save = ‹save the file›
    .title = ‹a title›
    .accesskey = s
hello = ‹hello,› { $name }‹!›
files = { $count ->
    [one] ‹one file›
   *[other] { $count } ‹files›
}
mixed = ‹you have› { $count ->
    [one] ‹one file›
   *[other] ‹many files›
  } ‹now.›
lines =
    ‹first line.›
    ‹second line.›

    ‹third.›
quoted = { "{" }‹braces›{ "}" }
date = { DATETIME($d, month: "long") } ‹at› { -brand }
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fluent_keeps_placeables_and_keys(end: str) -> None:
    check(FTL.replace("= s\n", "= ‹s›\n").replace("\n", end), "x.ftl")


def test_braces_in_a_translation_are_no_placeables() -> None:
    assert translated(b"a = x\n", "x.ftl", lambda _: "[y {z}") == b'a = {"["}y {"{"}z{"}"}\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.yaml", b"a: [b"),
        ("x.yaml", b"a: 'b"),
        ("x.yaml", b"a:\n\t- b"),
        ("x.yaml", b"a: *b"),
        ("x.yaml", b"[" * 5_000),
        ("x.yaml", b"\xff"),
        ("x.ftl", b"a = { $b\n"),
        ("x.ftl", b"= b\n"),
    ],
)
def test_a_damaged_file_is_one_sentence(name: str, data: bytes) -> None:
    with pytest.raises(RequestError, match=r"^x\."):
        open_document(Path(name), data, DE)
