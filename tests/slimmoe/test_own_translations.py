"""The unpruned model as its own teacher: source text in, a corpus out."""

import contextlib
import json
from pathlib import Path

import pytest
import torch

from export.gguf import export_gguf
from prune.checkpoint import Checkpoint
from prune.generate import generate
from prune.gguf_model import GgufModel
from runtime.engines import Generation, open_engine
from runtime.errors import RequestError, WorkError
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.translate.segments import Translation, translate
from slimmoe import own_translations as own
from slimmoe.own_translations import dev_file, failures_of, own_translations

PAIR, MODEL = Pair("en", "de"), Path("models/default")


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return [source for source, _ in read_segments(Path("data/dev"), PAIR)][:24]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> GgufModel:
    return GgufModel(export_gguf(MODEL, tmp_path_factory.mktemp("own") / "default.gguf", "Q8_0", "none"))


@pytest.fixture(scope="module")
def expected(gguf: GgufModel, sentences: list[str]) -> list[str]:
    with contextlib.closing(open_engine(gguf.source)) as engine:
        return [done.text for done in translate(engine, PAIR, sentences, exact=True)]


def test_what_is_written_is_what_the_model_says(
    gguf: GgufModel, sentences: list[str], expected: list[str], tmp_path: Path
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "own.tsv"
    source.write_text("\n".join([*sentences, "", sentences[0]]) + "\n")  # blank lines and repeats are not translated
    about = own_translations(gguf, PAIR, source, output, quiet=True)
    kept, held_out = read_segments(output, PAIR), read_segments(dev_file(output), PAIR)
    assert set(kept + held_out) <= set(zip(sentences, expected)) and not set(kept) & set(held_out)
    assert len(kept) + len(held_out) == about["kept"] and len(held_out) == about["held_out"] == 3
    assert about["kept"] + sum(about["failures"].values()) == about["sentences"] == len(set(sentences))
    assert json.loads(output.with_suffix(".json").read_text()) == about
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "own-dev.tsv", "own.json", "own.tsv"]


def test_a_stopped_run_translates_only_what_is_left(
    gguf: GgufModel, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "own.tsv"
    source.write_text("\n".join(sentences))
    asked: list[str] = []

    def counted(engine, pair, lines, exact):
        for number, done in enumerate(translate(engine, pair, lines, exact=exact)):
            if number == 10 and len(asked) == 10:
                raise KeyboardInterrupt
            asked.append(done.source)
            yield done

    monkeypatch.setattr(own, "translate", counted)
    with pytest.raises(KeyboardInterrupt):
        own_translations(gguf, PAIR, source, output, quiet=True)
    with open(tmp_path / ".own.tsv.partial", "a") as file:
        file.write('\n["half')
    own_translations(gguf, PAIR, source, output, quiet=True)
    assert asked == sentences


def test_a_checkpoint_translates_through_a_file_that_does_not_stay(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Random weights translate nothing: that is told, and nothing stands under the final names."""
    source, output = tmp_path / "in.txt", tmp_path / "own.tsv"
    source.write_text("One sentence.\nAnother sentence.\n")
    with pytest.raises(WorkError, match="no teacher for itself"):
        own_translations(Checkpoint(tiny_checkpoint), PAIR, source, output, quiet=True)
    assert not output.exists() and not dev_file(output).exists()
    with pytest.raises(RequestError, match="no sentences"):
        empty = tmp_path / "empty.txt"
        empty.write_text("\n\n")
        own_translations(Checkpoint(tiny_checkpoint), PAIR, empty, output, quiet=True)


def test_batches_of_the_checkpoint_itself_say_what_it_says_alone(sentences: list[str]) -> None:
    """What a GPU runs, on the processor: padding changes nothing."""
    device = torch.device("cpu")
    alone = [done.text for done in generate(MODEL, PAIR, sentences[:4], device, batch=1)]
    assert [done.text for done in generate(MODEL, PAIR, sentences[:4], device, batch=4)] == alone
    assert all(alone)


@pytest.mark.parametrize(
    ("source", "text", "failures"),
    [
        ("Open the file now.", "Öffnen Sie jetzt die Datei.", set()),
        ("Open the file now.", "", {"empty"}),
        ("Open the file now.", "Open the file now.", {"copied"}),
        ("Open the file now.", "Ja\n\nnein", {"several lines"}),
        ("Open the file now.", "die Datei und " * 40, {"looping", "length"}),
        ("Please open the file with the editor.", "Por favor abra el archivo con el editor.", {"wrong language"}),
    ],
)
def test_failures_show_without_a_reference(source: str, text: str, failures: set[str]) -> None:
    generation = Generation((), text, True, 1, 0.0, 0.0)
    assert failures_of(Translation(source, text, generation), "de") == failures
