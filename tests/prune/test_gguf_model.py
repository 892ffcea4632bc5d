"""What a GGUF file is as a mixture of experts, by its names and numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prune.gguf_model import GgufModel
from runtime.errors import RequestError, WorkError
from tests.gguf_files import write_moe

BIAS = np.zeros(8, np.float32)
SIGMOID, SOFTMAX = {"tiny.expert_gating_func": 2}, {"tiny.expert_gating_func": 1}


def biases(name: str, layers: int = 2) -> dict[str, Any]:
    return {f"blk.{layer}.{name}": BIAS for layer in range(layers)}


def test_a_plain_router(tmp_path: Path) -> None:
    model = GgufModel(write_moe(tmp_path / "x.gguf"))
    assert (model.architecture, model.moe_layers, model.top_k) == ("tiny", {0: 8, 1: 8}, 2)
    assert (model.groups, model.topk_groups, model.group_floor, model.layer_floor) == (1, 1, 1, 1)
    assert not model.can_pad


def test_groups_and_a_top_k_by_layer(tmp_path: Path) -> None:
    change = {"tiny.expert_used_count": [0, 3], "tiny.expert_group_count": 4, "tiny.expert_group_used_count": 2}
    model = GgufModel(write_moe(tmp_path / "x.gguf", change))
    assert (model.top_k, model.groups, model.topk_groups, model.group_floor) == (3, 4, 2, 2)


@pytest.mark.parametrize(
    "tensors, change, bias",
    [
        (biases("exp_probs_b.bias"), SIGMOID, "selection_bias"),
        (biases("exp_probs_b"), SIGMOID, "selection_bias"),  # some converters leave .bias out
        (biases("exp_probs_b.bias"), SOFTMAX, None),  # padding would take its share of the softmax
        (biases("exp_probs_b.bias"), {}, None),  # the architecture's own default is not known here
        (biases("exp_probs_b.bias", 1), SIGMOID, None),  # not in every layer
        (biases("ffn_gate_inp.bias"), SOFTMAX, "router_bias"),  # before the softmax
        (biases("ffn_gate_inp.bias", 1), {}, None),
    ],
)
def test_which_bias_makes_padding_exact(
    tmp_path: Path, tensors: dict[str, Any], change: dict[str, Any], bias: str | None
) -> None:
    model = GgufModel(write_moe(tmp_path / "x.gguf", change, tensors))
    assert (model.padding_bias, model.can_pad) == (bias, bias is not None)


def test_layers_of_multi_token_prediction_are_not_among_the_model_s(tmp_path: Path) -> None:
    model = GgufModel(write_moe(tmp_path / "x.gguf", {"tiny.nextn_predict_layers": 1}, layers=3))
    assert [*model.moe_layers] == [0, 1]
    assert model.place("blk.2.ffn_up_exps.weight").tensor_role == "unloaded"


def test_tensors_are_known_by_their_names(tmp_path: Path) -> None:
    whole = [
        "ffn_norm.weight",
        "ffn_gate_inp_shexp.weight",
        "ffn_up_shexp.weight",
        "attn_sinks.weight",
        "ffn_up.weight",
    ]
    odd = {
        "ffn_up_chexps.weight": np.zeros((4, 2, 32), np.float32),
        "ffn_gate_tid2eid.weight": np.zeros((4, 32), np.float32),
        "ffn_gate.3.weight": np.zeros((4, 32), np.float32),  # one expert's, as llama.cpp of 2023 had them
        "ffn_odd.weight": np.zeros((8, 4, 32), np.float32),
        "ffn_odd.bias": BIAS,
    }
    extra = {f"blk.0.{name}": values for name, values in odd.items()}
    extra |= {f"blk.0.{name}": np.zeros((4, 32), np.float32) for name in whole if "norm" not in name}
    extra["blk.0.ffn_norm.weight"] = BIAS  # a width of 8 is no number of experts
    model = GgufModel(write_moe(tmp_path / "x.gguf", extra=extra))
    assert {name: model.place(f"blk.0.{name}").tensor_role for name in odd} == dict.fromkeys(odd, "suspect")
    assert {name: model.place(f"blk.0.{name}").tensor_role for name in whole} == dict.fromkeys(whole, "other")
    assert model.place("token_embd.weight").tensor_role == model.place("blk.1.attn_norm.weight").tensor_role == "other"
    assert model.place("blk.1.ffn_down_exps.weight").tensor_role == "stacked"


def test_the_fingerprint_is_of_the_routers_as_float32(tmp_path: Path) -> None:
    router = np.arange(256, dtype=np.float32).reshape(8, 32)  # exact in float16
    name = "blk.1.ffn_gate_inp.weight"
    one = GgufModel(write_moe(tmp_path / "one.gguf", extra={name: router}))
    half = GgufModel(write_moe(tmp_path / "half.gguf", extra={name: router.astype(np.float16)}))
    experts = {"blk.0.ffn_up_exps.weight": np.zeros((8, 4, 32), np.float32)}
    other_experts = GgufModel(write_moe(tmp_path / "experts.gguf", extra={name: router} | experts))
    other = GgufModel(write_moe(tmp_path / "other.gguf", extra={name: router[::-1].copy()}))
    assert one.fingerprint == half.fingerprint == other_experts.fingerprint != other.fingerprint


def test_a_dense_model_and_wrong_numbers_are_told(tmp_path: Path) -> None:
    experts = ("gate_inp", "gate_exps", "up_exps", "down_exps")
    routed = {f"blk.{layer}.ffn_{name}.weight": None for layer in (0, 1) for name in experts}
    with pytest.raises(RequestError, match="no routed layers"):
        _ = GgufModel(write_moe(tmp_path / "x.gguf", extra=routed)).moe_layers
    for wrong in ("two", 0.5, [1] * 5000):
        with pytest.raises(WorkError, match="is not a number"):
            GgufModel(write_moe(tmp_path / "x.gguf", {"tiny.expert_used_count": wrong}))
    for name, wrong, sentence in (
        ("expert_used_count", -1, "is negative"),
        ("expert_used_count", None, r"no model, by tiny\.expert_used_count"),
        ("expert_group_count", 3, r"no model, by tiny\.expert_group_count"),
    ):
        with pytest.raises(WorkError, match=sentence):
            GgufModel(write_moe(tmp_path / "x.gguf", {f"tiny.{name}": wrong}))
