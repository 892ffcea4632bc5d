"""Every family that the ONNX graph writer knows computes what transformers computes: tiny random models, one runner."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS as ALL
from export.onnx import FILES, export_onnx
from export.onnx.quantise import BLOCK, quantise
from prune.checkpoint import Checkpoint
from prune.cut import prune
from prune.families import families, load_family
from prune.model import load_model
from runtime.errors import RequestError
from tests.prune.test_cut import plan_for
from tests.tiny import CONFIGS, write_tiny_checkpoint

KNOWN = [name for name in families() if load_family(name).decoder]
LENGTHS, STEPS = (24, 17, 9), 32
ROWS = [[int(i) for i in np.random.default_rng(n).integers(4, 500, size + STEPS)] for n, size in enumerate(LENGTHS)]

# Changes of the tiny configs: inner sizes that blocks of 32 divide, and features that differ from their defaults.
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_mscale": 1.2, "long_mscale": 1.3}
FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 2.5, 3.0], "long_factor": [4.0] * 8}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}
CHANGES: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"q_lora_rank": None, "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.8}},
    "deepseek_v3": {"v_head_dim": 32, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    "exaone_moe": {"norm_topk_prob": False},
    "glm4_moe": {"head_dim": 32, "attention_bias": True, "use_qk_norm": True},
    "gpt_oss": {"rope_parameters": {**YARN, "truncate": False, "beta_fast": 32.0, "beta_slow": 1.0}},
    "hunyuan_v1_moe": {
        **{"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 100.0, "factor": 1.0}},
        "moe_topk": [1, 3],
    },
    "lfm2_moe": {"conv_bias": True, "routed_scaling_factor": 1.5},
    "minimax_m2": {"head_dim": 32, "rotary_dim": 16},
    "mixtral": {"sliding_window": 16},
    "phimoe": {"rope_parameters": {**LONG, **FACTORS, "original_max_position_embeddings": 128}},
    "qwen2_moe": {
        **{"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2, "mlp_only_layers": [1]},
        **{"num_hidden_layers": 3, "shared_expert_intermediate_size": 96},
    },
    "qwen3_moe": {"vocab_size": 512, "hidden_size": 64, "head_dim": 16, "mlp_only_layers": [0], "num_hidden_layers": 3},
}


def write(family: str, folder: Path, **options: Any) -> Path:
    inner = {
        key: 64 for key in json.loads((CONFIGS / f"{family}.json").read_text()) if key.endswith("intermediate_size")
    }
    return write_tiny_checkpoint(folder, family, **{**inner, **CHANGES.get(family, {}), **options})


@dataclass
class Subject:
    """A tiny model of a family, loaded once for all its tests."""

    family: str
    folder: Path
    artefact: Path  # with the float32 graph

    def expected(self, rows: list[list[int]] = ROWS) -> list[np.ndarray]:
        return torch_logits(self.folder, rows)


@pytest.fixture(scope="module", params=KNOWN)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    room = tmp_path_factory.mktemp(request.param)
    folder = write(request.param, room / "model")
    return Subject(request.param, folder, export_onnx(folder, room / "onnx", "none"))


def load(folder: Path) -> Any:
    return load_model(folder, torch.device("cpu"), torch.float32)


@torch.inference_mode()
def torch_logits(model: Any, rows: list[list[int]] = ROWS) -> list[np.ndarray]:
    """Of each row alone, without padding and without a cache: [tokens, vocabulary]."""
    model = load(model) if isinstance(model, Path) else model
    return [model(input_ids=torch.tensor([row]), use_cache=False).logits[0].numpy() for row in rows]


class Graph:
    """A graph of ours, run by onnxruntime."""

    def __init__(self, artefact: Path, quant: str = "none") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = artefact / "onnx" / FILES[quant]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]

    def empty(self, rows: int) -> dict[str, np.ndarray]:
        shapes = {name: shape for name, shape in self.inputs.items() if name.startswith("past")}
        sizes = {"batch": rows, "past": 0}
        return {name: np.zeros([sizes.get(n, n) for n in shape], np.float32) for name, shape in shapes.items()}

    def step(self, ids: np.ndarray, mask: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        values = self.session.run(self.outputs, {"input_ids": ids, "attention_mask": mask} | cache)
        present = {
            name.replace("present_conv", "past_conv").replace("present.", "past_key_values."): value
            for name, value in zip(self.outputs[1:], values[1:], strict=True)
        }
        return values[0], present

    def logits(self, rows: list[list[int]], steps: int = 0, left: bool = False) -> list[np.ndarray]:
        """Of each row, in one padded batch: all but the last ``steps`` tokens at once, these one by one."""
        lengths = [len(row) - steps for row in rows]
        longest = max(lengths)
        before = [longest - length if left else 0 for length in lengths]
        ids = np.full((len(rows), longest), 3)
        for n, row in enumerate(rows):
            ids[n, before[n] : before[n] + lengths[n]] = row[: lengths[n]]

        def mask(step: int) -> np.ndarray:
            columns = np.arange(longest + step)
            return np.array(
                [(columns >= b) & (columns < b + n + step) for b, n in zip(before, lengths, strict=True)], np.int64
            )

        logits, cache = self.step(ids, mask(0), self.empty(len(rows)))
        found = [[*values[b : b + n]] for values, b, n in zip(logits, before, lengths, strict=True)]
        for step in range(steps):
            given = np.array([[row[length + step]] for row, length in zip(rows, lengths, strict=True)])
            logits, cache = self.step(given, mask(step + 1), cache)
            for n, values in enumerate(logits):
                found[n].append(values[0])
        return [np.array(values) for values in found]


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


def test_one_prompt_at_once(subject):
    assert difference(Graph(subject.artefact).logits(ROWS[:1]), subject.expected(ROWS[:1])) <= 1e-4


def test_cached_steps(subject):
    found = Graph(subject.artefact).logits(ROWS[:1], STEPS)
    assert difference(found, subject.expected(ROWS[:1])) <= 1e-4


def test_cached_steps_of_a_padded_batch(subject):
    assert difference(Graph(subject.artefact).logits(ROWS, STEPS), subject.expected()) <= 1e-4


def fake_quantised(weights: np.ndarray, bits: int) -> np.ndarray:
    """Quantise along the last axis and unpack again."""
    packed, scales = quantise(weights.reshape(-1, weights.shape[-1]), bits)
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], axis=-1)
    blocks = packed.reshape(-1, BLOCK).astype(np.float32) - 2 ** (bits - 1)
    return (blocks * scales.reshape(-1, 1)).reshape(weights.shape)


@torch.no_grad()
def quantise_model(model: Any, checkpoint: Checkpoint, bits: int) -> None:
    """In place, what the export quantises: not routers and other gates, convolutions, norms and biases."""
    decoder = checkpoint.family.decoder
    kept = [f"{part}." for part in (checkpoint.family.modules.router, "shared_expert_gate", "conv.conv")]
    for name, weight in model.named_parameters():
        if weight.dim() < 2 or "bias" in name or any(part in name for part in kept):
            continue
        turned = decoder.stacked_transposed and ".experts." in name
        values = weight.transpose(-1, -2).numpy() if turned else weight.numpy()
        values = torch.from_numpy(fake_quantised(values, 8 if "embed" in name or "lm_head" in name else bits))
        weight.copy_(values.transpose(-1, -2) if turned else values)


def experts_with_int8_activations(experts: Any, x: torch.Tensor, chosen: torch.Tensor, gates: torch.Tensor) -> Any:
    """What QMoE computes of 8-bit experts: it rounds their inputs to int8, in the weights' blocks."""

    def rounded(values: torch.Tensor) -> torch.Tensor:
        blocks = values.reshape(-1, BLOCK)
        scales = blocks.abs().amax(-1, keepdim=True) / 127
        return (torch.round(blocks / scales.clamp(min=1e-30)) * scales).reshape(values.shape)

    def linear(values: torch.Tensor, name: str, expert: int) -> torch.Tensor:
        weight = getattr(experts, name)[expert]
        bias = getattr(experts, f"{name}_bias")[expert] if experts.has_bias else 0
        return rounded(values) @ (weight if experts.is_transposed else weight.T) + bias

    result = torch.zeros_like(x)
    for expert in range(experts.num_experts):
        tokens, place = torch.where(chosen == expert)
        inner = experts._apply_gate(linear(x[tokens], "gate_up_proj", expert))
        result.index_add_(0, tokens, linear(inner, "down_proj", expert) * gates[tokens, place, None])
    return result
