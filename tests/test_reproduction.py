"""The paper's experiment on a tiny random model: every part runs, goes on, and becomes tables and a picture."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import reproduction, reproduction_report
from runtime.errors import RequestError
from runtime.measure.compare import compare
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from tests.tiny import write_tiny_checkpoint

PAIRS = [Pair("en", "de"), Pair("de", "en")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files as the recipe's corpus has them, of a few segments of data/."""
    rows = read_segments(Path("data/calibration"), PAIRS[0])
    for split, segments in (("train", rows[:60]), ("dev", rows[60:64]), ("test", rows[64:70])):
        lines = (f"{source}\t{target}\tdata\tcalibration\n" for source, target in segments)
        (tmp_path / f"en-de.{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_every_part_is_measured_once_and_told(corpus, tiny_checkpoint, tmp_path, monkeypatch) -> None:
    few = {"RATIOS": (0.5, 0.75), "CRITERIA": ("gate", "random"), "SEEDS": (0, 1), "SIZES": (3,)}
    few |= {"PAPERS_RATIOS": (0.5, 0.875), "RECOVERED_RATIOS": (0.75, 0.0, 0.5), "SHARED_RATIOS": (0.5,)}
    few |= {"TRANSFER": (("de-en", "en-de"), ("en-de", "de-en"))}  # another order is another plan
    for name, value in few.items():
        monkeypatch.setattr(reproduction, name, value)
    monkeypatch.setattr(reproduction, "LONG_RATIOS", (0.75,))
    monkeypatch.setattr(reproduction, "REFIT_RATIOS", (0.75, 0.5))
    trials = reproduction.Reproduction(tiny_checkpoint, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    trials.run(["curve"])
    before = trials.rows.read_text()
    trials.run([part for part in reproduction.PARTS if part != "own"])  # a random model is no teacher
    assert trials.rows.read_text().startswith(before)
    rows = [json.loads(line) for line in trials.rows.read_text().splitlines()]
    count = {part: sum(row["part"] == part for row in rows) for part in reproduction.PARTS}
    assert count == {
        "curve": 2 * (1 + 2 * 3 + 1), "recovered": 6, "methods": 4, "own": 0, "shared": 2, "transfer": 2, "segments": 2,
    }  # fmt: skip
    assert all(row["failed"] <= row["segments"] and row["chrf_failures_empty"] <= row["chrf"] + 1 for row in rows)

    assert not any(str(tmp_path / "out") in json.dumps(row["provenance"]) for row in rows)
    compared = compare(rows, trials.folder)
    random = [row["chrf"] for row in compared if row["artefact"].startswith("en-de random 0.75")]
    curve = reproduction_report.curve(compared).splitlines()
    assert f"{sum(random) / 2:.1f} ± " in curve[4] and curve[4].split(" | ")[2] == "random"
    keeps = [row["keep"] for row in compared if row["artefact"] in ("en-de gate 0.5", "de-en gate 0.5")]
    both = sum(len({*a} & {*b}) / len({*a} | {*b}) for a, b in zip(*keeps)) / len(keeps[0])
    assert f"| en-de and de-en | {both:.2f} |" in reproduction_report.overlap(compared)
    assert reproduction_report.segments(compared).splitlines()[2].startswith("| 3 | ")
    ways = [line.split(" | ")[1] for line in reproduction_report.methods(compared).splitlines()[2:]]
    assert ways[:4] == ["nothing", "SFT", "least squares + 2 x SFT", "least squares"] and len(ways) == 7
    assert "en-de + de-en" in reproduction_report.shared(compared).splitlines()[0]
    claims = reproduction_report.claims(compared).splitlines()
    assert len(claims) == 8 and claims[2].endswith("of 2 |") and claims[3].endswith("0 of 0 |")
    assert claims[7].startswith("| nothing cut, after SFT |") and "-" not in claims[7].split(" | ")[2]
    part = [row for row in compared if row["part"] == "curve" and row["pair"] == "en-de"]
    assert all(table(part) for table in reproduction_report.TABLES.values())
    mended = [row | {"new": True} for row in compared if row["part"] == "recovered"]
    merged = reproduction_report.with_known(
        mended, [*compared, {"artefact": "other", "fingerprint": "of another model"}]
    )
    assert [row["artefact"] for row in merged] == [row["artefact"] for row in compared]
    assert sum("new" in row for row in merged) == len(mended) == 6
    reproduction_report.draw(part, tmp_path / "curve.png")
    reproduction_report.draw(compared, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_plan_from_source_text_alone_is_told_beside_one_from_references(corpus, tmp_path) -> None:
    trials = reproduction.Reproduction(Path("models/default"), corpus, tmp_path / "out", PAIRS[:1], steps=1, threads=1)
    trials.run(["own"])
    rows = compare([json.loads(line) for line in trials.rows.read_text().splitlines()], trials.folder)
    assert [row["artefact"] for row in rows] == [
        "en-de unpruned",
        "en-de gate 0.75 by references",
        "en-de gate 0.75 by references + SFT",
        "en-de gate 0.75 by own translations",
        "en-de gate 0.75 by own translations + SFT",
    ]
    assert rows[4]["provenance"]["recoveries"][0]["corpus"] == "own.tsv"
    told = reproduction_report.own(rows).splitlines()
    assert [line.split(" | ")[0] for line in told[2:]] == ["| references", "| own translations"] and "-" not in told[3][
        20:
    ]


def test_rows_of_another_model_are_not_mixed(corpus, tiny_checkpoint, tmp_path) -> None:
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    reproduction.Reproduction(model, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    with pytest.raises(RequestError, match="steps"):
        reproduction.Reproduction(model, corpus, tmp_path / "out", PAIRS, steps=2, threads=1)
    shutil.rmtree(model)
    write_tiny_checkpoint(model, seed=1)
    with pytest.raises(RequestError, match="weights"):
        reproduction.Reproduction(model, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)


def test_half_a_row_of_a_killed_process_is_measured_again(corpus, tiny_checkpoint, tmp_path) -> None:
    trials = reproduction.Reproduction(tiny_checkpoint, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    trials.rows.write_text('{"artefact": "en-de unpruned"}\n{"artefact": "de-en unpr')
    trials = reproduction.Reproduction(tiny_checkpoint, corpus, tmp_path / "out", PAIRS, steps=1, threads=1)
    assert trials.rows.read_text() == '{"artefact": "en-de unpruned"}\n'
