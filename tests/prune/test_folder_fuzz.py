"""Whatever a folder's JSON files hold, reading it is right or one sentence: never a traceback, a hang or a large allocation."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.capabilities import formats_of
from export.fit import fit
from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.rewrite.shape import check_plan, cut_shape
from prune.tokenizer import check_tokenizer
from runtime.errors import SlimmoeError
from runtime.formats.model_folder import INDEX
from tests.prune.test_cut import plan_for

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 10), st.sampled_from([1 << 31, 1 << 63, 10**9, 10**30, -1]),
    st.floats(), st.text(max_size=3), st.sampled_from(["qwen3_moe", "gpt_oss", "silu", "default", "yarn"]),
    st.lists(st.one_of(st.integers(-1, 9), st.text(max_size=2), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["rope_type", "factor", "a", "quant_method"]), st.integers(-1, 9), max_size=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose JSON files may be written over, with ``.json.whole`` copies of those."""
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    return folder


@contextlib.contextmanager
def changed(path: Path, change: Any) -> Any:
    whole = path.read_text(encoding="utf-8")
    try:
        value = json.loads(whole)
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")
        yield
    finally:
        path.write_text(whole, encoding="utf-8")


def look_into(folder: Path, plan: Plan) -> None:
    """All that verbs do with a folder before they load weights or start another program."""
    try:
        checkpoint = Checkpoint(folder)
        check_tokenizer(folder)
        formats_of(checkpoint)
        check_plan(checkpoint, plan)
        cut_shape(checkpoint, plan)
        fit(checkpoint, 1 << 33)
    except SlimmoeError as error:
        assert error.sentence.strip() and "\n" not in error.sentence.strip()


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(data=st.data())
def test_a_config_of_any_values(model: Path, tiny_checkpoint: Path, data: st.DataObject) -> None:
    keys = [*json.loads((model / "config.json").read_text()), "kv_lora_rank", "n_group", "quantization_config"]
    found = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, min_size=1, max_size=2))
    gone = data.draw(st.lists(st.sampled_from(keys), max_size=1))

    def change(values: dict[str, Any]) -> None:
        values.update(found)
        for key in gone:
            values.pop(key, None)

    plan = plan_for(tiny_checkpoint, *[[0, 1, 2]] * 2)
    with changed(model / "config.json", change):
        look_into(model, plan)


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("name", [INDEX, "tokenizer.json", "tokenizer_config.json"])
def test_another_file_of_any_values(name: str, model: Path, tiny_checkpoint: Path, data: st.DataObject) -> None:
    def change(values: dict[str, Any]) -> None:
        at: Any = values
        for _ in range(data.draw(st.integers(0, 2))):
            inner = [key for key, value in at.items() if isinstance(value, dict) and value]
            if not inner:
                break
            at = at[data.draw(st.sampled_from(sorted(inner)))]
        at[data.draw(st.sampled_from(sorted(at)[:20]))] = data.draw(VALUES)

    plan = plan_for(tiny_checkpoint, *[[0, 1, 2]] * 2)
    with changed(model / name, change):
        look_into(model, plan)
