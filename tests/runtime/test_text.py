"""Pairs, prompts and corpora: what calibration, SFT and the device share."""

import pytest

from runtime.errors import RequestError, WorkError
from runtime.text.corpus import read_segments
from runtime.text.pairs import LANGUAGES, Pair, parse_pair
from runtime.text.prompts import ChatTemplate, instruction

EN_DE = Pair("en", "de")


def test_pairs_are_two_known_languages() -> None:
    assert parse_pair(" EN-de ") == EN_DE
    assert EN_DE.target_name == "German" and str(EN_DE) == "en-de"
    for wrong in ("xx-yy", "en-en", "en", "en-", "en-de-fr", ""):
        with pytest.raises(RequestError, match="not a language pair"):
            parse_pair(wrong)
    assert all(len(code) == 2 for code in LANGUAGES)


def test_a_conversation_is_its_prompt_and_its_completion(tiny_checkpoint) -> None:
    template = ChatTemplate.from_folder(tiny_checkpoint)
    prompt, completion = template.prompt(EN_DE, "Hello."), template.completion(EN_DE, "Hello.", "Hallo.")
    assert prompt.endswith(instruction(EN_DE, "Hello.") + "<|assistant|>")
    assert completion == "Hallo.<|end|>"


def test_a_model_without_a_chat_template_gets_plain_lines() -> None:
    template = ChatTemplate.from_folder(__import__("pathlib").Path("/nonexistent"))
    assert template.prompt(EN_DE, "Hello.") == "Translate into German:\nHello.\n"


def test_a_template_that_refuses_is_one_sentence() -> None:
    with pytest.raises(WorkError, match="chat template"):
        ChatTemplate("{{ raise_exception('no') }}").prompt(EN_DE, "x")


def test_a_template_cannot_reach_python() -> None:
    with pytest.raises(WorkError, match="chat template"):
        ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}").prompt(EN_DE, "x")


def test_tsv_moses_and_po_give_the_same_segments(tmp_path) -> None:
    expected = [("Open file", "Datei öffnen"), ("Close", "Schließen")]
    (tmp_path / "a.tsv").write_text("Open file\tDatei öffnen\textra\n\nClose\tSchließen\n")
    (tmp_path / "b.en").write_text("Open file\nClose\n")
    (tmp_path / "b.de").write_text("Datei öffnen\nSchließen\n")
    (tmp_path / "c.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        'msgid "Open file"\nmsgstr "Datei öffnen"\n\n'
        '#, fuzzy\nmsgid "Save"\nmsgstr "?"\n\nmsgid "Empty"\nmsgstr ""\n\n'
        'msgid "Close"\nmsgstr "Schließen"\n'
    )
    for name in ("a.tsv", "b", "c.po"):
        assert read_segments(tmp_path / name, EN_DE) == expected


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.tsv", b"no tab here\n", "line 1 has no TAB"),
        ("a.tsv", "Öl\tx\n".encode("latin1"), "not UTF-8"),
        ("a.tsv", b"", "holds no en-de segments"),
        ("a.po", b"this is no po file\n", "not a PO file"),
    ],
)
def test_a_bad_corpus_is_one_sentence(name: str, content: bytes, sentence: str, tmp_path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=sentence):
        read_segments(tmp_path / name, EN_DE)


def test_moses_files_of_different_length_are_refused(tmp_path) -> None:
    (tmp_path / "x.en").write_text("a\nb\n")
    (tmp_path / "x.de").write_text("a\n")
    with pytest.raises(RequestError, match="not parallel"):
        read_segments(tmp_path / "x", EN_DE)


def test_a_missing_corpus_says_how_to_give_one_s_own(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no corpus file .*next: .*--corpus my\.tsv.*source TAB target"):
        read_segments(tmp_path / "none", EN_DE)
