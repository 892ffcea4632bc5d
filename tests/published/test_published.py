"""Published checkpoints, shrunk, each through the whole way: calibrate, plan, prune, reload, export, verify, translate, fit.

A representative dozen runs always, with one ratio and one type of each format; all of them, with all types, are slow.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

import export.verify
import slimmoe
from export.capabilities import formats_of
from export.gguf.convert import inexactness
from prune.checkpoint import Checkpoint
from tests.published.shrink import CONFIGS, write_twin

NAMES = sorted(path.name.removesuffix(".json") for path in CONFIGS.glob("*.json"))
DOZEN = (
    *("deepseek-v3-fp8", "gemma-4-26b-a4b", "glm-4.7-flash", "gpt-oss-20b", "granite-4.0-h-tiny", "hunyuan-a13b"),
    *("hy-mt2-30b-a3b", "k-exaone-236b-a23b", "kimi-k2-instruct", "nemotron-3-nano-30b-a3b", "qwen3-vl-30b-a3b"),
    "qwen3.5-35b-a3b",
)
TEXT, TOKENS = "data/dev", 300


@pytest.fixture(scope="module", autouse=True)
def few_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.verify, "SEGMENTS", 3)
        yield


def whole_way(name: str, room: Path, ratios: tuple[float, ...], gguf: tuple[str, ...], onnx: tuple[str, ...]) -> str:
    """What came of it, in one line."""
    twin = write_twin(name, room / "twin")
    stats = slimmoe.calibrate(twin, "en-de", TEXT, tokens=TOKENS)
    told = _quantised(twin)
    for ratio in ratios:
        plan = slimmoe.make_plan(stats, ratio)
        cut = slimmoe.prune(twin, plan, room / f"cut{ratio:g}")
        exact = slimmoe.verify(cut, twin, corpus=TEXT)
        assert exact.passed and _quantised(cut) == _quantised(twin), exact
        told.append(f"{ratio:g}: {exact.numbers.largest_difference:.1e}" if exact.numbers else f"{ratio:g}")
    checkpoint = Checkpoint(cut)
    able = formats_of(checkpoint)
    for kind in gguf:
        if refusal := able.refusal(kind):
            assert checkpoint.family.gguf.refused or checkpoint.family.gguf.fixed
            told.append(f"{kind}: {refusal.sentence}")
            continue
        told.append(_artefact(slimmoe.export_gguf(cut, room / f"{kind}.gguf", kind), cut, kind == "F32"))
    for kind in onnx:
        if refusal := able.refusal(kind):
            assert checkpoint.family.onnx_refused and checkpoint.family.decoder is None
            told.append(f"onnx {kind}: {refusal.sentence}")
            continue
        told.append(_artefact(slimmoe.export_onnx(cut, room / f"onnx-{kind}", kind), cut, kind == "none"))
    choices = slimmoe.fit(twin, "8G").choices
    assert all(choice.file_bytes > 0 for choice in choices)
    return f"{name}: {', '.join(told)}, fit {len(choices)}"


def _quantised(folder: Path) -> list[str]:
    """How the weights in a folder are stored, where config.json says that they are quantised."""
    checkpoint = Checkpoint(folder)
    dtypes = {
        checkpoint.tensors[part].dtype
        for each in checkpoint.floats.values()
        for part in each.parts.values()
        if each.format
    }
    assert bool(dtypes) == bool(checkpoint.stored_config.get("quantization_config"))
    return [f"{checkpoint.quantisation.label} as {'+'.join(sorted(dtypes))}"] if checkpoint.quantisation else []


def _artefact(artefact: Path, cut: Path, exact: bool) -> str:
    nearly = artefact.suffix == ".gguf" and inexactness(Checkpoint(cut))
    if exact:
        found = slimmoe.verify(artefact, cut, corpus=TEXT)
        assert found.passed, found
    (text,) = slimmoe.translate(artefact, ["The file is open."], "en-de")
    assert isinstance(text, str)
    return f"{artefact.name} {nearly or 'equal' if exact else 'runs'}"


@pytest.mark.parametrize("name", DOZEN)
def test_a_representative_dozen_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    print(whole_way(name, tmp_path, (0.5,), ("F32",), ("int4",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_published_checkpoint_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    print(whole_way(name, tmp_path, (0.5, 0.9), ("F32", "Q4_K_M"), ("none", "int4")))
