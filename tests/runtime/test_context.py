"""Sentences that are translated after those before them: what the model reads, has written, and what comes back."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.engines import Engine, Request, open_engine
from runtime.engines.scheduler import Scheduler
from runtime.text.pairs import Pair
from runtime.text.sentences import in_one
from runtime.translate.checked import CheckedTranslator
from runtime.translate.files import Job, translate_documents
from runtime.translate.paragraphs import ParagraphTranslator
from runtime.translate.segments import SegmentTranslator, Translation, Try

EN_DE = Pair("en", "de")
BEFORE = (("Save it.", "Sichern Sie sie."), ("Then close it.", "Schließen Sie sie dann <|end|>."))


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def engine(
    request: pytest.FixtureRequest, tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    artefact = tiny_onnx
    if request.param == "gguf":
        from export.gguf import export_gguf

        artefact = export_gguf(tiny_checkpoint, str(tmp_path_factory.mktemp("context") / "model.gguf"), "F32")
    with contextlib.closing(open_engine(artefact, threads=1)) as opened:
        yield opened


class Recording:
    """A scheduler that keeps what is asked of it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self.requests = scheduler, list[Request]()

    def submit(self, request: Request) -> Any:
        self.requests.append(request)
        return self._scheduler.submit(request)


@pytest.fixture
def recording(engine: Engine) -> Iterator[Recording]:
    with contextlib.closing(Scheduler(engine, 1, 1)) as scheduler:
        yield Recording(scheduler)


def test_the_model_reads_what_is_before_and_has_written_its_translation(engine: Engine, recording: Recording) -> None:
    segments = SegmentTranslator(engine, EN_DE, recording, exact=True)  # type: ignore[arg-type]
    done = segments.submit(Try("Open it.", until_loop=False, before=BEFORE)).result()
    (asked,) = recording.requests
    assert list(asked.prompt_ids) == engine.encode(engine.template.prompt(EN_DE, "Save it. Then close it. Open it."))
    written = "Sichern Sie sie. Schließen Sie sie dann <|end|>."
    assert engine.decode(asked.begun) == written and not any(map(engine.is_end, asked.begun))
    (alone,) = [future.result() for future in [recording.submit(replace(asked))]]
    assert alone.token_ids[: len(asked.begun)] == asked.begun
    assert done.generation and done.generation.token_ids == alone.token_ids[len(asked.begun) :]
    assert (done.source, done.text) == (
        "Open it.",
        " ".join(engine.decode(done.generation.token_ids).split("\n")).strip(),
    )


def test_what_the_context_has_no_room_for_is_left_out(engine: Engine, recording: Recording) -> None:
    segments = SegmentTranslator(engine, EN_DE, recording, exact=True)  # type: ignore[arg-type]
    long = "word " * engine.context
    for before, read in (
        (((long, "Wort"), BEFORE[0]), "Save it. Open it."),
        (((long, "Wort"),), "Open it."),
        ((("Save it.", long),), "Open it."),
    ):
        segments.submit(Try("Open it.", before=before)).cancel()
        assert list(recording.requests[-1].prompt_ids) == engine.encode(engine.template.prompt(EN_DE, read))


class Done:
    """A translation in capitals, and a failed one of ``Close it.`` where something is before it."""

    def __init__(self, source: str, before: Any) -> None:
        self.translation = Translation(source, "" if before and source == "Close it." else source.upper(), None)

    def result(self) -> Translation:
        return self.translation


def test_each_sentence_comes_after_those_before_it_and_one_that_fails_so_alone(monkeypatch) -> None:
    translator = CheckedTranslator(None, None)  # type: ignore[arg-type]
    given = list[tuple[str, ...]]()

    def submit(segment: str, before: Any = ()) -> Done:
        given.append((*(source for source, _ in before), segment))
        return Done(segment, before)

    monkeypatch.setattr(translator, "submit", submit)
    done = translator.translate_in_context(["Save it.", "", "Close it.", "Open it.", "Print it."], 2)
    assert [each.text for each in done] == ["SAVE IT.", "", "CLOSE IT.", "OPEN IT.", "PRINT IT."]
    assert given == [
        ("Save it.",), ("Save it.", ""), ("Save it.", "Close it."), ("Close it.",), ("Save it.", "Close it.", "Open it."),
        ("Close it.", "Open it.", "Print it."),
    ]  # fmt: skip


def test_documents_are_no_context_of_each_other(tmp_path: Path) -> None:
    jobs, streams = [], list[list[str]]()
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"Save {name}.\n\nClose {name}.\n")
        jobs.append(Job(tmp_path / f"{name}.txt", tmp_path / f"{name}.de.txt"))

    def translate(texts: Any) -> Iterator[Translation]:
        streams.append([])
        for text in texts:
            streams[-1].append(text)
            yield Translation(text, text.upper(), None)

    for apart, expected in ((True, 2), (False, 1)):
        streams.clear()
        list(translate_documents(jobs, EN_DE, ParagraphTranslator(translate, "en"), lambda *_: None, apart))
        assert len(streams) == expected
        assert (tmp_path / "b.de.txt").read_text() == "SAVE B.\n\nCLOSE B.\n"


@pytest.mark.parametrize(
    ("sentences", "text"),
    [
        (["One."], "One."),
        (["One.", "Two."], "One. Two."),
        (["你好。", "再见。"], "你好。再见。"),
        (["สวัสดี", "ลาก่อน"], "สวัสดีลาก่อน"),
    ],
)
def test_sentences_are_joined_as_their_script_does(sentences: list[str], text: str) -> None:
    assert in_one(sentences) == text
