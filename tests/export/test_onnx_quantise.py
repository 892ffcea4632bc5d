"""What the files hold is what the operators' documentation says, and ONNX Runtime computes with just that."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from export.onnx import BLOCKS, export_onnx
from export.onnx.blocks import Blocks, quantise
from export.onnx.graph import build_graph
from export.onnx.quantise import Blockwise
from export.onnx.weights import ALIGNMENT, Weights
from prune.checkpoint import Checkpoint
from prune.loading import load_model
from runtime.errors import RequestError
from runtime.formats.onnx_folder import FILES
from tests.export.test_onnx import IDS, reference, rewritten, torch_logits
from tests.tiny import write_tiny_checkpoint

KINDS = [Blocks(bits, size, zeros) for bits in (4, 8) for size in BLOCKS for zeros in (False, True)]


def unpacked(packed: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """Integers [..., columns] of bytes that hold them lowest bits first."""
    parts = [packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)[..., :columns].astype(np.float32)


def dequantised(integers: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, bits: int) -> np.ndarray:
    """``(integer - zero point) * scale`` of tensors as the operators take them: rows last but one, blocks last."""
    blocks, size = scales.shape[-1], integers.shape[-1] * 8 // bits // scales.shape[-1]
    values = unpacked(integers, bits, blocks * size).reshape(*scales.shape, size)
    offsets = 2.0 ** (bits - 1) if zeros is None else unpacked(zeros, bits, blocks)[..., None]
    return ((values - offsets) * scales.astype(np.float32)[..., None]).reshape(*scales.shape[:-1], -1)


class Graph:
    """A written graph: its nodes and the values of its initialisers, casts followed back to what is stored."""

    def __init__(self, path: Path) -> None:
        self.graph = onnx.load(str(path)).graph
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.casts = {node.output[0]: node.input[0] for node in self.graph.node if node.op_type == "Cast"}

    def values(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.stored[self.casts.get(name, name)])

    def weight(self, node: onnx.NodeProto, places: tuple[int, int, int], bits: int) -> np.ndarray:
        """Dequantised from the inputs at the places of integers, scales and zero points."""
        integers, scales = (self.values(node.input[place]) for place in places[:2])
        zeros = self.values(node.input[places[2]]) if len(node.input) > places[2] else None
        return dequantised(integers.reshape(*scales.shape[:-1], -1), scales, zeros, bits)


def set_weights(model: Any, path: Path) -> None:
    """Give a transformers model the weights of a graph."""
    read, layers, found = Graph(path), model.model.layers, 0
    projections = {"qkv": ("q_proj", "k_proj", "v_proj"), "attention_output": ("o_proj",)}
    for node in read.graph.node:
        numbers = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "GatherBlockQuantized":
            values = {model.model.embed_tokens.weight: read.weight(node, (0, 2, 3), numbers["bits"])}
        elif node.op_type == "MatMulNBits":
            layer, _, role = node.output[0].partition(".")
            if layer == "logits":  # tied
                continue
            modules = [getattr(layers[int(layer)].self_attn, name) for name in projections[role]]
            rows = np.cumsum([module.weight.shape[0] for module in modules])
            parts = np.split(read.weight(node, (1, 2, 3), numbers["bits"]), rows[:-1])
            values = {module.weight: part for module, part in zip(modules, parts, strict=True)}
        elif node.op_type == "QMoE":
            bits, experts = numbers["expert_weight_bits"], layers[int(node.output[0].split(".")[0])].mlp.experts
            up, down = read.weight(node, (2, 3, 11), bits), read.weight(node, (5, 6, 12), bits)
            turns = np.concatenate((up[:, 0::2], up[:, 1::2]), axis=1)  # transformers has all gates first
            values = {experts.gate_up_proj: turns, experts.down_proj: down}
        else:
            continue
        found += len(values)
        for parameter, value in values.items():
            parameter.data.copy_(torch.from_numpy(value))
    assert found == 1 + len(layers) * 6


def session_logits(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    past = [value for value in session.get_inputs() if value.name.startswith("past")]
    feeds = {value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32) for value in past}
    ids = np.array([IDS])
    return np.asarray(session.run(["logits"], feeds | {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0])[0]


def write(folder: Path, storage: Blockwise, path: Path) -> Path:
    weights = Weights(f"{path.name}_data")
    model = build_graph(Checkpoint(folder), storage, weights)
    weights.write(path.parent / weights.location)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_quantised_experts_and_layers_equal_transformers_with_the_weights_of_the_file(tiny_checkpoint, tmp_path, kind):
    """Experts of 8 bits have no kernel for float32 activations: there the other weights are put to the test."""
    experts = kind if kind.bits == 4 else Blocks(4, kind.size)
    path = write(tiny_checkpoint, Blockwise(experts, kind, kind, accuracy_level=0), tmp_path / "model.onnx")
    onnx.checker.check_model(str(path))
    model = reference(tiny_checkpoint)
    set_weights(model, path)
    assert np.abs(session_logits(path) - torch_logits(model)).max() <= 1e-4


@pytest.mark.parametrize("size", BLOCKS)
def test_8_bit_experts_round_activations_and_nothing_else(tiny_checkpoint, tmp_path, size):
    """One token, one QMoE node: off by what rounding inputs to 8 bits costs, and not by a wrong layout's error."""
    path = write(tiny_checkpoint, Blockwise(*[Blocks(8, size)] * 3, accuracy_level=0), tmp_path / "model.onnx")
    model = reference(tiny_checkpoint)
    set_weights(model, path)
    difference, logits = session_logits(path) - torch_logits(model), torch_logits(model)
    assert np.median(np.abs(difference)) <= 0.03 * logits.std()  # not the maximum: routers may be undecided


def test_fp16_equals_transformers_with_rounded_weights(tiny_checkpoint, tiny_onnx):
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.endswith("mlp.gate.weight"):
            parameter.data.copy_(parameter.data.half().float())
    path = tiny_onnx / "onnx" / FILES["fp16"]
    assert np.abs(session_logits(path) - torch_logits(model)).max() <= 1e-4


def test_weights_beyond_float16_are_refused(tiny_checkpoint, tmp_path):
    large = rewritten(tiny_checkpoint, tmp_path / "large", lambda t: t["model.embed_tokens.weight"].fill_(1e6))
    with pytest.raises(RequestError, match="beyond float16's range"):
        export_onnx(large, tmp_path / "onnx", "fp16")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("zero_points", [False, True])
def test_int4_keeps_attention_at_8_bits(tiny_checkpoint, tmp_path, zero_points):
    folder = export_onnx(tiny_checkpoint, tmp_path / "onnx", "int4", zero_points=zero_points)
    graph = Graph(folder / "onnx" / FILES["int4"]).graph
    nodes, zeros = graph.node, {each.name for each in graph.initializer if each.name.endswith(".zeros")}
    assert {name.rpartition(".weight")[0].rpartition(".")[2] for name in zeros} == (
        {"embedding", "up", "down"} if zero_points else set()
    )
    bits = {
        (node.op_type, node.output[0].rpartition(".")[2], attribute.i)
        for node in nodes
        for attribute in node.attribute
        if attribute.name in ("bits", "expert_weight_bits")
    }
    assert bits == {
        ("GatherBlockQuantized", "embedding", 4),
        ("MatMulNBits", "qkv", 8),
        ("MatMulNBits", "attention_output", 8),
        ("MatMulNBits", "logits", 4),
        ("QMoE", "experts", 4),
    }


# Plain rounding of normally distributed weights to the largest in a block of 32 has 0.0074 at 4 bits.
@pytest.mark.parametrize(
    ("kind", "bar"),
    [
        (Blocks(4), 0.0067),
        (Blocks(4, zero_points=True), 0.0060),
        (Blocks(4, 128), 0.0098),
        (Blocks(4, 128, zero_points=True), 0.0092),
        (Blocks(8), 3e-5),
        (Blocks(8, 128), 4.5e-5),
    ],
    ids=str,
)
def test_quantisation_error_is_that_of_good_rounding(kind, bar):
    weights = np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)
    integers, scales, *zeros = quantise(weights, kind)
    error = dequantised(integers, scales, zeros[0] if zeros else None, kind.bits) - weights
    assert (error**2).mean() <= bar


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_quantisation_keeps_what_it_can_express(kind):
    """Multiples of a power of two over the whole range, blocks of zeros, and values of one sign."""
    weights = np.zeros((3, 3 * kind.size), np.float32)  # three blocks to a row: the last zero point fills half a byte
    weights[0, :16] = np.arange(-8, 8) * 0.25
    weights[1, -kind.size :] = 0.5
    integers, scales, *zeros = quantise(weights, kind)
    found = dequantised(integers, scales, zeros[0] if zeros else None, kind.bits)
    # A step is 0.25 at 4 bits: what is off by less was not rounded to another integer.
    assert np.abs(found - weights).max() <= 0.02


@pytest.mark.parametrize(("columns", "size"), [(1024, 256), (384, 128), (2880, 64), (96, 32), (80, 256)])
def test_the_largest_blocks_that_divide_a_row(columns: int, size: int) -> None:
    assert Blocks(8, 256).dividing(columns) == Blocks(8, size)


@pytest.mark.parametrize(
    ("block", "sentence"), [(64, "no blocks of 64"), (128, "not a multiple of 128: use --block 32")]
)
def test_blocks_that_do_not_fit_are_refused(tiny_checkpoint, tmp_path, block, sentence):
    folder = write_tiny_checkpoint(tmp_path / "model", moe_intermediate_size=96)
    with pytest.raises(RequestError, match=sentence):
        export_onnx(folder, tmp_path / "onnx", "int8", block)
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("quant", FILES)
def test_external_data_can_be_mapped(tiny_onnx, quant):
    graph = onnx.load(str(tiny_onnx / "onnx" / FILES[quant]), load_external_data=False).graph
    entries = [{each.key: each.value for each in tensor.external_data} for tensor in graph.initializer]
    offsets = [int(entry["offset"]) for entry in entries if entry]
    assert offsets and all(offset % ALIGNMENT == 0 for offset in offsets)


def test_zero_points_are_for_int4(tiny_checkpoint, tmp_path):
    with pytest.raises(RequestError, match="Zero points are for int4"):
        export_onnx(tiny_checkpoint, tmp_path / "onnx", "int8", zero_points=True)
    assert not (tmp_path / "onnx").exists()
