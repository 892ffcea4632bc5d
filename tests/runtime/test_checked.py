"""Second tries and marks: numbers and addresses that come through, loops that are stopped, honest repetition that is not."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from runtime.engines import Engine, open_engine
from runtime.engines.base import Request
from runtime.engines.decoding import LOOP_EVERY
from runtime.engines.scheduler import Scheduler
from runtime.text.pairs import Pair
from runtime.text.placeholders import wrong_placeholders
from runtime.text.repetition import is_looping
from runtime.text.sentences import halves_of
from runtime.text.values import lost_values, values
from runtime.translate.checked import CheckedTranslator, translate_checked
from runtime.translate.checks import CheckedTranslation
from runtime.translate.remedies import Remedies
from runtime.translate.segments import SegmentTranslator, Translation, translate
from tests.tiny import write_chain_checkpoint

EN_DE = Pair("en", "de")
SEGMENTS = [
    "Your order no. 4711 will be sent on 12/31/2025.",
    "Please mail to support@example.org before 5 pm.",
    "Send the part AB-1234-X to https://shop.example.org/returns?id=48213.",
    "The file has 48,213 lines and 7 errors.",
    "Save the file.",
]
LOOPING = "Yes, yes, yes, yes, yes, yes, yes, yes, yes!"


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("Open the file, then save it under a new name.", ("Open the file, ", "then save it under a new name.")),
        ("one two three four five six", ("one two three ", "four five six")),
        ("I see https://example.org/a,b,c now and you do", ("I see https://example.org/a,b,c ", "now and you do")),
        ("打开文件，然后保存。", ("打开文件，", "然后保存。")),
        ("Too short", None),
        ("", None),
    ],
)
def test_a_text_is_cut_near_its_middle(text: str, halves: tuple[str, str] | None) -> None:
    assert halves_of(text) == halves


@pytest.mark.parametrize(
    ("text", "source", "loops"),
    [
        ("sehr, sehr, sehr, sehr, sehr, sehr gut", "very, very, very, very, very, very good", False),
        ("| 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |", "| 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |", False),
        ("Die Eingipipipipipipipip", "The input", True),
        ("ja, ja, ja, ja, ja, ja, ja, ja, ja", "Yes, yes!", True),
    ],
)
def test_honest_repetition_is_no_loop(text: str, source: str, loops: bool) -> None:
    assert is_looping(text, source) == loops


@pytest.mark.parametrize(
    ("source", "translation", "wrong"),
    [
        ("Copy %s to {name}", "Kopie {name} von %s", []),
        ("%s of %d", "%d von %s", ["%s", "%d"]),  # printf takes them by their order
        ("%1$s of %2$d", "%2$d von %1$s", []),
        ("%1 of %2", "%2 von %1", []),
        ("Copy %s and %s", "Kopie %s", ["%s"]),
        ("Copy %s", "%s kopieren %s", ["%s"]),
        ("Copy {name}", "Kopie {Name}", ["{name}", "{Name}"]),
        ("Copy it", "Kopie von %s", ["%s"]),
        ("Copy it", "Kopie von /etc/a/b", []),
        ("Write to a@example.org", "An a@example.org, b@example.org", ["b@example.org"]),
    ],
)
def test_placeholders_come_each_as_often_as_in_the_source(source: str, translation: str, wrong: list[str]) -> None:
    assert wrong_placeholders(source, translation) == wrong


@pytest.mark.parametrize(
    ("written", "asked", "text", "remedy"),
    [
        (["Kann {name} nicht in %s oeffnen"], [], "Kann {name} nicht in %s oeffnen", ""),
        (["Kann nicht oeffnen", "X1 in X2 zu"], ["Cannot open X1 in X2"], "{name} in %s zu", "names"),
        (["{Name}", "X1", "Kann nicht oeffnen in"], ["Cannot open in"], "Kann nicht oeffnen {name} in %s", "taken out"),
        (["", "", ""], ["Cannot open in"], "", ""),
    ],
)
def test_placeholders_are_placed_by_the_model_by_names_or_by_place(
    written: list[str], asked: list[str], text: str, remedy: str
) -> None:
    tries = Remedies(None, EN_DE).tries("Cannot open {name} in %s")  # type: ignore[arg-type]
    seen, answer = [next(tries).segment], iter([*written, *[""] * 9])
    done: CheckedTranslation | None = None
    while done is None:
        try:
            seen.append(tries.send(Translation(seen[-1], next(answer), None)).segment)
        except StopIteration as end:
            done = end.value
    assert (done.text, done.remedy) == (text, remedy) and {*asked} <= {*seen}
    assert done.marks == (() if text else ("empty",))


# "files, files, files, ..." for ever, where the comma's second choice is to end; and "files files ..." where there is no other.
CURED = {"<|assistant|>": {" files": 1}, " files": {",": 1}, ",": {" files": 1, ".": 0.6}, ".": {"<|end|>": 1}}
LOST = {"<|assistant|>": {" files": 1}, " files": {" files": 1}}


def opened(kind: str, following: dict[str, dict[str, float]], folder: Path) -> Engine:
    from export.gguf import export_gguf
    from export.onnx import export_onnx

    checkpoint = write_chain_checkpoint(folder / "model", following)
    if kind == "gguf":
        return open_engine(export_gguf(checkpoint, folder / "model.gguf", "F32"), threads=1)
    return open_engine(export_onnx(checkpoint, folder / "onnx-folder", "none"), threads=1)


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def cured(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A model that loops, and ends where that is not allowed."""
    with contextlib.closing(opened(request.param, CURED, tmp_path_factory.mktemp("cured"))) as engine:
        yield engine


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def lost(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A model that loops, and writes anything at all where that is not allowed."""
    with contextlib.closing(opened(request.param, LOST, tmp_path_factory.mktemp("lost"))) as engine:
        yield engine


def test_a_loop_is_stopped_as_it_begins_and_no_tokens_come_twice_where_that_is_asked(cured: Engine) -> None:
    prompt = cured.encode(cured.template.prompt(EN_DE, "Save the file."))
    with contextlib.closing(Scheduler(cured, 1, 3)) as scheduler:
        pending = [
            scheduler.submit(Request(prompt, 100, source="x", **each))
            for each in ({}, {"until_loop": True}, {"no_repeat": 3})
        ]
        whole, stopped, blocked = (each.result(60) for each in pending)
    assert whole.text == " files," * 50 and not whole.finished
    count = len(stopped.token_ids)
    assert not stopped.finished and count % LOOP_EVERY == 0 and stopped.token_ids == whole.token_ids[:count]
    assert is_looping(stopped.text, "x") and not is_looping(cured.decode(whole.token_ids[: count - LOOP_EVERY]), "x")
    assert blocked.text == " files, files,." and blocked.finished


def test_a_loop_is_cured_by_a_second_try(cured: Engine) -> None:
    done, honest = translate_checked(cured, EN_DE, ["Save the file.", "Yes, " * 40])
    assert (done.text, done.remedy, done.marks) == ("files, files,.", "no repeats", ())
    assert honest.remedy != "" and honest.trouble == ""


def test_what_no_remedy_helps_is_marked_and_one_for_one(lost: Engine) -> None:
    texts = ["Save the file 4711 times, and then close it for ever.", "  ", "word " * 2000, "Print."]
    done = list(translate_checked(lost, EN_DE, texts))
    assert [each.source for each in done] == texts
    assert done[1].marks == () and done[1].text == "" and done[2].trouble == "refused" and "split" in done[2].refused
    assert done[0].lost == ("4711",) and {done[0].trouble, done[3].trouble} <= {"looping", "unfinished"}
    assert all(each.said for each in (done[0], done[2], done[3]))
    exact = [each.text for each in translate_checked(lost, EN_DE, texts, exact=True)]
    assert exact == [each.text for each in translate_checked(lost, EN_DE, texts, 1, True)]


def test_a_cancelled_one_ends_with_all_its_tries(lost: Engine) -> None:
    with contextlib.closing(Scheduler(lost, 1, 2)) as scheduler:
        translator = CheckedTranslator(SegmentTranslator(lost, EN_DE, scheduler), Remedies(lost, EN_DE))
        left = translator.submit("Save the file 4711 times, and then close it for ever.")
        assert left.cancel()
        assert translator.submit("Print.").result(60).source == "Print."
        with pytest.raises(CancelledError):
            left.result()
    with pytest.raises(ValueError, match="closed"):
        translator.submit("Print.").result(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q4_K_M", "int4"])
def test_values_come_through_the_default_model(kind: str, tmp_path: Path) -> None:
    import slimmoe

    model = Path(__file__).parents[2] / "models" / "default"
    if kind == "int4":
        artefact = slimmoe.export_onnx(model, tmp_path / "model", kind)
    else:
        artefact = slimmoe.export_gguf(model, tmp_path / "model.gguf", kind)
    with contextlib.closing(open_engine(artefact, threads=1)) as engine:
        before = list(translate(engine, EN_DE, [*SEGMENTS, LOOPING], exact=True))
        after = list(translate_checked(engine, EN_DE, [*SEGMENTS, LOOPING], exact=True))
    assert any(lost_values(values(each.source, "de"), each.text)[0] for each in before[:-1])
    for one, other in zip(before, after):
        assert lost_values(values(other.source, "de"), other.text)[0] == [] and not other.marks
        assert one.text == other.text or other.remedy
    assert is_looping(before[-1].text, LOOPING) or before[-1].trouble == "unfinished"
    assert not is_looping(after[-1].text, LOOPING)
