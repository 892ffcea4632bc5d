import json
import os
import subprocess
import sys

import pytest
import sacrebleu
from rich.console import Console

from runtime.engines import Generation
from runtime.errors import RequestError
from runtime.evaluate import count_failures, score
from runtime.memory import PeakMemory, read_memory
from runtime.report import print_table, read_run, write_report
from runtime.translate import Translation


def test_scores_are_sacrebleus_and_carry_their_signature() -> None:
    hypotheses, references = ["Die Datei ist offen.", "Guten Tag"], ["Die Datei ist geöffnet.", "Guten Tag"]
    chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references)
    assert chrf == sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert "nw:2" in chrf_signature and "tok:13a" in bleu_signature


def test_each_kind_of_failure_is_counted() -> None:
    done, cut = (Generation((1,), "", finished, 5, 0.1, 0.1) for finished in (True, False))
    outputs = [
        ("One two three four", "", done, "Eins zwei"),
        ("One two three four", "One two three four", done, "Eins zwei drei"),
        ("One", "a b c d " * 5, cut, "a b c d e f g h i j k l"),
        ("One", "x" * 500, done, "Eins"),
        ("Good morning to you", "Guten Morgen", done, "Guten Morgen"),
    ]
    translations = [Translation(source, text.strip(), generation) for source, text, generation, _ in outputs]
    counts = count_failures(translations, [reference for *_, reference in outputs])
    assert counts == {"empty": 1, "unfinished": 1, "copied": 1, "looping": 1, "length": 1}


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
    }  # fmt: skip
    (tmp_path / "bench.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"provenance": {}}) + "\n")
    run = write_report(tmp_path, tmp_path / "report.md", "title")
    text = (tmp_path / "report.md").read_text()
    assert "| 75% cut | llama.cpp | Q4_K_M | 45.6 | 20.0 | 12.3 | 45 | 1000 | 100 |" in text
    assert "| unpruned |" in text and "sig-c" in text and "2 threads" in text and "c\\|d" in text
    console = Console(width=150, record=True, file=open(os.devnull, "w"))
    print_table(run, console)
    assert "sig-b" in console.export_text()


def test_a_run_without_measurements_is_one_sentence(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"no bench\.jsonl"):
        read_run(tmp_path)
