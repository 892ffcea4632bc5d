"""ONNX folders that are damaged or hostile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from tests.bad_inputs import NO_FILE, NO_JSON, Damage, Table, change, cut, each, overwrite, update, within, write
from tests.bad_inputs.folders import NO_TEMPLATE, RUNAWAY

GRAPH = "onnx/model_q4.onnx"


def graph(edit: Callable[[onnx.ModelProto], Any]) -> Damage:
    def damage(folder: Path) -> None:
        model = onnx.load(folder / GRAPH, load_external_data=False)
        edit(model)
        (folder / GRAPH).write_bytes(model.SerializeToString())

    return damage


def data_at(**places: str) -> Damage:
    """Where the graph says that its weights are."""

    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = places.get(entry.key, entry.value)

    return graph(edit)


def endless(model: onnx.ModelProto) -> None:
    """A loop that has no end, before the logits."""
    helper, kind = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["go"])], "body",
        [helper.make_tensor_value_info("i", kind.INT64, []), helper.make_tensor_value_info("on", kind.BOOL, [])],
        [helper.make_tensor_value_info("go", kind.BOOL, [])],
    )  # fmt: skip
    model.graph.initializer.append(helper.make_tensor("most", kind.INT64, [], [2**62]))
    model.graph.initializer.append(helper.make_tensor("true", kind.BOOL, [], [True]))
    model.graph.node.insert(0, helper.make_node("Loop", ["most", "true"], [], body=body))


def renamed(old: str, new: str) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == old).op_type = new

    return graph(edit)


def cache_size(number: int | None) -> Damage:
    """What the second size of each cache is; None: it is not said."""

    def edit(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            if value.name.startswith("past_"):
                size = value.type.tensor_type.shape.dim[1]
                size.Clear()
                if number is not None:
                    size.dim_value = number

    return graph(edit)


def self_test(**fields: Any) -> Damage:
    return within(f"{GRAPH}_test.json", update(**fields))


TRANSLATE = "translate onnx Save. --pair en-de --threads 1"
GRAPHS = Table(
    "onnx",
    {"translate": TRANSLATE, "verify": "verify onnx --against model --pair en-de"},
    each("a graph", GRAPH, {kind: damage for kind, damage in NO_FILE.items() if kind != "missing"})
    | each("weights", f"{GRAPH}_data", NO_FILE | {"empty": write(b""), "cut": cut(0.5)})
    | each(
        "a self-test",
        f"{GRAPH}_test.json",
        {kind: damage for kind, damage in NO_FILE.items() if kind == "a pipe"} | NO_JSON,
    )
    | {
        "no graph": lambda folder: [path.unlink() for path in (folder / "onnx").glob("*.onnx")],
        "an empty graph": within(GRAPH, write(b"")),
        "half a graph": within(GRAPH, cut(0.5)),
        "a graph with noise": within(GRAPH, overwrite(0.3, bytes(range(256)))),
        "a graph that is text": within(GRAPH, write(b"graph\n" * 100)),
        "a newer opset": graph(lambda model: setattr(model.opset_import[0], "version", 99)),
        "a newer form": graph(lambda model: setattr(model, "ir_version", 99)),
        "another's graph": graph(lambda model: setattr(model, "producer_name", "pytorch")),
        "an unknown operator": renamed("QMoE", "QMoE2"),
        "an operator without its inputs": graph(lambda model: model.graph.node[5].ClearField("input")),
        "no nodes": graph(lambda model: model.graph.ClearField("node")),
        "no inputs": graph(lambda model: model.graph.ClearField("input")),
        "no outputs": graph(lambda model: model.graph.ClearField("output")),
        "a producer that is no text": within(
            GRAPH, lambda path: path.write_bytes(path.read_bytes().replace(b"slimmoe", b"slimmo\xff", 1))
        ),
        "a dimension that is no text": within(
            GRAPH, lambda path: path.write_bytes(path.read_bytes().replace(b"batch_size", b"batc\xff_size"))
        ),
        "an input's name on two lines": within(
            GRAPH, lambda path: path.write_bytes(path.read_bytes().replace(b"num_logits", b"nu\n_logits"))
        ),
        "a cache of unknown size": cache_size(None),
        "a cache of less than nothing": cache_size(-1),
        "a cache of a huge size": cache_size(1 << 50),
        "an endless loop": graph(endless),
        "weights out of the folder": data_at(location="../../secret"),
        "weights far out of the folder": data_at(location="/etc/passwd"),
        "weights beyond their file": data_at(offset=str(1 << 40)),
        "weights before their file": data_at(offset="-8"),
        "weights of a huge length": data_at(length=str(1 << 50)),
        "weights at a place by text": data_at(offset="x"),
        "flipped weights": within(f"{GRAPH}_data", overwrite(0.5, b"\xff" * 400_000)),
        "a self-test of another format": self_test(format="x"),
        "a self-test without tokens": self_test(tokens=[]),
        "a self-test of huge tokens": self_test(prompt=[10**12] * 16),
        "a self-test of tokens below 0": self_test(prompt=[-1] * 16),
        "a self-test of tokens that are not there": self_test(prompt=[10**7] * 16),
        "a self-test without a spread": within(
            f"{GRAPH}_test.json", change(lambda values: values.update(spread=[0] * 16))
        ),
        "a self-test of text": self_test(logits="x"),
        "a self-test that tolerates by text": self_test(tolerance="x"),
        "a self-test that tolerates nothing": self_test(tolerance=-1),
        "a length by text": within("config.json", update(max_position_embeddings="x")),
        "a context of one token": within("config.json", update(max_position_embeddings=1)),
        "a length of nothing": within("config.json", update(max_position_embeddings=-1)),
        "rope that is a list": within("config.json", update(rope_scaling=[1])),
    },
)
SIDE_FILES = Table(
    "onnx",
    {
        "prompt": "prompt onnx Save.",
        "translate": TRANSLATE,
        "evaluate": "evaluate onnx --pair en-de --test t.tsv --threads 1",
        "verify": "verify onnx --against model --pair en-de",
    },
    each("a tokenizer", "tokenizer.json", NO_FILE | NO_JSON)
    | each("a config", "config.json", {kind: damage for kind, damage in NO_FILE.items() if kind != "missing"} | NO_JSON)
    | each("ends", "generation_config.json", NO_JSON)
    | each("a tokenizer's config", "tokenizer_config.json", NO_JSON)
    | each("a template", "chat_template.jinja", {"a pipe": NO_FILE["a pipe"], "endless": NO_FILE["endless"]})
    | each("a record", "slimmoe.json", NO_JSON | {kind: NO_FILE[kind] for kind in ("a pipe", "endless", "a folder")})
    | {
        f"a template: {text[:40]}": within("chat_template.jinja", write(text.encode()))
        for text in NO_TEMPLATE[:5] + RUNAWAY[3:5]
    }
    | {
        "ends by text": within("generation_config.json", update(eos_token_id="x")),
        "ends by nested lists": within("generation_config.json", update(eos_token_id=[[1]])),
        "a tokenizer of another kind": within(
            "tokenizer.json", write(b'{"version": "1.0", "model": {"type": "Magic"}}')
        ),
        "a tokenizer whose merges are cut": within(
            "tokenizer.json", change(lambda values: values["model"].update(continuing_subword_prefix="x"))
        ),
        "a tokenizer that has no model": within(
            "tokenizer.json", change(lambda values: values.pop("model") and values)
        ),
        "half a character in a token": within("tokenizer_config.json", update(eos_token="\ud800")),
        "a pair by number": within("slimmoe.json", write(b'{"pair": 5}')),
        "a prompt without a text": within("slimmoe.json", write(b'{"prompt": {"user": "x"}}')),
        "a prompt that is a list": within("slimmoe.json", write(b'{"prompt": [1]}')),
        "a ratio of 7": within("slimmoe.json", write(b'{"ratio": 7}')),
    },
    by_all=("a tokenizer: nested", "a config: a pipe", "a template: endless", "a record: a list"),
)
TABLES = {"onnx graphs": GRAPHS, "onnx side files": SIDE_FILES}
