"""Every family that the ONNX graph writer knows computes what transformers computes: tiny random models, one runner.

Those with an encoder: test_onnx_encoder_decoder.py.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from export.onnx import export_onnx
from export.onnx.blocks import Blocks, quantise
from prune import families as family_files
from prune.checkpoint import Checkpoint
from prune.families import decoder_config, families, load_family
from prune.families.decoder import Decoder
from prune.loading import load_model
from prune.rewrite import prune
from runtime.engines.onnx import OnnxEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.onnx_folder import FILES
from tests.export.test_onnx_quantise import dequantised
from tests.prune.test_cut import plan_for
from tests.tiny import CONFIGS, VOCABULARY, write_tiny_checkpoint

KNOWN = [name for name in families() if (known := load_family(name).decoder) and not known.has_encoder]
EXACT = (
    *(
        "shared_expert_gate",
        "conv.conv",
        "conv1d",
        "in_proj_ba",
        "in_proj_b",
        "in_proj_a",
        "x_proj",
        "dt_proj",
        "A_log",
    ),
    *(".b_proj", "f_a_proj", "f_b_proj", "g_a_proj", "g_b_proj"),
)
LENGTHS, STEPS = (24, 17, 9), 32
ROWS = [[int(i) for i in np.random.default_rng(n).integers(4, 500, size + STEPS)] for n, size in enumerate(LENGTHS)]

# What the tiny configs leave at a value that changes nothing, or that hides one way of computing it.
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_mscale": 1.2, "long_mscale": 1.3}
FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 2.5, 3.0], "long_factor": [4.0] * 8}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}
KIMI = {"head_dim": 32, "num_heads": 2, "short_conv_kernel_size": 3}
DELTA = ["linear_attention", "linear_attention", "full_attention"]
CHANGES: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"q_lora_rank": None, "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.8}},
    "deepseek_v3": {"v_head_dim": 32, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    "dots1": {
        "attention_bias": True,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 16,
        "norm_topk_prob": False,
    },
    "exaone_moe": {"norm_topk_prob": False},
    "flex_olmo": {"norm_topk_prob": True},
    "glm4_moe_lite": {"rms_norm_eps": 1e-3, "v_head_dim": 32},
    "glm4_moe": {"head_dim": 32, "attention_bias": True, "use_qk_norm": True},
    "gpt_oss": {"rope_parameters": {**YARN, "truncate": False, "beta_fast": 32.0, "beta_slow": 1.0}},
    "granitemoehybrid": {"mamba_n_groups": 2, "mamba_proj_bias": True, "position_embedding_type": "rope"},
    "hunyuan_v1_moe": {
        **{"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 100.0, "factor": 1.0}},
        "moe_topk": [1, 3],
    },
    "kimi_linear": {
        "linear_attn_config": KIMI | {"full_attn_layers": [2], "kda_layers": [1, 3]},
        **{"q_lora_rank": 32, "first_k_dense_replace": 1, "moe_renormalize": False, "num_hidden_layers": 3},
    },
    "lfm2_moe": {"conv_bias": True, "routed_scaling_factor": 1.5},
    "minimax_m2": {"head_dim": 32, "rotary_dim": 16},
    "mixtral": {"sliding_window": 16},
    "nemotron_h": {
        "layers_block_type": ["mamba", "moe", "attention", "mlp", "moe", "mamba"],
        **{"time_step_min": 0.3, "mlp_bias": True, "use_bias": True, "norm_topk_prob": False},
    },
    "phimoe": {
        "sliding_window": 16,
        "rope_parameters": {**LONG, **FACTORS, "original_max_position_embeddings": 128},
    },
    "qwen2_moe": {
        **{"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2, "mlp_only_layers": [1]},
        **{"num_hidden_layers": 3, "shared_expert_intermediate_size": 96},
    },
    **{name: {"num_hidden_layers": 3, "layer_types": DELTA} for name in ("qwen3_next", "qwen3_5_moe_text")},
    "qwen3_vl_moe_text": {"moe_intermediate_size": 96},
    "qwen3_moe": {"hidden_size": 64, "head_dim": 16, "mlp_only_layers": [0], "num_hidden_layers": 3},
}


def write(family: str, folder: Path, **options: Any) -> Path:
    """A tiny checkpoint with its tokenizer's vocabulary, inner sizes that blocks of 32 weights divide, and norms that are
    not all ones."""
    keys = decoder_config(json.loads((CONFIGS / f"{family}.json").read_text()))
    inner = {key: 64 for key in keys if key.endswith("intermediate_size")}
    write_tiny_checkpoint(folder, family, **{"vocab_size": VOCABULARY, **inner, **CHANGES.get(family, {}), **options})
    for shard in sorted(folder.glob("*.safetensors")):
        tensors = load_file(shard)
        for name in sorted(tensors):
            if name.endswith("norm.weight"):
                torch.manual_seed(len(name.removeprefix("backbone").removeprefix("model")))  # whatever it is called
                tensors[name] = 1 + 0.3 * torch.randn(tensors[name].shape).to(tensors[name].dtype)
        save_file(tensors, shard, metadata={"format": "pt"})
    return folder


def load(folder: Path) -> Any:
    return load_model(folder, torch.device("cpu"), torch.float32)


@torch.inference_mode()
def torch_logits(model: Any, rows: list[list[int]] = ROWS) -> list[np.ndarray]:
    """Of each row alone, without padding and without a cache: [tokens, vocabulary]."""
    return [model(input_ids=torch.tensor([row]), use_cache=False).logits[0].numpy() for row in rows]


class Graph:
    """A graph of ours, run by onnxruntime."""

    def __init__(self, artefact: Path, quant: str = "none") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.path = artefact / "onnx" / FILES[quant]
        self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        self.outputs = [value.name for value in self.session.get_outputs()]

    def _empty(self, rows: int) -> dict[str, np.ndarray]:
        inputs = {value.name: value.shape for value in self.session.get_inputs() if value.name.startswith("past")}
        sizes = {"batch_size": rows, "past": 0}
        return {name: np.zeros([sizes.get(n, n) for n in shape], np.float32) for name, shape in inputs.items()}

    def _step(self, ids: np.ndarray, mask: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        logits, *values = self.session.run(self.outputs, {"input_ids": ids, "attention_mask": mask} | cache)
        renamed = [name.replace("present.", "past_key_values.").replace("present_", "past_") for name in self.outputs]
        return np.asarray(logits), dict(zip(renamed[1:], values, strict=True))

    def logits(self, rows: list[list[int]] = ROWS, steps: int = 0, left: bool = False) -> list[np.ndarray]:
        """Of each row, in one padded batch: all but the last ``steps`` tokens at once, these one by one."""
        lengths = [len(row) - steps for row in rows]
        longest = max(lengths)
        before = [longest - length if left else 0 for length in lengths]
        ids = np.full((len(rows), longest), 3)
        for n, row in enumerate(rows):
            ids[n, before[n] : before[n] + lengths[n]] = row[: lengths[n]]

        def mask(step: int) -> np.ndarray:
            columns = np.arange(longest + step)
            used = [(columns >= b) & (columns < b + n + step) for b, n in zip(before, lengths, strict=True)]
            return np.array(used, np.int64)

        logits, cache = self._step(ids, mask(0), self._empty(len(rows)))
        found = [[*values[b : b + n]] for values, b, n in zip(logits, before, lengths, strict=True)]
        for step in range(steps):
            given = np.array([[row[length + step]] for row, length in zip(rows, lengths, strict=True)])
            logits, cache = self._step(given, mask(step + 1), cache)
            for n, values in enumerate(logits):
                found[n].append(values[0])
        return [np.array(values) for values in found]


def differences(found: list[np.ndarray], expected: list[np.ndarray]) -> np.ndarray:
    """The largest of each token."""
    return np.concatenate([np.abs(a - b).max(1) for a, b in zip(found, expected, strict=True)])


@dataclass
class Subject:
    """A tiny model of a family, loaded once for all its tests."""

    folder: Path
    graph: Graph
    expected: list[np.ndarray]  # logits by transformers

    @property
    def bar(self) -> float:
        """Delta nets add up in another order, and divide by the lengths of what may be short."""
        decoder = Checkpoint(self.folder).family.decoder
        return 1e-3 if decoder and "delta_decay" in decoder.layer else 1e-4


@pytest.fixture(scope="module", params=KNOWN)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    room = tmp_path_factory.mktemp(request.param)
    folder = write(request.param, room / "model")
    graph = Graph(export_onnx(folder, room / "onnx", "none"))
    return Subject(folder, graph, torch_logits(load(folder)))


@pytest.mark.every_family
def test_a_prompt_at_once(subject: Subject) -> None:
    assert differences(subject.graph.logits(ROWS[:1]), subject.expected[:1]).max() <= subject.bar


def test_cached_steps_of_one_sequence(subject: Subject) -> None:
    assert differences(subject.graph.logits(ROWS[:1], STEPS), subject.expected[:1]).max() <= subject.bar


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_cached_steps_of_a_padded_batch(subject: Subject, left: bool) -> None:
    assert differences(subject.graph.logits(ROWS, STEPS, left), subject.expected).max() <= subject.bar


def test_checker_passes_and_no_initialiser_is_idle(subject: Subject) -> None:
    onnx.checker.check_model(str(subject.graph.path))
    graph = onnx.load(str(subject.graph.path), load_external_data=False).graph
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_tensors_named_and_stacked_as_in_memory(subject: Subject, tmp_path: Path) -> None:
    folder = write(Checkpoint(subject.folder).architecture, tmp_path / "model", as_published=False)
    export_onnx(folder, tmp_path / "onnx", "none")
    assert differences(Graph(tmp_path / "onnx").logits(), subject.expected).max() <= subject.bar


def test_what_a_config_leaves_out_is_as_in_transformers(subject: Subject, tmp_path: Path) -> None:
    """Publishers leave out what has the value that transformers takes anyway, or what their version had not yet."""
    shutil.copytree(subject.folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config, family = Checkpoint(subject.folder).config, Checkpoint(subject.folder).family
    usual = CONFIG_MAPPING[family.model_type]().to_dict()
    kept = {
        "model_type",
        "num_experts_per_tok",
        *family.config.expert_count,
        *(key for keys in family.layers.values() for key in keys),
    }
    left = {k: v for k, v in config.items() if k in kept or k not in usual or v != usual[k]}
    path.write_text(
        json.dumps(left | ({"text_config": {"model_type": family.model_type}} if "text_config" in left else {}))
    )
    export_onnx(tmp_path / "model", tmp_path / "onnx", "none")
    assert (tmp_path / "onnx" / "onnx" / "model.onnx").read_bytes() == subject.graph.path.read_bytes()


ragged = pytest.mark.parametrize(
    "keep",
    [([1, 2, 5], [0, 3, 4, 6, 7]), ([0, 1, 3, 4, 6, 7], [*range(8)])],  # groups, if any, fall together or stay
    ids=["3 and 5 experts", "6 and 8 experts"],
)


def cut_raggedly(source: Path, keep: tuple[list[int], list[int]], output: Path) -> Path:
    """Layers keep the two lists in turn."""
    layers = len(Checkpoint(source).moe_layers)
    folder = prune(source, plan_for(source, *(keep[n % 2] for n in range(layers))), output, ragged=True)
    assert len(set(Checkpoint(folder).moe_layers.values())) == 2
    return folder


@ragged
def test_layers_with_different_numbers_of_experts(subject: Subject, tmp_path: Path, keep) -> None:
    folder = cut_raggedly(subject.folder, keep, tmp_path / "cut")
    export_onnx(folder, tmp_path / "onnx", "none")
    found, expected = Graph(tmp_path / "onnx").logits(), torch_logits(load(folder))
    assert differences(found, expected).max() <= subject.bar
    assert differences(found, subject.expected).max() > 1e-2  # the experts did matter


def fake_quantised(weights: np.ndarray, kind: Blocks) -> np.ndarray:
    """Quantise along the last axis and unpack again."""
    integers, scales, *zeros = quantise(weights.reshape(-1, weights.shape[-1]), kind)
    return dequantised(integers, scales, zeros[0] if zeros else None, kind.bits).reshape(weights.shape)


@torch.no_grad()
def quantise_model(model: Any, checkpoint: Checkpoint, bits: int) -> None:
    """In place, what the export quantises: not routers and other gates, convolutions, norms and biases."""
    family, of_others, of_most = checkpoint.family, Blocks(8, 256), Blocks(bits)
    vocabulary = {id(each.weight) for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    kept = [f"{part}." for part in (family.modules.router, *EXACT)]
    for name, weight in model.named_parameters():
        if (
            weight.dim() < 2
            or "bias" in name
            or name.startswith(family.beside)
            or any(part in f"{name}." for part in kept)
        ):
            continue
        routed = f"{family.modules.experts}." in name
        turned = family.decoder is not None and family.decoder.stacked_transposed is True and routed
        values = weight.transpose(-1, -2).numpy() if turned else weight.numpy()
        kind = of_most if routed or id(weight) in vocabulary else of_others.dividing(values.shape[-1])
        values = torch.from_numpy(fake_quantised(values, kind))
        weight.copy_(values.transpose(-1, -2) if turned else values)


def experts_with_int8_inputs(experts: Any, x: torch.Tensor, chosen: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """What QMoE computes of 8-bit experts: it rounds their inputs to int8, too, in blocks of the weights' size."""

    def rounded(values: torch.Tensor) -> torch.Tensor:
        blocks = values.reshape(-1, Blocks(8).size)
        scales = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (torch.round(blocks / scales) * scales).reshape(values.shape)

    def linear(values: torch.Tensor, name: str, expert: int) -> torch.Tensor:
        weight = getattr(experts, name)[expert]
        bias = getattr(experts, f"{name}_bias")[expert] if experts.has_bias else 0
        return rounded(values) @ (weight if experts.is_transposed else weight.T) + bias

    result = torch.zeros_like(x)
    for expert in range(experts.num_experts):
        tokens, place = torch.where(chosen == expert)
        if experts.has_gate:
            inner = experts._apply_gate(linear(x[tokens], "gate_up_proj", expert))
        else:
            inner = experts.act_fn(linear(x[tokens], "up_proj", expert))
        result.index_add_(0, tokens, linear(inner, "down_proj", expert) * gates[tokens, place, None])
    return result


@pytest.fixture
def int8_inputs() -> Iterator[str]:
    ALL_EXPERTS_FUNCTIONS["int8_inputs"] = experts_with_int8_inputs
    yield "int8_inputs"
    del ALL_EXPERTS_FUNCTIONS["int8_inputs"]


def test_the_engine_decodes_what_transformers_computes(subject: Subject) -> None:
    """In its own cache, twice, so that what is left of one sequence would show in the next."""
    engine = OnnxEngine(subject.graph.path.parent.parent, threads=1)
    for row, expected in zip(ROWS[:2], subject.expected, strict=False):
        found = engine.decoded_logits(row[:-STEPS], row[-STEPS:])
        assert np.abs(found - expected[-STEPS:]).max() <= subject.bar


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_equals_transformers_with_the_same_weights(
    subject: Subject, tmp_path: Path, bits: int, int8_inputs: str
) -> None:
    quant = f"int{bits}"
    export_onnx(subject.folder, tmp_path / "onnx", quant, accuracy_level=0)
    model = load(subject.folder)
    quantise_model(model, Checkpoint(subject.folder), bits)
    if bits == 8:
        model.config.get_text_config()._experts_implementation = int8_inputs
    expected = torch_logits(model)
    off = differences(Graph(tmp_path / "onnx", quant).logits(ROWS, STEPS), expected)
    # A token whose router is undecided may take other experts, and one input that is rounded the other way at 8 bits
    # changes those after it.
    assert np.mean(off <= 1e-4) >= {4: 0.75, 8: 0.3}[bits], off
    assert np.median(differences(subject.expected, expected)) > 1e-2  # which the weights as they were would not pass


def reconfigured(source: Path, target: Path, **values: Any) -> Path:
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | values))
    return target


@pytest.mark.parametrize(
    ("family", "values", "sentence"),
    [
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
        ("deepseek_v3", {"rope_interleave": False}, "rope_interleave"),
        ("deepseek_v3", {"v_head_dim": 64}, "values of a head no larger"),
        ("minimax_m2", {"rope_parameters": {"rope_theta": 1e4}, "rotary_dim": 8}, "multiple of 16"),
        ("qwen2_moe", {"use_sliding_window": True, "layer_types": None}, "layer_types"),
        ("mixtral", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "'llama3'"),
    ],
)
def test_what_the_graph_cannot_compute_is_refused(tmp_path: Path, family: str, values: dict, sentence: str) -> None:
    folder = reconfigured(write(family, tmp_path / "source"), tmp_path / "model", **values)
    with pytest.raises(RequestError, match=sentence):
        export_onnx(folder, tmp_path / "onnx", "int4")
    assert not (tmp_path / "onnx").exists()


def test_stacked_experts_that_do_not_match_their_router_are_refused(tmp_path: Path) -> None:
    folder = write("granitemoe", tmp_path / "model", as_published=False, shards="9MB")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.block_sparse_moe.experts.down_proj"] = torch.zeros(7, 64, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkError, match=r"down_proj holds 7 experts, and the router of its layer has 8"):
        export_onnx(folder, tmp_path / "onnx", "none")


def test_experts_of_another_kind_are_named_as_missing(tmp_path: Path) -> None:
    folder = write("gpt_oss", tmp_path / "model", shards="9MB")
    tensors = load_file(folder / "model.safetensors")
    for layer in (0, 1):  # as published, in MXFP4
        name = f"model.layers.{layer}.mlp.experts.down_proj"
        tensors[f"{name}_blocks"] = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkError, match=r"lacks 2 tensors, first model\.layers\.0\.mlp\.experts\.down_proj"):
        export_onnx(folder, tmp_path / "onnx", "none")


def test_tensors_that_transformers_does_not_load_are_left_out(tmp_path: Path) -> None:
    folder = write("hy_v3", tmp_path / "model")
    shard = min(folder.glob("*.safetensors"))
    tensors = load_file(shard) | {"model.layers.3.mtp.weight": torch.zeros(4)}
    save_file(tensors, shard, metadata={"format": "pt"})
    export_onnx(folder, tmp_path / "onnx", "none")


def test_a_misspelt_entry_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="querry"):
        Decoder({"embedding": "e"}, {"querry": "q"})
    monkeypatch.setattr(family_files, "_FOLDER", tmp_path)
    load_family.cache_clear()
    text = (CONFIGS.parents[1] / "prune" / "families" / "olmoe.toml").read_text()
    (tmp_path / "olmoe.toml").write_text(text.replace("normalise_gates", "normalize_gates"))
    with pytest.raises(TypeError, match=r"olmoe\.toml.*normalize_gates"):
        load_family("olmoe")
    load_family.cache_clear()
