"""Pairs, prompts and corpora: what calibration, SFT and the device share; and segments in the order of their source."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from runtime.engines import open_engine
from runtime.errors import RequestError, WorkError
from runtime.text.corpus import SHIPPED, read_moses, read_segments
from runtime.text.corpus_check import check_segments
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompts import ChatTemplate, instruction
from runtime.translate.segments import LOOK_AHEAD, translate

EN_DE = Pair("en", "de")


def test_pairs_are_two_known_languages() -> None:
    assert parse_pair(" EN-de ") == EN_DE
    assert EN_DE.target_name == "German" and str(EN_DE) == "en-de"
    for wrong in ("xx-yy", "en-en", "en", "en-", "en-de-fr", ""):
        with pytest.raises(RequestError, match="not a language pair"):
            parse_pair(wrong)


def test_a_conversation_is_its_prompt_and_its_completion(tiny_checkpoint) -> None:
    template = ChatTemplate.from_folder(tiny_checkpoint)
    prompt, completion = template.prompt(EN_DE, "Hello."), template.completion(EN_DE, "Hello.", "Hallo.")
    assert prompt.endswith(instruction(EN_DE, "Hello.") + "<|assistant|>")
    assert completion == "Hallo.<|end|>"


def test_a_model_without_a_chat_template_gets_plain_lines() -> None:
    template = ChatTemplate.from_folder(Path("/nonexistent"))
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


def test_a_missing_corpus_says_how_to_give_one_s_own(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no corpus file .*next: .*--corpus my\.tsv.*source TAB target"):
        read_segments(tmp_path / "none", EN_DE)


# All that str.splitlines takes for a line's end besides LF and CRLF.
SEPARATORS = ("\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1d", "\x1e", "\r")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_only_lf_and_crlf_end_a_line(separator: str, tmp_path) -> None:
    sides = {"en": [f"Save.{separator}Close.", "Open."], "de": ["Speichern. Schließen.", f"Öff{separator}nen."]}
    for code, lines in sides.items():
        (tmp_path / f"x.{code}").write_bytes("\r\n".join(lines).encode())
    (tmp_path / "x.tsv").write_bytes("".join(f"{a}\t{b}\n" for a, b in zip(*sides.values())).encode())
    assert (
        read_segments(tmp_path / "x", EN_DE) == read_segments(tmp_path / "x.tsv", EN_DE) == list(zip(*sides.values()))
    )


def _write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def german() -> list[tuple[str, str]]:
    return read_moses(SHIPPED / "dev", EN_DE)


@pytest.mark.parametrize(
    "header", [("source", "target"), ("en", "de"), ("English", "German"), ("eng_Latn", "deu_Latn")]
)
def test_a_header_is_refused_and_the_command_takes_it_off(header: tuple[str, str], german, tmp_path) -> None:
    with pytest.raises(RequestError, match="header") as refused:
        read_segments(_write(tmp_path / "x.tsv", [header, *german]), EN_DE)
    assert refused.value.next_command == f"tail -n +2 {tmp_path}/x.tsv > x.new.tsv"


def test_wrong_columns_and_languages_are_refused(german, tmp_path) -> None:
    numbered = [(str(i), *segment) for i, segment in enumerate(german)]
    swapped = [(target, source) for source, target in german]
    untranslated = [(source, source) for source, _ in german]
    for rows, sentence, command in (
        (numbered, "numbers where its English", "cut -f2,3"), (swapped, "is swapped", "awk"),
        (untranslated, "targets .* should be German, .*English", "head"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=sentence) as refused:
            read_segments(_write(tmp_path / "x.tsv", rows), EN_DE)
        assert (refused.value.next_command or "").startswith(command)
    _write(tmp_path / "y.en", [(target,) for _, target in german])
    _write(tmp_path / "y.de", [(source,) for source, _ in german])
    with pytest.raises(RequestError, match="is swapped"):
        read_segments(tmp_path / "y", EN_DE)


def test_a_few_segments_in_another_language_only_warn(german, tmp_path, caplog) -> None:
    path = _write(tmp_path / "x.tsv", [(target, source) for source, target in german[:15]])
    assert len(read_segments(path, EN_DE)) == 15 and "is swapped" in caplog.text


def test_our_own_sets_are_what_they_should_be_in_every_direction(caplog) -> None:
    for name in ("calibration", "dev", "test", "daily"):
        for source, target in permutations(("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ru"), 2):
            pair = Pair(source, target)
            check_segments(read_moses(SHIPPED / name, pair), pair, SHIPPED / name)
    assert not caplog.text


def test_a_translation_comes_before_the_next_segment_is_read(tiny_onnx) -> None:
    """As in a dialogue over pipes; afterwards what reading raises is raised where its segment would have come."""
    arrived = threading.Event()

    def segments() -> Iterator[str]:
        yield "One."
        assert arrived.wait(60)
        yield "Two."
        raise RequestError("no more")

    with contextlib.closing(open_engine(tiny_onnx, threads=1)) as engine:
        results = translate(engine, EN_DE, segments())
        assert next(results).source == "One."
        arrived.set()
        assert next(results).source == "Two."
        with pytest.raises(RequestError, match="no more"):
            next(results)
        refused, done = translate(engine, EN_DE, ["word " * 2000, "Two."])
        assert "split the text" in refused.refused and refused.in_place == "" and done.text and not done.refused


def test_translating_reads_a_few_segments_ahead_and_stops_when_it_is_closed(tiny_onnx) -> None:
    read = itertools.count()
    segments = (f"File {next(read)}." for _ in itertools.repeat(None))
    with contextlib.closing(open_engine(tiny_onnx, threads=1)) as engine:
        with contextlib.closing(translate(engine, EN_DE, segments, workers=2, exact=True)) as results:
            assert [result.source for result in itertools.islice(results, 3)] == ["File 0.", "File 1.", "File 2."]
        assert next(read) <= 3 + 2 * LOOK_AHEAD + 2
        assert engine.generate(engine.encode("Hello."), 4).token_ids
