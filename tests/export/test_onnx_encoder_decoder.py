"""Encoder and decoder graphs compute what transformers computes, with padded sources and a cache: a tiny NLLB-MoE."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.onnx import export_onnx
from export.onnx.blocks import Blocks
from export.onnx.encoder_decoder import STEMS
from prune.checkpoint import Checkpoint
from runtime.engines.onnx import OnnxEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.onnx_folder import SUFFIXES
from tests.export.test_onnx_families import cut_raggedly, differences, load, quantise_model, ragged, reconfigured
from tests.export.test_onnx_families import write as write_family

LENGTHS, PREFILL, STEPS, PAD = (24, 17, 9), 8, 32, 3
RANDOM = np.random.default_rng(0)
SOURCES = [RANDOM.integers(4, 2000, length) for length in LENGTHS]
TARGETS = RANDOM.integers(4, 2000, (len(LENGTHS), PREFILL + STEPS))

write = partial(
    write_family, "nllb_moe", shards="9MB", encoder_ffn_dim=64, decoder_ffn_dim=64
)  # which blocks of 32 weights divide


def padded(sources: list[np.ndarray], left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask [B, source]."""
    longest = max(map(len, sources))
    ids = np.full((len(sources), longest), PAD)
    for row, source in zip(ids, sources, strict=True):
        row[slice(longest - len(source), None) if left else slice(len(source))] = source
    return ids, (ids != PAD).astype(np.int64)


@torch.inference_mode()
def expected_states(model: Any) -> list[np.ndarray]:
    """The encoder's output of each source alone: [tokens, hidden]."""
    return [model.model.encoder(input_ids=torch.tensor(row)[None]).last_hidden_state[0].numpy() for row in SOURCES]


@torch.inference_mode()
def expected_logits(model: Any) -> list[np.ndarray]:
    """Of each target alone, at once and without a cache: [tokens, vocabulary]."""
    pairs = [(torch.tensor(a)[None], torch.tensor(b)[None]) for a, b in zip(SOURCES, TARGETS, strict=True)]
    return [model(input_ids=ids, decoder_input_ids=row, use_cache=False).logits[0].numpy() for ids, row in pairs]


class Graphs:
    """Both graphs of ours, run by onnxruntime."""

    def __init__(self, artefact: Path, quant: str = "none") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.paths = [artefact / "onnx" / f"{stem}{SUFFIXES[quant]}.onnx" for stem in STEMS]
        self.encoder, self.decoder = (onnxruntime.InferenceSession(path, options) for path in self.paths)
        self.outputs = [value.name for value in self.decoder.get_outputs()]

    def encode(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.asarray(self.encoder.run(None, {"input_ids": ids, "attention_mask": mask})[0])

    def empty(self, rows: int) -> dict[str, np.ndarray]:
        past = [value for value in self.decoder.get_inputs() if value.name.startswith("past")]
        return {value.name: np.zeros((rows, value.shape[1], 0, value.shape[3]), np.float32) for value in past}

    def step(self, ids: np.ndarray, states: np.ndarray, mask: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        feeds = {"input_ids": ids, "encoder_hidden_states": states, "encoder_attention_mask": mask}
        logits, *values = self.decoder.run(self.outputs, feeds | cache)
        names = [name.replace("present", "past_key_values") for name in self.outputs[1:]]
        return np.asarray(logits), dict(zip(names, values, strict=True))

    def logits(self, rows: int = len(LENGTHS), steps: int = STEPS, left: bool = False) -> list[np.ndarray]:
        """Of the first targets, in one batch: all but the last ``steps`` tokens at once, these one by one."""
        ids, mask = padded(SOURCES[:rows], left)
        states, cache, found, start = self.encode(ids, mask), self.empty(rows), [], 0
        for size in [TARGETS.shape[1] - steps] + [1] * steps:
            logits, cache = self.step(TARGETS[:rows, start : start + size], states, mask, cache)
            found.append(logits)
            start += size
        return [*np.concatenate(found, axis=1)]


@dataclass
class Subject:
    """A tiny model, loaded once for all tests."""

    folder: Path
    graphs: Graphs
    states: list[np.ndarray]  # by transformers
    logits: list[np.ndarray]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    room = tmp_path_factory.mktemp("nllb")
    folder = write(room / "model")
    graphs = Graphs(export_onnx(folder, room / "onnx", "none"))
    model = load(folder)
    return Subject(folder, graphs, expected_states(model), expected_logits(model))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_the_encoder_ignores_padding(subject: Subject, rows: int, left: bool) -> None:
    ids, mask = padded(SOURCES[:rows], left)
    states = subject.graphs.encode(ids, mask)
    found = [values[used > 0] for values, used in zip(states, mask, strict=True)]
    assert differences(found, subject.states[:rows]).max() <= 1e-4


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("steps", [0, STEPS], ids=["at once", "cached steps"])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_the_decoder_equals_transformers(subject: Subject, rows: int, steps: int, left: bool) -> None:
    assert differences(subject.graphs.logits(rows, steps, left), subject.logits[:rows]).max() <= 1e-4


def test_keys_and_values_of_the_source_are_computed_once(subject: Subject) -> None:
    """Later steps do not look at the encoder's output again, and hand its keys and values on as they are."""
    ids, mask = padded(SOURCES)
    states = subject.graphs.encode(ids, mask)
    _, cache = subject.graphs.step(TARGETS[:, :1], states, mask, subject.graphs.empty(len(ids)))
    second, after = subject.graphs.step(TARGETS[:, 1:2], np.full_like(states, np.nan), mask, cache)
    assert differences([*second], [row[1:2] for row in subject.logits]).max() <= 1e-4
    source = [name for name in cache if ".encoder." in name]
    assert source and all(np.array_equal(cache[name], after[name]) for name in source)


def test_checker_passes_and_no_initialiser_is_idle(subject: Subject) -> None:
    for path in subject.graphs.paths:
        onnx.checker.check_model(str(path))
        graph = onnx.load(str(path), load_external_data=False).graph
        assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_tensors_named_as_in_memory_and_every_copy_of_the_embedding(subject: Subject, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", as_published=False)
    tensors = load_file(folder / "model.safetensors")
    for name in ("lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"):
        tensors[f"{name}.weight"] = tensors["model.shared.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    export_onnx(folder, tmp_path / "onnx", "none")
    assert differences(Graphs(tmp_path / "onnx").logits(), subject.logits).max() <= 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_embedding": False, "router_bias": True, "moe_token_dropout": 0.0},
        {"encoder_sparse_step": 0, "decoder_sparse_step": 2, "normalize_router_prob_before_dropping": True},
        {"batch_prioritized_routing": True, "router_ignore_padding_tokens": True, "decoder_attention_heads": 8},
    ],
    ids=["plain", "dense layers", "routing"],
)
def test_other_configs(subject: Subject, tmp_path: Path, changes: dict) -> None:
    folder = write(tmp_path / "model", **changes)
    export_onnx(folder, tmp_path / "onnx", "none")
    assert differences(Graphs(tmp_path / "onnx").logits(), expected_logits(load(folder))).max() <= 1e-4


@ragged
def test_layers_with_different_numbers_of_experts(subject: Subject, tmp_path: Path, keep) -> None:
    folder = cut_raggedly(subject.folder, keep, tmp_path / "cut")
    export_onnx(folder, tmp_path / "onnx", "none")
    found = Graphs(tmp_path / "onnx").logits()
    assert differences(found, expected_logits(load(folder))).max() <= 1e-4
    assert differences(found, subject.logits).max() > 1e-2  # the experts did matter


def _with_int8_inputs(self: Any, x: torch.Tensor) -> torch.Tensor:
    """What QMoE computes of an 8-bit expert: it rounds inputs to int8, too, in blocks of the weights' size."""

    def rounded(values: torch.Tensor) -> torch.Tensor:
        blocks = values.reshape(-1, Blocks(8).size)
        scales = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (torch.round(blocks / scales) * scales).reshape(values.shape)

    return self.fc2(rounded(torch.relu(self.fc1(rounded(x)))))


def _experts(model: Any) -> Iterator[Any]:
    return (module for name, module in model.named_modules() if name.rpartition(".")[2].startswith("expert_"))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_equals_transformers_with_the_same_weights(subject: Subject, tmp_path: Path, bits: int) -> None:
    quant = f"int{bits}"
    export_onnx(subject.folder, tmp_path / "onnx", quant, accuracy_level=0)
    model = load(subject.folder)
    quantise_model(model, Checkpoint(subject.folder), bits)
    for expert in _experts(model) if bits == 8 else ():
        expert.forward = MethodType(_with_int8_inputs, expert)
    expected = expected_logits(model)
    off = differences(Graphs(tmp_path / "onnx", quant).logits(), expected)
    # A token whose router is undecided may take other experts, and one input that is rounded the other way at 8 bits
    # changes those after it.
    assert np.mean(off <= 1e-4) >= {4: 0.8, 8: 0.3}[bits], off
    assert np.median(differences(subject.logits, expected)) > 1e-2  # which the weights as they were would not pass


def test_variants_share_a_folder_without_what_is_for_decoders_alone(subject: Subject, tmp_path: Path) -> None:
    for quant in SUFFIXES:
        export_onnx(subject.folder, tmp_path / "onnx", quant)
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {"onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    graphs = {f"{stem}{suffix}.onnx" for stem in STEMS for suffix in SUFFIXES.values()}
    names = {path.name for path in (tmp_path / "onnx" / "onnx").iterdir()}
    assert names == graphs | {f"{name}_data" for name in graphs}
    with pytest.raises(RequestError, match=r"encoder_model_q4\.onnx exists already"):
        export_onnx(subject.folder, tmp_path / "onnx", "int4")


def test_the_engine_says_what_can_load_them(subject: Subject) -> None:
    for artefact in (subject.graphs.paths[0].parent.parent, *subject.graphs.paths):
        with pytest.raises(RequestError, match="an encoder, which this engine does not run; optimum's"):
            OnnxEngine(artefact)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("moe_eval_capacity_token_fraction", 0.5),
        ("moe_eval_capacity_token_fraction", -1.0),
        ("second_expert_policy", "sampling"),
        ("router_dtype", "bfloat16"),
        ("activation_function", "gelu"),
        ("tie_word_embeddings", False),
    ],
)
def test_what_the_graphs_cannot_compute_is_refused(subject: Subject, tmp_path: Path, key: str, value: Any) -> None:
    folder = reconfigured(subject.folder, tmp_path / "model", **{key: value})
    with pytest.raises(RequestError, match=f"knows {key} .* only, not {value!r}"):
        export_onnx(folder, tmp_path / "onnx", "int4")
    assert not (tmp_path / "onnx").exists()


def test_every_tensor_has_a_place_in_one_of_the_graphs(subject: Subject, tmp_path: Path) -> None:
    folder = reconfigured(subject.folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.encoder.more": torch.zeros(4)}, folder / "model.safetensors")
    with pytest.raises(RequestError, match=r"no place for: model\.encoder\.more"):
        export_onnx(folder, tmp_path / "onnx", "none")
    name = "model.decoder.layers.1.ffn.experts.expert_5.fc2.bias"  # the others have theirs
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(WorkError, match=f"lacks 1 tensors, first {name}"):
        export_onnx(folder, tmp_path / "onnx", "none")
