"""Model folders that are damaged or hostile, given to every verb: one sentence, an exit status, nothing left behind."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prune.test_cut import plan_for
from tests.warm_command import run_command

SECONDS = 60  # for each command; they take a fraction of one on an idle machine
INDEX = "model.safetensors.index.json"


def rewrite(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value) or value))

    return damage


def config(**changes: Any) -> Callable[[Path], None]:
    return rewrite("config.json", lambda values: values.update(changes))


def replace(name: str, data: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)

    return damage


def pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def link(name: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


def shard_of(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[-1]


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = shard_of(folder)
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        values = json.loads(data[8 : 8 + length])
        text = json.dumps(change(values) or values).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def entry(**changes: Any) -> Callable[[Path], None]:
    """Change what the header says of the last shard's first tensor."""

    def change(values: dict[str, Any]) -> None:
        values[next(name for name in values if name != "__metadata__")].update(changes)

    return header(change)


def of_shard(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    return lambda folder: change(shard_of(folder))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 6 << 30))
        file.truncate(7 << 30)


def shards_elsewhere(name: str) -> Callable[[Path], None]:
    def change(values: dict[str, Any]) -> None:
        last = sorted(values["weight_map"].values())[-1]
        values["weight_map"] = {
            key: name.format(last) if shard == last else shard for key, shard in values["weight_map"].items()
        }

    return rewrite(INDEX, change)


DEEP = b'{"a":' * 100_000
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "an empty config": replace("config.json", b""),
    "a config that is a list": replace("config.json", b"[]"),
    "a config that is nested": replace("config.json", DEEP),
    "a config in UTF-16": lambda folder: (folder / "config.json").write_text("{}", encoding="utf-16"),
    "a config with a huge number": replace("config.json", b'{"model_type": ' + b"1" * 10_000 + b"}"),
    "a config that is a pipe": pipe("config.json"),
    "a config that never ends": link("config.json", "/dev/zero"),
    "a config that is a folder": lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir()),
    "a config that links to itself": link("config.json", "config.json"),
    "a model type that is a list": config(model_type=["qwen3_moe"]),
    "a model type that is a path": config(model_type="../../../etc/passwd"),
    "a model type of other tensors": config(model_type="granitemoe"),
    "a billion layers": config(num_hidden_layers=10**9),
    "more layers than there are": config(num_hidden_layers=3),
    "no layers": config(num_hidden_layers=0),
    "layers by text": config(num_hidden_layers="2"),
    "layers by a fraction": config(num_hidden_layers=2.5),
    "layers by nothing": config(num_hidden_layers=None),
    "a billion experts": config(num_experts=10**9, num_local_experts=10**9),
    "experts by a list of text": config(num_experts=["8"], num_local_experts=["8"]),
    "top-k of 0": config(num_experts_per_tok=0),
    "a negative top-k": config(num_experts_per_tok=-1),
    "a top-k of more than all": config(num_experts_per_tok=9),
    "a top-k that is true": config(num_experts_per_tok=True),
    "a top-k by text": config(num_experts_per_tok="2"),
    "a vocabulary of a billion": config(vocab_size=10**9),
    "another vocabulary": config(vocab_size=5),
    "a negative vocabulary": config(vocab_size=-1),
    "no width": config(hidden_size=0),
    "another width": config(hidden_size=128),
    "no heads": config(num_attention_heads=0),
    "no key heads": config(num_key_value_heads=0),
    "key heads by text": config(num_key_value_heads="x"),
    "a head of nothing": config(head_dim=0),
    "a head of 10**12": config(head_dim=10**12),
    "an epsilon by text": config(rms_norm_eps="x"),
    "a base of rope by text": config(rope_theta="x", rope_parameters={"rope_theta": "x", "rope_type": "default"}),
    "rope that is a list": config(rope_parameters=[1], rope_scaling=[1]),
    "an unknown kind of rope": config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}),
    "an activation that is unknown": config(hidden_act="system"),
    "an intermediate size by text": config(moe_intermediate_size="x"),
    "another intermediate size": config(moe_intermediate_size=7),
    "no positions": config(max_position_embeddings=0),
    "positions by text": config(max_position_embeddings="x"),
    "layer types by number": config(layer_types=5),
    "a quantisation that is a number": config(quantization_config=5),
    "ends by text": config(eos_token_id="x"),
    "weights named by a number": config(transformers_weights=5),
    "weights named elsewhere": config(transformers_weights="../x.safetensors"),
    "a missing shard": of_shard(Path.unlink),
    "a shard that is a pipe": of_shard(lambda path: (path.unlink(), os.mkfifo(path))),
    "a shard that never ends": of_shard(lambda path: (path.unlink(), path.symlink_to("/dev/zero"))),
    "a shard that is a folder": of_shard(lambda path: (path.unlink(), path.mkdir())),
    "a shard that links to nothing": of_shard(lambda path: (path.unlink(), path.symlink_to("nowhere"))),
    "an empty shard": of_shard(lambda path: path.write_bytes(b"")),
    "a shard cut short": of_shard(lambda path: os.truncate(path, path.stat().st_size - 1)),
    "a shard that goes on": of_shard(lambda path: path.write_bytes(path.read_bytes() + b"\0")),
    "a shard of six sparse gigabytes": of_shard(sparse),
    "a pickled shard": of_shard(lambda path: path.write_bytes(b"\x80\x02}q\x00.")),
    "a pointer of Git LFS": of_shard(lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")),
    "a header that is a list": header(lambda values: [1]),
    "a nested header": of_shard(lambda path: path.write_bytes(struct.pack("<Q", len(DEEP)) + DEEP)),
    "an unknown type": entry(dtype="F17"),
    "another shape": entry(shape=[1, 2, 3]),
    "a negative shape": entry(shape=[-1, -4]),
    "a shape of huge numbers": entry(shape=[1 << 70]),
    "reversed offsets": entry(data_offsets=[8, 0]),
    "negative offsets": entry(data_offsets=[-8, 0]),
    "offsets by text": entry(data_offsets=["0", "8"]),
    "an index that is a list": replace(INDEX, b"[]"),
    "an index that is nested": replace(INDEX, DEEP),
    "an index that is a pipe": pipe(INDEX),
    "an index without a map": replace(INDEX, b'{"weight_map": 5}'),
    "an index of numbers": replace(INDEX, b'{"weight_map": {"a": 5}}'),
    "an index that leads out": shards_elsewhere("../{}"),
    "an index that leads far out": shards_elsewhere("/etc/{}"),
    "an index that leads around": shards_elsewhere("a/../../{}"),
    "an index that names more than there is": rewrite(
        INDEX, lambda values: values["weight_map"].update({"more": min(values["weight_map"].values())})
    ),
    "shards without an index": lambda folder: (folder / INDEX).unlink(),
    "weights below the folder": lambda folder: (
        (folder / "original").mkdir(),
        (folder / INDEX).unlink(),
        *(path.rename(folder / "original" / path.name) for path in folder.glob("*.safetensors")),
    ),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "an empty tokenizer": replace("tokenizer.json", b""),
    "a tokenizer that is a list": replace("tokenizer.json", b"[]"),
    "a tokenizer that is nested": replace("tokenizer.json", DEEP),
    "a tokenizer of another shape": replace("tokenizer.json", b'{"version": "1.0", "model": {"type": "Magic"}}'),
    "a tokenizer without a model": rewrite("tokenizer.json", lambda values: values.pop("model") and values),
    "a tokenizer that is a pipe": pipe("tokenizer.json"),
    "a tokenizer that never ends": link("tokenizer.json", "/dev/zero"),
    "a tokenizer cut short": lambda folder: os.truncate(folder / "tokenizer.json", 5000),
    "a tokenizer config that is a list": replace("tokenizer_config.json", b"[]"),
    "a tokenizer config that is nested": replace("tokenizer_config.json", DEEP),
    "a tokenizer config that is a pipe": pipe("tokenizer_config.json"),
    "a template that is a pipe": pipe("chat_template.jinja"),
    "a template that never ends": link("chat_template.jinja", "/dev/zero"),
    "a generation config that is a list": replace("generation_config.json", b"[]"),
    "a generation config that is a pipe": pipe("generation_config.json"),
}
VERBS: dict[str, list[str]] = {
    "calibrate": ["calibrate", "{model}", "--pair", "en-de", "--tokens", "50", "-o", "{out}/stats.safetensors"],
    "prune": ["prune", "{model}", "--plan", "{plan}", "-o", "{out}/cut"],
    "recover": ["recover", "{model}", "--pair", "en-de", "--steps", "1", "-o", "{out}/recovered"],
    "gguf": ["gguf", "{model}", "--quant", "F16", "-o", "{out}/model.gguf"],
    "onnx": ["onnx", "{model}", "--quant", "none", "-o", "{out}/onnx"],
    "verify": ["verify", "{model}", "--against", "{whole}", "--pair", "en-de"],
    "verify-against": ["verify", "{onnx}", "--against", "{model}", "--pair", "en-de"],
    "fit": ["fit", "{model}", "--memory", "8GiB"],
    "export": ["export", "{model}", "--pair", "en-de", "--ratio", "0.5", "-o", "{out}/run"],
}


# Every kind with the quickest verb, every verb with kinds of each file; the rest are slow.
BY_ALL = (
    "no config", "a config that is a pipe", "a billion layers", "a model type of other tensors", "an empty shard",
    "an index that leads out", "a tokenizer cut short", "a template that never ends",
)  # fmt: skip
RUNS = ("calibrate", "verify-against", "export")  # verbs that run the model
ONLY = {  # of no consequence to other verbs
    "no tokenizer": ("calibrate", "recover", "gguf", "onnx", "verify-against", "export"),
    "an activation that is unknown": ("calibrate", "onnx"),
    "an unknown kind of rope": (*RUNS, "onnx"),
}
CASES = [
    pytest.param(kind, verb, marks=() if verb == "prune" or kind in BY_ALL else pytest.mark.slow)
    for kind in DAMAGE
    for verb in VERBS
    if verb in ONLY.get(kind, VERBS)
]


def command(verb: str, model: Path, whole: Path, onnx: Path, scratch: Path) -> list[str]:
    (scratch / "out").mkdir()
    plan = scratch / "plan.json"
    plan_for(whole, *[[0, 1, 2]] * 2).save(plan)
    names = {"model": model, "out": scratch / "out", "plan": plan, "whole": whole, "onnx": onnx}
    return [word.format(**names) for word in VERBS[verb]]


@pytest.mark.parametrize(("kind", "verb"), CASES)
def test_a_damaged_folder_is_one_sentence_for_every_verb(
    kind: str, verb: str, tiny_checkpoint: Path, tiny_onnx: Path, tmp_path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    arguments = command(verb, model, tiny_checkpoint, tiny_onnx, tmp_path)
    DAMAGE[kind](model)
    before = sorted(tmp_path.rglob("*"))
    done = run_command(*arguments, seconds=SECONDS)
    assert done.status in (1, 2), done.errors
    (sentence, *rest) = done.errors[done.errors.index("slimmoe: ") :].splitlines()  # after warnings
    assert sentence and len(rest) <= 1 and all(line.startswith("  next: ") for line in rest)
    assert "Traceback" not in done.errors
    assert sorted(tmp_path.rglob("*")) == before
