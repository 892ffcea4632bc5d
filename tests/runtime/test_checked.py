"""Second tries and marks: numbers and addresses that come through, loops that are stopped, honest repetition that is not."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from runtime.engines import Engine, open_engine
from runtime.engines.decoding import LOOP_EVERY
from runtime.engines.scheduler import Request, Scheduler
from runtime.text.pairs import Pair
from runtime.text.repetition import is_looping
from runtime.text.values import lost_values, values
from runtime.translate.checked import CheckedTranslator, halves_of, translate_checked
from runtime.translate.segments import SegmentTranslator, translate

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


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def random_engine(request: Any, tiny_onnx: Path, tiny_checkpoint: Path, tmp_path_factory: Any) -> Iterator[Engine]:
    """A model that writes anything at all, and does not end."""
    from export.gguf import export_gguf

    artefact = tiny_onnx / "onnx" / "model.onnx"
    if request.param == "gguf":
        artefact = export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("checked") / "model.gguf", "F32")
    with contextlib.closing(open_engine(artefact, threads=1)) as engine:
        yield engine


def test_no_tokens_come_twice_where_that_is_asked(random_engine: Engine) -> None:
    with contextlib.closing(Scheduler(random_engine, 1, 2)) as scheduler:
        prompt = random_engine.encode("Save the file.")
        free = scheduler.submit(Request(prompt, 150, False)).result(60).token_ids
        blocked = scheduler.submit(Request(prompt, 150, False, no_repeat=2)).result(60).token_ids
    pairs = list(zip(blocked, blocked[1:]))
    assert len(pairs) == len({*pairs}) == 149 and blocked[:2] == free[:2]
    assert len({*zip(free, free[1:])}) < 149


def test_a_loop_is_stopped_as_it_begins(random_engine: Engine) -> None:
    with contextlib.closing(Scheduler(random_engine, 1, 2)) as scheduler:
        prompt = random_engine.encode("Save the file.")
        whole = scheduler.submit(Request(prompt, 400, source="x")).result(60)
        stopped = scheduler.submit(Request(prompt, 400, source="x", until_loop=True)).result(60)
    count = len(stopped.token_ids)
    assert is_looping(whole.text, "x") and not stopped.finished and count < 400 and count % LOOP_EVERY == 0
    assert stopped.token_ids == whole.token_ids[:count] and is_looping(stopped.text, "x")
    assert not is_looping(random_engine.decode(whole.token_ids[: count - LOOP_EVERY]), "x")


def test_what_no_remedy_helps_is_marked_and_one_for_one(random_engine: Engine) -> None:
    texts = ["Save the file 4711 times, and then close it for ever.", "  ", "word " * 2000, "Print."]
    done = list(translate_checked(random_engine, EN_DE, texts))
    assert [each.source for each in done] == texts
    assert done[1].marks == () and done[1].text == "" and done[2].trouble == "refused" and "split" in done[2].refused
    for each in (done[0], done[3]):
        wrong = each.generation is None or not each.generation.finished or is_looping(each.text, each.source)
        assert bool(each.marks) >= wrong and (each.said != "") == bool(each.marks)
    exact = list(translate_checked(random_engine, EN_DE, texts, exact=True))
    assert [each.text for each in exact] == [
        each.text for each in translate_checked(random_engine, EN_DE, texts, 1, True)
    ]


def test_a_cancelled_one_ends_with_all_its_tries(random_engine: Engine) -> None:
    with contextlib.closing(Scheduler(random_engine, 1, 2)) as scheduler:
        translator = CheckedTranslator(SegmentTranslator(random_engine, EN_DE, scheduler), EN_DE)
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
