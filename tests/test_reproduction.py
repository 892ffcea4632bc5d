"""The paper's experiment on a tiny random model: every part runs, goes on, and becomes tables and a picture."""

import json
from pathlib import Path

import pytest

from benchmarks import reproduction, reproduction_report
from runtime.compare import compare
from runtime.corpus import read_segments
from runtime.pairs import Pair

PAIRS = [Pair("en", "de"), Pair("de", "en")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files as the recipe's corpus has them, of a few segments of data/."""
    rows = read_segments(Path("data/calibration"), PAIRS[0])
    for split, segments in (("train", rows[:60]), ("dev", rows[60:64]), ("test", rows[64:70])):
        lines = (f"{source}\t{target}\tdata\tcalibration\n" for source, target in segments)
        (tmp_path / f"en-de.{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_every_part_is_measured_once_and_told(corpus, tiny_checkpoint, tmp_path, monkeypatch) -> None:
    for name, few in {"RATIOS": (0.5, 0.75), "CRITERIA": ("gate", "random"), "SEEDS": (0, 1), "SIZES": (3,)}.items():
        monkeypatch.setattr(reproduction, name, few)
    monkeypatch.setattr(reproduction, "SHARED_RATIOS", (0.5,))
    trials = reproduction.Reproduction(tiny_checkpoint, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    trials.run(["curve"])
    before = trials.rows.read_text()
    trials.run(list(reproduction.PARTS))
    assert trials.rows.read_text().startswith(before)
    rows = [json.loads(line) for line in trials.rows.read_text().splitlines()]
    count = {part: sum(row["part"] == part for row in rows) for part in reproduction.PARTS}
    assert count == {"curve": 2 * (1 + 2 * 3), "recovered": 4, "shared": 2, "segments": 1}

    compared = compare(rows, trials.folder)
    random = [row["chrf"] for row in compared if row["artefact"].startswith("en-de random 0.75")]
    curve = reproduction_report.curve(compared).splitlines()
    assert f"{sum(random) / 2:.1f} ± " in curve[4] and curve[4].split(" | ")[2] == "random"
    keeps = [row["keep"] for row in compared if row["artefact"] in ("en-de gate 0.5", "de-en gate 0.5")]
    both = sum(len({*a} & {*b}) for a, b in zip(*keeps)) / sum(map(len, keeps[0]))
    assert f"| en-de and de-en | {both:.0%} |" in reproduction_report.overlap(compared)
    assert "| 3 |" in reproduction_report.segments(compared)
    assert "en-de + de-en" in reproduction_report.shared(compared).splitlines()[0]
    claims = reproduction_report.claims(compared).splitlines()
    assert len(claims) == 6 and claims[2].endswith("of 2 |") and claims[3].endswith("0 of 0 |")
    reproduction_report.draw(compared, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_rows_of_another_model_are_not_mixed(corpus, tiny_checkpoint, tmp_path) -> None:
    trials = reproduction.Reproduction(tiny_checkpoint, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    trials.rows.write_text(json.dumps({"fingerprint": "another", "artefact": "en-de unpruned"}) + "\n")
    with pytest.raises(SystemExit, match="another folder"):
        trials.run(["curve"])
