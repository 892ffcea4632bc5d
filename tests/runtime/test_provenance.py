"""Where a model comes from survives the way through folders and GGUF files, older forms included."""

import json
from pathlib import Path

import pytest

from runtime.errors import WorkError
from runtime.formats.provenance import FILE, Provenance, Recovery, gguf_provenance, read_provenance, write_provenance

PLAN = {"format": "slimmoe-plan/1", "hash": "4a49", "pair": "en-de", "ratio": 0.75, "top_k": 4, "layers": [], "seed": 7}
SQUARES = Recovery("least-squares", 150, 150, "models/default", {"seconds": 3.5})
SFT = Recovery("full", 400, 320, details={"corpus": "train.tsv"})


def test_a_folder_keeps_the_plan_s_fields_and_the_chain_of_recoveries(tmp_path: Path) -> None:
    written = Provenance.from_dict(PLAN).after(SQUARES).after(SFT)
    write_provenance(tmp_path, written)
    assert read_provenance(tmp_path) == written and written.recoveries == (SQUARES, SFT)
    assert PLAN.items() <= json.loads((tmp_path / FILE).read_text()).items()
    assert read_provenance(tmp_path / "elsewhere") is None


def test_the_older_form_names_the_newest_recovery_first(tmp_path: Path) -> None:
    nested = PLAN | {"recovery": SFT.to_dict() | {"after": SQUARES.to_dict()}}
    (tmp_path / FILE).write_text(json.dumps(nested))
    assert read_provenance(tmp_path) == Provenance.from_dict(PLAN).after(SQUARES).after(SFT)


def test_a_gguf_file_names_the_chain_and_an_older_one_only_that_there_was_sft() -> None:
    keys = Provenance.from_dict(PLAN).after(SQUARES).after(SFT).gguf_keys()
    assert keys["slimmoe.recoveries"] == "least-squares:150 + full:400" and keys["slimmoe.recovered"] is True
    found = gguf_provenance(Path("x.gguf"), keys.get)
    assert found and [(each.name, each.steps) for each in found.recoveries] == [("least squares", 150), ("SFT", 400)]
    assert (found.hash, found.pair, found.ratio) == ("4a49", "en-de", 0.75)
    older = gguf_provenance(Path("x.gguf"), {"slimmoe.recovered": True}.get)
    assert older and older.recoveries == (Recovery("full"),)
    assert gguf_provenance(Path("x.gguf"), {}.get) is None
    with pytest.raises(WorkError, match="pair is not text"):
        gguf_provenance(Path("x.gguf"), {"slimmoe.pair": 3}.get)
    with pytest.raises(WorkError, match="control characters"):
        gguf_provenance(Path("x.gguf"), {"slimmoe.pair": "\x1b[2J"}.get)


def test_a_recovery_on_own_translations_is_named_for_what_it_is_wherever_it_is_read() -> None:
    own = Recovery("full", 400, 380, details={"text": "own translations"})
    assert own.name == "sequence distillation" and Recovery.from_dict(own.to_dict()) == own
    keys = Provenance.from_dict(PLAN).after(own).gguf_keys()
    read = gguf_provenance(Path("x.gguf"), keys.get)
    assert read and [(each.name, each.steps) for each in read.recoveries] == [("sequence distillation", 400)]
    assert Recovery.from_dict(own.summary()).name == own.name  # in a row of bench.jsonl
