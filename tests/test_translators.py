"""Other translators beside ours: scored by kind of text, and never mixed up with what was only published."""

from pathlib import Path

from benchmarks.translators import kinds_of, measure, pivot, published, scored, table
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair

PAIR, DAILY = Pair("en", "de"), Path("data/daily")


def test_a_set_is_scored_as_a_whole_and_by_kind() -> None:
    segments = read_segments(DAILY, PAIR)
    kinds = kinds_of(DAILY, len(segments))
    right_for_shops = [b if kind == "shop" else a for (a, b), kind in zip(segments, kinds, strict=True)]
    rows = {row["kind"]: row for row in scored(right_for_shops, segments, kinds, PAIR.target)}
    assert list(rows) == ["all", "cooking", "health", "letters", "shop", "travel"]
    assert rows["shop"]["chrf"] == 100 and rows["shop"]["segments"] == 20 and rows["travel"]["chrf"] < 30
    assert rows["travel"]["chrf"] < rows["all"]["chrf"] < 100


def test_a_translator_is_measured_in_a_process_of_its_own(tiny_onnx) -> None:
    rows = measure("tiny", tiny_onnx, 1_500_000, PAIR, DAILY, 2)
    assert rows[0]["kind"] == "all" and rows[0]["segments"] == 2 and rows[0]["size_mb"] == 1.5
    assert rows[0]["ms"] > 0 and rows[0]["peak_mb"] > 5 and rows[0]["measured"]


def test_published_systems_are_told_as_such(tmp_path) -> None:
    (tmp_path / "x.en").write_text("Good morning.\nGood night.\n", encoding="utf-8")
    (tmp_path / "x.de").write_text("Guten Morgen.\nGute Nacht.\n", encoding="utf-8")
    outputs = tmp_path / "tiny"
    outputs.mkdir()
    (outputs / "en-de.de").write_text("Guten Morgen.\nGute Nacht.\n", encoding="utf-8")
    (tmp_path / "t.tsv").write_text("pair\tsystem\tBLEU\tCOMET-22\nen-de\tbig\t42.3\t0.9\nde-en\tbig\t1.0\t0.1\n")
    rows = published(PAIR, tmp_path / "x", outputs, tmp_path / "t.tsv", None)
    assert [(row["system"], row.get("chrf"), row["measured"]) for row in rows] == [
        ("tiny (its outputs)", 100.0, False), ("big", None, False),
    ]  # fmt: skip
    assert "| *big* |  | 42.3 |" in table(rows)
    assert pivot(rows).splitlines()[2:] == [f"| en-de | {tmp_path.name}/x | all | 100.0 |"]
    assert pivot(rows, "bleu").splitlines()[3] == f"| en-de | {tmp_path.name}/x | whole |  | 42.3 |"
