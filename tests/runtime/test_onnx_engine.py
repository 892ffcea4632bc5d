"""The ONNX engine: decoding in place, stopping, and sentences for what is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime.engines import open_engine
from runtime.engines.onnx import OnnxEngine
from runtime.engines.onnx_check import SelfTest, self_test_file
from runtime.errors import RequestError, WorkError
from runtime.text.pairs import Pair
from runtime.translate.segments import translate
from tests.tiny import VOCABULARY

IDS = [int(i) for i in np.random.default_rng(0).integers(4, 2000, 40)]
SEGMENTS = [f"The file {'number ' * (i % 5)}{i} could not be opened." if i % 7 else "" for i in range(30)]
GRAPHS = ("model.onnx", "model_int8.onnx", "model_q4.onnx")


@pytest.fixture
def engine(tiny_onnx: Path) -> OnnxEngine:
    return OnnxEngine(tiny_onnx, threads=1)


@pytest.fixture
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "onnx")


@pytest.mark.filterwarnings("error")
def test_a_self_test_of_the_largest_numbers_fails_without_a_warning():
    test = SelfTest("onnxruntime", 0.1, [4], np.array([[5]]), np.array([[-3e38]], np.float32), np.array([1.0]))
    assert test.deviation(0, np.full((1, 8), 3e38, np.float32)) > test.tolerance


@pytest.mark.parametrize("name", GRAPHS)
def test_decoding_step_by_step_equals_one_prefill(tiny_onnx, name):
    """Kernels for one token and for many round otherwise; in a random model that may now and then change a route."""
    engine = OnnxEngine(tiny_onnx / "onnx" / name, threads=1)
    written = engine.generate(IDS, 24).token_ids
    whole = engine.logits([*IDS, *written])
    assert whole.dtype == np.float32 and whole.shape == (len(IDS) + 24, VOCABULARY)
    steps, whole = engine.decoded_logits(IDS, written), whole[len(IDS) :]
    assert tuple(steps.argmax(-1)[:-1]) == written[1:]
    deviations = np.sqrt(((steps - whole) ** 2).mean(-1)) / whole.std(-1)
    assert np.median(deviations) <= (1e-5 if name == "model.onnx" else 0.02)


def test_a_text_may_fill_the_context(tiny_onnx):
    roomy, tight = (OnnxEngine(tiny_onnx / "onnx" / "model.onnx", threads=1, context=size) for size in (80, 50))
    written = tight.generate(IDS, 100, stop=False).token_ids
    assert len(written) == 50 - len(IDS)
    assert written == roomy.generate(IDS, len(written), stop=False).token_ids


def test_a_generation_leaves_no_trace_in_the_next(engine):
    first = engine.generate(IDS, 16).token_ids
    engine.generate(IDS[::-1] * 2, 16)
    assert engine.generate(IDS, 16).token_ids == first


def test_small_models_get_one_thread_by_default_and_write_the_same(tiny_onnx, engine):
    default = open_engine(tiny_onnx)
    assert default.threads == 1 and default.thread_choice.workers >= 1 and default.name.startswith("onnxruntime ")
    assert default.generate(IDS, 8).token_ids == engine.generate(IDS, 8).token_ids


@pytest.mark.parametrize("name", GRAPHS)
def test_exact_workers_write_what_one_engine_writes(tiny_onnx, name):
    engine = OnnxEngine(tiny_onnx / "onnx" / name, threads=1)
    one, many = (list(translate(engine, Pair("en", "de"), SEGMENTS, count, exact=True)) for count in (1, 3))
    assert [(each.source, each.text) for each in one] == [(each.source, each.text) for each in many]
    ids = engine.encode(engine.template.prompt(Pair("en", "de"), SEGMENTS[3]))
    assert many[3].generation and many[3].generation.token_ids == engine.generate(ids, 2 * len(ids) + 16).token_ids


def test_end_of_sequence_ends_and_is_left_out(folder):
    free = OnnxEngine(folder, threads=1).generate(IDS, 12)
    end = free.token_ids[-1]
    config = json.loads((folder / "generation_config.json").read_text())
    for value in (end, [0, end]):
        (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": value}))
        stopped = OnnxEngine(folder, threads=1).generate(IDS, 12)
        assert stopped.finished and stopped.token_ids == free.token_ids[: free.token_ids.index(end)]
    beyond = OnnxEngine(folder, threads=1).generate(IDS, 12, stop=False)
    assert not beyond.finished and beyond.token_ids == free.token_ids
    assert not free.finished and free.prompt_tokens == len(IDS) and len(free.token_ids) == 12


def test_the_context_bounds_a_generation(tiny_onnx):
    engine = OnnxEngine(tiny_onnx, threads=1, context=48)
    assert len(engine.generate(IDS, 100).token_ids) == 8
    with pytest.raises(RequestError, match="the context 48"):
        engine.generate(IDS * 2, 10)
    with pytest.raises(RequestError, match="context of 48"):
        engine.logits(IDS * 2)
    assert OnnxEngine(tiny_onnx, threads=1, context=10**6).context == 1024  # no more than the model has positions for


def test_text_goes_round(engine):
    text = "Die Datei „naïve.txt“ fehlt."
    prompt = engine.template.prompt(Pair("en", "de"), "Save the file.")
    assert engine.decode(engine.encode(text)) == text
    assert engine.decode(engine.encode(prompt)) == "Translate into German:\nSave the file."  # special tokens recognised


def test_int4_is_preferred(folder, tiny_onnx):
    (folder / "onnx" / "model_q4.onnx").unlink()
    int8 = OnnxEngine(tiny_onnx / "onnx" / "model_int8.onnx", threads=1)
    assert np.array_equal(OnnxEngine(folder, threads=1).logits(IDS), int8.logits(IDS))
    int4 = OnnxEngine(tiny_onnx / "onnx" / "model_q4.onnx", threads=1)
    assert np.array_equal(OnnxEngine(tiny_onnx, threads=1).logits(IDS), int4.logits(IDS))


def edited(folder: Path, change: Callable[[onnx.ModelProto], object], name: str = "model_q4.onnx") -> Path:
    """The graph ``name`` of an ONNX folder after ``change``; returns the folder."""
    path = folder / "onnx" / name
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    for other in {"model_q4.onnx", "model_int8.onnx", "model.onnx"} - {name}:
        (folder / "onnx" / other).unlink(missing_ok=True)
    return folder


def experts(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type in ("MoE", "QMoE"))


def refusal(artefact: Path) -> WorkError:
    with pytest.raises(WorkError) as caught:
        OnnxEngine(artefact, threads=1)
    assert caught.value.next_command and "\n" not in caught.value.sentence
    return caught.value


@pytest.mark.parametrize("name", ["model_q4.onnx", "model.onnx"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_graph_cut_short_is_damaged(folder, name, share):
    path = folder / "onnx" / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    error = refusal(path)
    assert "is damaged or cut short" in error.sentence and "slimmoe onnx DIR" in str(error.next_command)


def test_a_graph_with_noise_in_it_is_damaged(folder):
    path = folder / "onnx" / "model_q4.onnx"
    content = bytearray(path.read_bytes())
    content[1000:1100] = np.random.default_rng(0).bytes(100)
    path.write_bytes(content)
    assert "is damaged or cut short" in refusal(path).sentence


@pytest.mark.parametrize("name", ["model_q4.onnx_data", "model.onnx_data"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_data_file_cut_short_is_told_in_bytes(folder, name, share):
    path = folder / "onnx" / name
    size = int(path.stat().st_size * share)
    path.write_bytes(path.read_bytes()[:size])
    error = refusal(path.with_suffix(".onnx"))
    assert f"is cut short: {size} bytes are there" in error.sentence and "slimmoe onnx" in str(error.next_command)


def test_a_missing_data_file_is_named(folder):
    (folder / "onnx" / "model_q4.onnx_data").unlink()
    assert "model_q4.onnx_data, the weights of" in refusal(folder).sentence


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def set_ir_version(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def rename_microsoft_operator(model: onnx.ModelProto) -> None:
    experts(model).op_type = "QMoE2"


def rename_standard_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "RMSNormalization").op_type = "RMSNormalization2"


def add_attribute(model: onnx.ModelProto) -> None:
    experts(model).attribute.append(onnx.helper.make_attribute("newer", 1))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_opset, "has the ONNX opset 99, which onnxruntime"),
        (set_ir_version, "has the ONNX IR version 99, which onnxruntime"),
        (rename_microsoft_operator, "lacks the operator com.microsoft:QMoE2, which"),
        (rename_standard_operator, "lacks the operator RMSNormalization2, which"),
        (add_attribute, "lacks the operator QMoE with 'newer', which"),
    ],
)
def test_what_this_onnxruntime_is_too_old_for_is_not_called_damaged(folder, change, sentence):
    error = refusal(edited(folder, change))
    assert sentence in error.sentence and error.next_command == "pip install -U onnxruntime"


def test_a_graph_that_cannot_run_is_refused_with_the_reason(folder):
    def change(model: onnx.ModelProto) -> None:
        next(each for each in experts(model).attribute if each.name == "activation_type").s = b"tanhshrink"

    assert "tanhshrink" in refusal(edited(folder, change)).sentence


def test_a_graph_of_another_producer_is_refused(folder):
    def change(model: onnx.ModelProto) -> None:
        model.producer_name = "pytorch"

    assert "was written by pytorch" in refusal(edited(folder, change)).sentence


def test_a_graph_with_inputs_of_another_kind_is_refused(folder):
    def change(model: onnx.ModelProto) -> None:
        model.graph.input.append(onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1]))

    assert "other inputs" in refusal(edited(folder, change)).sentence


def test_other_damaged_files_are_one_sentence(folder):
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json is damaged" in refusal(folder).sentence
    (folder / "generation_config.json").write_text("{")
    assert "generation_config.json is not a JSON object" in refusal(folder).sentence
    for graph in (folder / "onnx").glob("*.onnx"):
        graph.unlink()
    with pytest.raises(RequestError, match="holds no model_q4"):
        OnnxEngine(folder, threads=1)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("attribute", "value"), [("k", 1), ("activation_beta", 1.0)])
def test_experts_that_compute_otherwise_are_refused(folder, name, attribute, value):
    """As by a kernel that is wrong; a graph without a self-test loads all the same."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for each in node.attribute if node.op_type in ("MoE", "QMoE") else []:
                if each.name == attribute:
                    each.CopyFrom(onnx.helper.make_attribute(attribute, value))

    path = edited(folder, change, name) / "onnx" / name
    assert "answers otherwise" in refusal(path).sentence
    self_test_file(path).unlink()
    OnnxEngine(path, threads=1)


@pytest.mark.parametrize("name", GRAPHS)
def test_expected_values_that_were_changed_are_refused(folder, name):
    path = self_test_file(folder / "onnx" / name)
    values = json.loads(path.read_text())
    for rows in (slice(0, 8), slice(8, 16)):  # of the prefill, of the steps
        shifted = [*values["logits"]]
        shifted[rows] = [[logit + 0.2 * spread for logit in row] for row, spread in zip(shifted, values["spread"])][
            rows
        ]
        path.write_text(json.dumps(values | {"logits": shifted}))
        error = refusal(folder / "onnx" / name)
        assert "by 0.2" in error.sentence and "data file is damaged" in error.sentence


def test_the_version_that_was_right_is_the_next_command(folder):
    path = self_test_file(folder / "onnx" / "model_q4.onnx")
    values = json.loads(path.read_text())
    values |= {"runtime": "onnxruntime 1.31.0", "tokens": [row[::-1] for row in values["tokens"]]}
    path.write_text(json.dumps(values))
    error = refusal(folder)
    assert "than onnxruntime 1.31.0 did" in error.sentence
    assert error.next_command == "pip install onnxruntime==1.31.0"


@pytest.mark.parametrize("name", GRAPHS)
def test_flipped_bytes_in_the_weights_are_refused(folder, name):
    path = folder / "onnx" / f"{name}_data"
    content = bytearray(path.read_bytes())
    middle = slice(len(content) * 3 // 4, len(content) * 3 // 4 + len(content) // 16)
    content[middle] = bytes(each ^ 0xFF for each in content[middle])
    path.write_bytes(content)
    assert "data file is damaged" in refusal(folder / "onnx" / name).sentence


@pytest.mark.parametrize("content", ["{", "{}", '{"format": "slimmoe-self-test/1", "logits": [], "spread": [1]}'])
def test_a_damaged_self_test_is_one_sentence(folder, content):
    self_test_file(folder / "onnx" / "model_q4.onnx").write_text(content)
    assert re.search("is not a (self-test|JSON object)", refusal(folder).sentence)


def test_a_self_test_leaves_no_trace(tiny_onnx, folder):
    self_test_file(folder / "onnx" / "model_q4.onnx").unlink()
    tested, untested = OnnxEngine(tiny_onnx, threads=1), OnnxEngine(folder, threads=1)
    assert tested.generate(IDS, 16).token_ids == untested.generate(IDS, 16).token_ids
    assert (
        len(OnnxEngine(tiny_onnx, threads=1, context=6).generate(IDS[:3], 9).token_ids) == 3
    )  # fits no whole self-test


def test_loading_a_graph_writes_nothing_under_home(tiny_onnx, tmp_path) -> None:
    """onnxruntime 1.32 keeps a device id and a log of its use there, unless it is told not to."""
    code = (
        f"from runtime.engines import open_engine; open_engine(__import__('pathlib').Path({str(tiny_onnx)!r})).close()"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))
