"""Graphs with activations in float16, which a processor computes as well: onnxruntime puts casts around what it lacks.

What they are for, CUDA's experts and attention, is not run here.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.onnx import export_onnx
from export.onnx.graph import _MIXERS
from prune.families import load_family
from runtime.engines.base import Feed
from runtime.engines.onnx import OnnxEngine
from runtime.errors import RequestError
from runtime.formats.onnx_folder import FILES, HALF_SUFFIXES
from tests.export.test_onnx_families import KNOWN, write
from tests.tiny import write_tiny_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 500, 40)]


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """As a share of the spread; the median over positions, since a router that is nearly undecided may choose otherwise."""
    return float(np.median(np.sqrt(((found - expected) ** 2).mean(1)) / expected.std(1)))


@pytest.mark.parametrize("family", KNOWN)
def test_it_computes_nearly_the_same(family: str, tmp_path: Path) -> None:
    source = write(family, tmp_path / "model")
    decoder = load_family(family).decoder
    assert decoder
    export_onnx(source, tmp_path / "onnx", "none")
    if _MIXERS.keys() & decoder.layer.keys():
        with pytest.raises(RequestError, match="keep a state"):
            export_onnx(source, tmp_path / "onnx", "fp16", activations="fp16")
        return
    export_onnx(source, tmp_path / "onnx", "fp16", activations="fp16")
    wide, half = (OnnxEngine(tmp_path / "onnx" / "onnx" / name, threads=1) for name in ("model.onnx", "model_f16.onnx"))
    expected = wide.logits(IDS)
    for found, rows in ((half.logits(IDS), expected), (half.decoded_logits(IDS[:20], IDS[20:]), expected[20:])):
        assert 0 < off(found, rows) < 0.01


@pytest.mark.parametrize("quant", HALF_SUFFIXES)
def test_all_but_the_router_is_float16(quant: str, tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    folder = export_onnx(tiny_checkpoint, tmp_path / "onnx", quant, activations="fp16")
    path = folder / "onnx" / f"model{HALF_SUFFIXES[quant]}.onnx"
    onnx.checker.check_model(str(path))
    graph = onnx.load(path, load_external_data=False).graph
    wide = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    assert wide == {f"{layer}.router.weight.transposed" for layer in (0, 1)}
    types = {each.name: each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}
    cache = {kind for name, kind in types.items() if name.startswith(("past", "present"))}
    assert (cache, types["logits"]) == ({TensorProto.FLOAT16}, TensorProto.FLOAT)
    exact, wide, half = (
        OnnxEngine(each, threads=1).logits(IDS)
        for each in (tiny_onnx / "onnx" / "model.onnx", tiny_onnx / "onnx" / FILES[quant], path)
    )
    assert off(half, exact) < 1.2 * off(wide, exact) + 0.01 and off(half, wide) > 0


def test_a_batch_of_it_writes_the_same(tiny_checkpoint: Path, tmp_path: Path) -> None:
    engine = OnnxEngine(export_onnx(tiny_checkpoint, tmp_path / "onnx", "fp16", activations="fp16"), threads=1)
    alone = [engine.prefill(IDS[:size], 64).copy() for size in (9, 14)]
    together = engine.batch(2, 64).evaluate([Feed(place, IDS[:size]) for place, size in enumerate((9, 14))])
    assert np.allclose(together, alone, atol=1e-2)


@pytest.mark.parametrize("quant", ["none", "int4"])
def test_routers_are_products_that_every_provider_has(quant: str, tiny_onnx: Path) -> None:
    name = {"none": "model.onnx", "int4": "model_q4.onnx"}[quant]
    nodes = onnx.load(tiny_onnx / "onnx" / name, load_external_data=False).graph.node
    assert {node.op_type for node in nodes if node.output[0].endswith(".router")} == {"MatMul"}
    assert "FusedMatMul" not in {node.op_type for node in nodes} or quant == "none"


@pytest.mark.parametrize("provider", ["webgpu", "cuda"])
def test_genai_is_told_its_provider_and_that_graph(provider: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = export_onnx(tiny_checkpoint, tmp_path / "onnx", "int4")
    export_onnx(tiny_checkpoint, folder, "int4", activations="fp16", provider=provider)
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    assert decoder["session_options"]["provider_options"] == [{provider: {}}]
    assert decoder["filename"] == "onnx/model_q4f16.onnx"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quant": "none", "activations": "fp16"}, "none keeps all in float32"),
        ({"activations": "bf16"}, "no activations in bf16"),
        ({"provider": "qnn"}, "not for qnn"),
        ({"provider": "cuda"}, "CUDA has experts and attention in float16 alone"),
    ],
)
def test_what_there_is_not_is_told(options: dict, sentence: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=sentence):
        export_onnx(tiny_checkpoint, tmp_path / "onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_an_encoder_has_none(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "model", "nllb_moe")
    with pytest.raises(RequestError, match="with an encoder"):
        export_onnx(source, tmp_path / "onnx", "int4", activations="fp16")
