"""A plan that says which tokens stay, too: what is cut by it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import slimmoe
from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.rewrite import prune
from prune.vocabulary.selection import Amount, Selection
from runtime.errors import RequestError
from runtime.formats.artefact import provenance_of
from slimmoe.runs import check_variant
from slimmoe.variants import Recovery, Variant
from tests.prune.test_vocabulary import EN_DE
from tests.warm_command import run_command


@pytest.fixture(scope="module")
def plan(wide_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "few.tsv").write_text("The file is open.\tDie Datei ist offen.\n", encoding="utf-8")
    stats = folder / "stats.safetensors"
    slimmoe.calibrate(wide_checkpoint, "en-de", folder / "few.tsv", stats)
    done = run_command(
        "plan", str(stats), "--ratio", "0.5", "--vocabulary", "4096", "-o", str(folder / "plan.json"), seconds=60
    )
    assert done.status == 0 and "4096 of 12288 tokens stay" in done.output, done
    return folder / "plan.json"


def test_a_plan_cuts_tokens_with_the_experts(wide_checkpoint: Path, plan: Path, tmp_path: Path) -> None:
    known = Plan.load(plan)
    tokens = Selection.from_dict(known.vocabulary)
    assert tokens.to_dict() == known.vocabulary and len(tokens.keep) == 4096
    without = Plan(**{**vars(known), "vocabulary": {}})
    assert without.hash == known.hash
    small, same = slimmoe.prune(wide_checkpoint, plan, tmp_path / "a"), tmp_path / "b"
    prune(wide_checkpoint, without, same, vocabulary=tokens)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == {
        path.name: path.read_bytes() for path in same.iterdir()
    }
    assert Plan.of_checkpoint(small) == known
    assert Checkpoint(small).config["vocab_size"] == 4096 and {*Checkpoint(small).moe_layers.values()} == {4}
    fewer = slimmoe.prune(wide_checkpoint, plan, tmp_path / "c", vocabulary="2048")
    assert provenance_of(fewer).tokens == (2048, 12288)


@pytest.mark.parametrize(
    "wrong",
    [{"keep": "5-3"}, {"keep": "0-4094"}, {"keep": 7}, {"after": 0}, {"covered": 2}, {"before": 4095}, {"pair": None}],
)
def test_a_plan_with_a_damaged_vocabulary_is_refused(wrong: dict[str, Any], plan: Path, tmp_path: Path) -> None:
    stored = json.loads(plan.read_text())
    (tmp_path / "plan.json").write_text(json.dumps(stored | {"vocabulary": stored["vocabulary"] | wrong}))
    with pytest.raises(RequestError, match="is no plan that can be followed"):
        Plan.load(tmp_path / "plan.json")


def test_a_variant_that_cannot_be_is_refused_at_once(wide_checkpoint: Path) -> None:
    for vocabulary, recoveries, said in (
        ("half", (), "no size of a vocabulary"),
        ("0.5", (Recovery("least-squares"),), "cannot learn from one that has all"),
        ("0.5", (Recovery(teach=True),), "cannot learn from one that has all"),
    ):
        variant = Variant(wide_checkpoint, EN_DE, ratio=0.5, recoveries=recoveries, vocabulary=vocabulary)
        with pytest.raises(RequestError, match=said):
            check_variant(variant, ("F16",))


def test_a_share_of_an_unread_text_is_refused() -> None:
    assert [Amount.parse(text).share_of(1000) for text in ("250", "0.25", "9999")] == [0.25, 0.25, 1.0]
    with pytest.raises(RequestError, match="depends on a text"):
        Amount.parse("coverage=0.99").share_of(1000)
