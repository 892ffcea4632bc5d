"""Whatever is made of a model asks it as calibration did, and says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import slimmoe
from runtime.errors import RequestError
from runtime.formats.artefact import describe
from runtime.formats.gguf_file import GgufFile
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate

ROOT = Path(__file__).parents[2]
OWN = "From {source_name} into {target_name} ({target_code}): {text}"
SENT = "<|user|>From English into German (de): Save it.<|assistant|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts")
    text = "The file is open.\tDie Datei ist offen.\nClose <|end|> it.\tSchließe <|end|> sie.\n"
    (path / "my.tsv").write_text(text, encoding="utf-8")
    return path


def test_what_is_made_by_a_plan_asks_as_calibration_did(tiny_checkpoint: Path, folder: Path) -> None:
    corpus = folder / "my.tsv"
    stats = slimmoe.calibrate(tiny_checkpoint, "en-de", corpus, prompt=OWN)
    usual = slimmoe.calibrate(tiny_checkpoint, "en-de", corpus)
    assert stats.calibration["prompt"]["user"] == OWN
    assert stats.calibration["prompt_tokens"] != usual.calibration["prompt_tokens"]
    cut = slimmoe.prune(tiny_checkpoint, slimmoe.make_plan(stats, 0.5), folder / "cut")
    recovered = folder / "recovered"
    told = slimmoe.recover(cut, "en-de", recovered, corpus, corpus, steps=1)
    assert told["prompt"]["user"] == OWN
    gguf = slimmoe.export_gguf(recovered, folder / "small.gguf", "F32", "en-de", corpus)
    onnx = slimmoe.export_onnx(recovered, folder / "onnx", "none")
    for each in (cut, recovered, gguf, onnx):
        assert slimmoe.prompt(each, "Save it.").prompt == SENT
    for artefact in (gguf, onnx):
        engine = slimmoe.open_engine(artefact, threads=1)
        assert engine.template.prompt(Pair("en", "de"), "Save it.") == SENT
        engine.close()
    checks = [slimmoe.verify(cut, tiny_checkpoint, corpus=corpus), slimmoe.verify(gguf, recovered, corpus=corpus)]
    assert all(check.passed for check in checks), checks
    assert OWN in GgufFile(gguf).get("slimmoe.prompt")
    modelfile = gguf.with_suffix(".Modelfile").read_text(encoding="utf-8")
    assert "<|user|>From English into German (de): {{ .Prompt }}<|assistant|>" in modelfile


def test_an_unpruned_model_keeps_its_prompt_and_stays_unpruned(tiny_checkpoint: Path, folder: Path) -> None:
    for artefact in (
        slimmoe.export_gguf(tiny_checkpoint, folder / "whole.gguf", "F32", prompt=OWN),
        slimmoe.export_onnx(tiny_checkpoint, folder / "whole", "int8", prompt=OWN),
        slimmoe.export_onnx(tiny_checkpoint, folder / "whole", "int4", prompt=OWN),
    ):
        assert slimmoe.prompt(artefact, "Save it.").prompt == SENT
        assert slimmoe.prompt(artefact, "Save it.", prompt="Now: {text}").prompt == "<|user|>Now: Save it.<|assistant|>"
        assert describe(artefact)["provenance"] == {}
    with pytest.raises(RequestError, match="something else"):
        slimmoe.export_onnx(tiny_checkpoint, folder / "whole", "none")
    whole = slimmoe.calibrate(
        folder / "whole.gguf", "en-de", folder / "my.tsv"
    )  # special tokens of its segment are text
    assert whole.calibration["prompt"]["user"] == OWN
    other = slimmoe.calibrate(tiny_checkpoint, "en-de", folder / "my.tsv", prompt=OWN)
    assert whole.calibration["prompt_tokens"] == other.calibration["prompt_tokens"]


def test_the_prompt_verb_shows_what_is_sent_and_where_it_stops(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "slimmoe", "prompt", str(tiny_checkpoint), "--pair", "en-zh-hant", "Save it."]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    expected = ChatTemplate.from_folder(tiny_checkpoint).prompt(Pair("en", "zh-Hant"), "Save it.")
    assert shown.stdout == f"{expected}\n"
    assert "stopped at: <|end|>" in shown.stderr
    told = json.loads(subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert (told["prompt"] + "\n", told["stops"]) == (shown.stdout, ["<|end|>"])


def test_a_byte_order_mark_is_no_text(tiny_onnx: Path, tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"  # no documents, which would be written beside them
    plain.write_bytes("Save it.\nClose\u2028it.\n".encode())
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    command = [sys.executable, "-m", "slimmoe", "translate", str(tiny_onnx), "--pair", "en-de", "--threads", "1"]
    command += ["--exact"]  # else a line's last digits depend on whether the other had been read when it began
    texts = [
        subprocess.run(each, cwd=ROOT, capture_output=True, stdin=given, check=True).stdout
        for each, given in (
            ([*command, str(plain)], None), ([*command, str(marked)], None),
            (command, plain.open("rb")), (command, marked.open("rb")),
        )
    ]  # fmt: skip
    assert texts[0].count(b"\n") == 2 and texts == texts[:1] * 4
