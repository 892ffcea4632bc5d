from pathlib import Path

import pytest

from prune.checkpoint import Checkpoint
from prune.cut import prune
from prune.plan import Plan
from prune.recover import recover
from runtime.errors import RequestError
from runtime.pairs import Pair
from tests.prune.test_cut import plan_for

EN_DE = Pair("en", "de")


def test_recovery_lowers_the_dev_loss_and_keeps_the_plan(tiny_checkpoint, tmp_path: Path) -> None:
    plan = plan_for(tiny_checkpoint, [0, 1, 2, 3], [4, 5, 6, 7])
    prune(tiny_checkpoint, plan, tmp_path / "cut")
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("The file is open.\tDie Datei ist offen.\n" * 8)
    about = recover(tmp_path / "cut", EN_DE, corpus, corpus, tmp_path / "out", steps=10, quiet=True)
    assert about["dev_loss_after"] < about["dev_loss_before"] - 0.5
    assert Plan.load(tmp_path / "out" / "slimmoe.json") == plan
    assert Checkpoint(tmp_path / "out").moe_layers == {0: 4, 1: 4}
    assert Checkpoint(tmp_path / "out").fingerprint != Checkpoint(tmp_path / "cut").fingerprint
    with pytest.raises(RequestError, match="exists already"):
        recover(tmp_path / "cut", EN_DE, corpus, corpus, tmp_path / "out", steps=1, quiet=True)
