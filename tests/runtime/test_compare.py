import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from runtime.errors import RequestError
from runtime.measure.compare import RESAMPLES, compare, keep_hypotheses
from runtime.measure.rows import Row, finished_rows, join_rows

REFERENCES = (Path(__file__).parents[2] / "runtime/text/data" / "test.de").read_text(encoding="utf-8").splitlines()


def spoiled(share: float, seed: int = 0) -> list[str]:
    """The references with that share of their words replaced."""
    random = np.random.default_rng(seed)
    return [" ".join("xyz" if random.random() < share else word for word in line.split()) for line in REFERENCES]


def row(name: str, hypotheses: list[str], ratio: float, **facts) -> dict:
    made = {
        "provenance": {"ratio": ratio} if ratio else {},
        "pair": "en-de",
        "type": "Q4_K_M",
        "engine": "llama.cpp 0.3.36",
    }
    return made | {"artefact": f"{name}.gguf", "hypotheses": hypotheses, "references": REFERENCES} | facts


@pytest.fixture
def compared(tmp_path):
    def run(*rows: dict) -> list[dict]:
        return compare([keep_hypotheses(one, tmp_path) for one in rows], tmp_path)

    return run


def test_a_model_against_itself_differs_by_nothing(compared) -> None:
    _, same = compared(row("a", spoiled(0.3), 0), row("b", spoiled(0.3), 0.75))
    found = same["against_unpruned"]
    assert found["chrf_delta"] == found["chrf_low"] == found["chrf_high"] == found["bleu_delta"] == 0
    assert found["chrf_p"] == found["bleu_p"] == found["share"] == 1


def test_a_clear_loss_is_significant_and_two_models_of_one_kind_are_not(compared) -> None:
    base, worse, alike = compared(
        row("a", spoiled(0.3), 0), row("b", spoiled(0.5), 0.75), row("c", spoiled(0.3, seed=1), 0.5)
    )
    assert "against_unpruned" not in base and base["chrf_interval"][0] < base["chrf_interval"][1]
    loss = worse["against_unpruned"]
    assert loss["chrf_low"] <= loss["chrf_delta"] <= loss["chrf_high"] < 0 and loss["chrf_p"] < 0.01 > loss["bleu_p"]
    assert loss["share"] < 0.9 and loss["base"] == "a.gguf"
    noise = alike["against_unpruned"]
    assert noise["chrf_low"] < 0 < noise["chrf_high"] and noise["chrf_p"] > 0.05


def test_the_numbers_are_those_of_sacrebleus_paired_bootstrap(compared) -> None:
    systems = [("base", spoiled(0.30)), ("pruned", spoiled(0.31, seed=2))]
    metrics = {"chrF": CHRF(word_order=2), "BLEU": BLEU()}
    signatures, told = PairedTest(systems, metrics, [REFERENCES], test_type="bs", n_samples=RESAMPLES)()
    base, pruned = compared(row("base", systems[0][1], 0), row("pruned", systems[1][1], 0.5))
    found = pruned["against_unpruned"]
    for key, metric in (("chrf", "chrF2++"), ("bleu", "BLEU")):
        assert str(signatures[metric]) == pruned[f"{key}_signature"]
        (theirs_base, theirs), ours = told[metric], found
        assert ours[f"{key}_p"] == pytest.approx(theirs.p_value, abs=1e-4)
        assert 0.002 < ours[f"{key}_p"] < 1  # not just the smallest one of 1000 resamples
        assert ours[f"{key}_delta"] == pytest.approx(theirs.score - theirs_base.score, abs=0.006)
    for one, result in zip((base, pruned), told["chrF2++"], strict=True):
        low, high = one["chrf_interval"]
        assert (high - low) / 2 == pytest.approx(result.ci, abs=0.011) and low < result.mean < high


def test_the_sacrebleu_command_reads_the_stored_files(compared, tmp_path) -> None:
    (one,) = compared(row("base", spoiled(0.3), 0))
    command = [sys.executable, "-m", "sacrebleu", one["references"], "-i", one["hypotheses"], "-m", "chrf", "-b"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "--chrf-word-order", "2", "-w", "4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | path,
    )
    expected = CHRF(word_order=2).corpus_score(spoiled(0.3), [REFERENCES]).score
    assert float(done.stdout) == pytest.approx(expected, abs=1e-4)


def test_only_rows_of_one_kind_are_compared_and_nothing_is_written_over(compared, tmp_path) -> None:
    rows = compared(
        row("a/model", spoiled(0.3), 0),
        row("b/model", spoiled(0.4), 0.5, type="Q8_0"),
        row("c/model", spoiled(0.4), 0.5, engine="onnxruntime 1.32.0"),
        row("d/model", spoiled(0.4)[:50], 0.5, references=REFERENCES[:50]),
        row("e/model", spoiled(0.2), 0, provenance={"ratio": 0, "recovered": True}),
        {"artefact": "old.gguf", "chrf": 40.0},
    )
    assert ["against_unpruned" in one for one in rows] == [False] * 4 + [True, False]
    assert rows[-1] == {"artefact": "old.gguf", "chrf": 40.0} and compare(rows, tmp_path) == rows
    assert len({one["hypotheses"] for one in rows[:5]}) == 5 and rows[0]["references"] == rows[1]["references"]
    assert (tmp_path / rows[0]["hypotheses"]).read_text(encoding="utf-8").splitlines() == spoiled(0.3)


def test_rows_join_a_file_and_take_the_place_of_the_same_run(tmp_path) -> None:
    path, artefact = tmp_path / "bench.jsonl", tmp_path / "home" / "a.gguf"
    artefact.parent.mkdir()
    artefact.write_bytes(b"GGUF")
    facts: Row = {"artefact": "home/a.gguf", "type": "Q8_0", "pair": "en-de", "threads": 1, "test": "t"}
    swept: Row = facts | {"run": "a Q8_0", "model": "a", "chrf": 1.0}
    path.write_text(json.dumps(swept) + "\n" + '{"artefact": "killed wh')
    anew: Row = facts | {"artefact": str(artefact), "chrf": 2.0}
    others: list[Row] = [anew | {"threads": 2}, anew | {"pair": "de-en"}, anew | {"memory_limit_bytes": 5}]
    assert join_rows(path, [anew, *others]) == finished_rows(path) == [swept | {"chrf": 2.0}, *others]


@pytest.mark.parametrize(
    "content", [b"GGUF\3\0\0\0", b"\x7b\xff\xfe", b"a letter\n", b'{\n "format": "slimmoe-plan/1"\n}\n']
)
def test_rows_do_not_take_the_place_of_another_file(content, tmp_path) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(RequestError):
        join_rows(tmp_path / "m.gguf", [{"artefact": "a"}])
    assert (tmp_path / "m.gguf").read_bytes() == content


def test_missing_and_changed_files_are_one_sentence(compared, tmp_path) -> None:
    (one,) = compared(row("a", spoiled(0.3), 0))
    file = tmp_path / one["hypotheses"]
    file.write_text(file.read_text(encoding="utf-8") + "one more\n", encoding="utf-8")
    with pytest.raises(RequestError, match="not one line for each line"):
        compare([one], tmp_path)
    file.write_bytes(b"\xff\n")
    with pytest.raises(RequestError, match="cannot be read as UTF-8"):
        compare([one], tmp_path)
    file.unlink()
    with pytest.raises(RequestError, match=r"is not there.*\n  next: slimmoe bench a\.gguf --pair en-de"):
        compare([one], tmp_path)
