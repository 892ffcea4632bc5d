"""Checkpoints' folders that are damaged or hostile."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs import (
    DEEP,
    HUGE,
    NO_FILE,
    NO_JSON,
    Damage,
    Table,
    change,
    cut,
    each,
    update,
    within,
    write,
)  # fmt: skip

INDEX = "model.safetensors.index.json"


def rewrite(name: str, values: Callable[[dict[str, Any]], Any]) -> Damage:
    return within(name, change(values))


def config(**fields: Any) -> Damage:
    return within("config.json", update(**fields))


def replace(name: str, data: bytes) -> Damage:
    return within(name, write(data))


def shard_of(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[-1]


def header(values: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        path = shard_of(folder)
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        found = json.loads(data[8 : 8 + length])
        text = json.dumps(values(found) or found).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def entry(**fields: Any) -> Damage:
    """Change what the header says of the last shard's first tensor."""
    return header(lambda values: values[next(name for name in values if name != "__metadata__")].update(fields))


def of_shard(damage: Damage) -> Damage:
    return lambda folder: damage(shard_of(folder))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 6 << 30))
        file.truncate(7 << 30)


def shards_elsewhere(name: str) -> Damage:
    def elsewhere(values: dict[str, Any]) -> None:
        last = sorted(values["weight_map"].values())[-1]
        values["weight_map"] = {
            key: name.format(last) if shard == last else shard for key, shard in values["weight_map"].items()
        }

    return rewrite(INDEX, elsewhere)


SIDE_FILES = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
UNREADABLE = {kind: damage for kind, damage in NO_FILE.items() if kind != "missing"}
DAMAGE: dict[str, Damage] = {
    **each("a config", "config.json", NO_FILE | NO_JSON),
    **{f"a shard: {kind}": of_shard(damage) for kind, damage in NO_FILE.items()},
    **each("an index", INDEX, UNREADABLE | NO_JSON),
    **each("a tokenizer", "tokenizer.json", UNREADABLE | NO_JSON),
    **each("a template", "chat_template.jinja", UNREADABLE),
    **{kind: damage for name in SIDE_FILES for kind, damage in each(name, name, UNREADABLE | NO_JSON).items()},
    "a config with a huge number": replace("config.json", HUGE),
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
    "experts by an empty list": config(num_experts=[], num_local_experts=[]),
    "a base of rope by lists": config(rope_parameters={"rope_theta": [[]], "rope_type": "default"}),
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
    "a negative base of rope": config(rope_theta=-1e4, rope_parameters={"rope_theta": -1e4, "rope_type": "default"}),
    "a negative epsilon": config(rms_norm_eps=-1e-6),
    "more than a whole head that is rotated": config(partial_rotary_factor=2.0),
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
    "an empty shard": of_shard(lambda path: path.write_bytes(b"")),
    "a shard cut short": of_shard(cut(0.99)),
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
    "a tokenizer of another shape": replace("tokenizer.json", b'{"version": "1.0", "model": {"type": "Magic"}}'),
    "a tokenizer without a model": rewrite("tokenizer.json", lambda values: values.pop("model") and values),
    "a tokenizer cut short": lambda folder: os.truncate(folder / "tokenizer.json", 5000),
}
VERBS = {
    "prune": "prune model --plan plan.json -o out/cut",
    "calibrate": "calibrate model --pair en-de --tokens 50 -o out/stats.safetensors",
    "recover": "recover model --pair en-de --steps 1 -o out/recovered",
    "gguf": "gguf model --quant F16 -o out/model.gguf",
    "onnx": "onnx model --quant none -o out/onnx",
    "verify": "verify model --against whole --pair en-de",
    "verify-against": "verify onnx --against model --pair en-de",
    "fit": "fit model --memory 8GiB",
    "export": "export model --pair en-de --ratio 0.5 -o out/run",
}
RUNS = ("calibrate", "verify-against", "export")  # verbs that run the model
FOLDERS = Table(
    "model",
    VERBS,
    DAMAGE,
    crossed=True,
    by_all=(
        "a config: a pipe", "a model type of other tensors", "an index that leads out", "a tokenizer cut short",
        "a template: endless",
    ),
    only={  # of no consequence to other verbs
        "no tokenizer": ("calibrate", "recover", "gguf", "onnx", "verify-against", "export"),
        "an activation that is unknown": ("calibrate", "onnx"),
        "an unknown kind of rope": (*RUNS, "onnx"),
    },
)  # fmt: skip

RUNAWAY = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'x' * 10000000000 }}", "{{ 9 ** 999999999 }}", "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x' | center(10000000000) }}", "{{ '%10000000000d' % 1 }}", "{{ '{:>10000000000}'.format(1) }}",
]  # fmt: skip
NO_TEMPLATE = [
    "{% for", "{{ messages", "{% endfor %}", "{% unknown %}", "{{ 1 / 0 }}", "{{ messages[7].content }}", "{{ f() }}", "no text",
    "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{{ raise_exception('no') }}", "{{ messages | nothing }}",
    "{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ messages.__init__.__globals__ }}", "{{ 'x' + 1 }}",
    "{{ strftime_now(5) }}", "{{ messages | sort(attribute='x.y.z') | first + 1 }}", "{{ cycler().next() }}", "{% break %}",
]  # fmt: skip


def template(text: str | bytes) -> Damage:
    return replace("chat_template.jinja", text if isinstance(text, bytes) else text.encode())


def bad_templates(damage: Callable[[str], Damage]) -> dict[str, tuple[Damage, str]]:
    """Templates that run away or are none, put into a model by ``damage``."""
    return {f"runs away: {text[:50]}": (damage(text), "rendered: it ") for text in RUNAWAY} | {
        f"none: {text[:50]}": (damage(text), "chat template") for text in NO_TEMPLATE
    }


def in_config(value: Any) -> Damage:
    """A template in tokenizer_config.json instead of a file of its own."""

    def damage(folder: Path) -> None:
        (folder / "chat_template.jinja").unlink()
        update(chat_template=value)(folder / "tokenizer_config.json")

    return damage


TEMPLATES = Table(
    "model",
    {"prompt": "prompt model Save."},
    bad_templates(template)
    | {
        "not UTF-8": template(b"\xff{{ messages }}"),
        "too long": template(b"x" * (2 << 20)),
        "a number": in_config(5),
        "a list of numbers": in_config([1, 2]),
        "a list of nothing": in_config([{"name": "default"}]),
        "an empty list of names": in_config([{}]),
        "an object": in_config({"default": "x"}),
    },
)


def to_adapter(**fields: Any) -> Damage:
    """The folder becomes that of an adapter."""

    def damage(folder: Path) -> None:
        for name in [INDEX, "config.json"]:
            (folder / name).unlink()
        for shard in [*folder.glob("model*.safetensors")][1:]:
            shard.unlink()
        shard_of(folder).rename(folder / "adapter_model.safetensors")
        values = {
            "peft_type": "LORA",
            "base_model_name_or_path": "whole",
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj"],
        }
        (folder / "adapter_config.json").write_text(json.dumps(values | fields))

    return damage


ADAPTERS = Table(
    "model",
    {"prune": "prune model --plan plan.json -o out/cut"},
    {
        "tensors of no adapter": to_adapter(),
        "of no base": to_adapter(base_model_name_or_path=None),
        "of a base that is not there": to_adapter(base_model_name_or_path="no/such"),
        "of itself": to_adapter(base_model_name_or_path="model"),
        "of a base by number": to_adapter(base_model_name_or_path=5),
        "of another kind": to_adapter(peft_type="LOHA"),
        "of a kind by number": to_adapter(peft_type=5),
        "a rank by text": to_adapter(r="x"),
        "a rank of a billion": to_adapter(r=10**9),
        "a config that is a list": lambda folder: (to_adapter()(folder), write(b"[]")(folder / "adapter_config.json")),
        "a nested config": lambda folder: (to_adapter()(folder), write(DEEP)(folder / "adapter_config.json")),
        "without weights": lambda folder: (to_adapter()(folder), (folder / "adapter_model.safetensors").unlink()),
        "with empty weights": lambda folder: (to_adapter()(folder), write(b"")(folder / "adapter_model.safetensors")),
    },
)
TABLES = {"folders": FOLDERS, "templates": TEMPLATES, "adapters": ADAPTERS}
