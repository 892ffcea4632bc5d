"""MoE families as data: one TOML file each, found by its name. To add a family, add a file (docs/add-a-family.md)."""

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from prune.families.decoder import Decoder
from runtime.errors import RequestError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Layout:
    """Tensor names of a family's checkpoints, relative to a layer (``model.layers.3.``)."""

    router: str  # one row for each expert
    experts: tuple[str, ...]  # prefixes: with {expert}, of one expert's tensors; without, of tensors stacked by expert
    selection_bias: str | None = None  # one value for each expert, added before top-k is taken

    @property
    def block(self) -> tuple[str, ...]:
        """The dotted prefix that router and experts share, the MoE block; the first part of each where they share none."""
        paths = [name.split(".")[:-1] for name in (self.router, *self.experts)]
        shared = ""
        for names in zip(*paths, strict=False):
            if len(set(names)) > 1:
                break
            shared += f"{names[0]}."
        return (shared,) if shared else tuple(f"{path[0]}." for path in paths)


@dataclass(frozen=True)
class Modules:
    """Names in transformers' model, relative to a layer."""

    router: str
    experts: str
    selection_bias: str | None = None  # the parameter or buffer
    scaled_inputs: bool = False  # experts get all tokens [E * T, H], scaled by the router's scores, zero if not chosen


@dataclass(frozen=True)
class Keys:
    """Keys of ``config.json``. Where several names are in use, all that are present are rewritten."""

    expert_count: tuple[str, ...]
    top_k: tuple[str, ...] | int  # a number where the code, not the config, decides
    groups: str | None = None  # expert groups of the router, and how many of them a token may use
    topk_groups: str | None = None
    mtp_layers: str | None = None  # how many multi-token-prediction layers follow the model's own


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp takes for granted about a family."""

    refused: str = ""  # why llama.cpp cannot run the family; empty where it can
    architecture: str = ""  # the class by whose name its converter knows the family, where that is another
    defaults: dict[str, Any] = field(default_factory=dict)  # keys its converter needs and transformers does not save
    fixed: dict[str, Any] = field(default_factory=dict)  # keys of config.json whose value its code does not read
    rope_fixed: dict[str, Any] = field(
        default_factory=dict
    )  # the same of rope_parameters; others compute nearly the same
    nearly_fixed: dict[str, Any] = field(
        default_factory=dict
    )  # keys whose other values its code computes nearly the same
    # By key of a list in config.json, its values and what its converter calls them.
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    input_first: bool = False  # its converter wants stacked experts with input features before output features
    nearly: str = ""  # in what its code computes the family otherwise, too little to matter
    separate_output: bool = False  # its code wants output weights of their own where the embedding serves as them
    drafts: bool = False  # it drafts with the family's layers of multi-token prediction, so cuts keep them


@dataclass(frozen=True)
class Family:
    """Where a family keeps its experts."""

    model_type: str
    config: Keys
    # Prefix of a stack of layers: config keys of its length, which may be a list; numbered through in this order.
    layers: dict[str, tuple[str, ...]]
    layouts: tuple[Layout, ...]  # a checkpoint follows the first whose router is there
    modules: Modules
    prefixes: dict[str, str] = field(default_factory=dict)  # others in the files: what modules begin with then
    architectures: tuple[str, ...] = ()  # names by which models of other types are of this family, too
    beside: tuple[str, ...] = ()  # prefixes of tensors of other parts than the decoder, such as vision
    text_class: str = ""  # transformers' causal language model of the decoder alone, where it has one
    padding: bool = (
        True  # false: a selection bias does not keep an expert out of the others' scores (softmax before it)
    )
    single_precision: bool = False  # transformers computes parts of its layers in float32 whatever it is asked for
    group_floor: int = 1  # experts of a group that the router's group score adds up
    unloaded: tuple[str, ...] = ()  # prefixes of tensors that transformers leaves aside; {beyond}: past the last layer
    gguf: Gguf = field(default_factory=Gguf)
    decoder: Decoder | None = None  # for the ONNX graph writer, if it knows the family
    onnx_refused: str = ""  # why it does not, the end of a sentence

    def layers_in(self, config: dict[str, Any], stack: str) -> int:
        """How many layers a stack has by a config."""
        length = next((config[key] for key in self.layers[stack] if config.get(key) is not None), 0)
        return len(length) if isinstance(length, list | str) else int(length)

    def experts_in(self, config: dict[str, Any]) -> int | None:
        """The number of experts by a config (the largest, where it is given by layer); None where it does not say."""
        value = next((config[key] for key in self.config.expert_count if config.get(key) is not None), None)
        return max(value) if isinstance(value, list) else value

    def describes(self, name: str) -> bool:
        """Whether the graph writer's section says what a tensor within a layer is, of names without an expert's number."""
        roles = self.decoder.layer.values() if self.decoder else ()
        return any(name in ([each] if isinstance(each, str) else each) for each in roles)


def decoder_config(config: dict[str, Any]) -> dict[str, Any]:
    """What a ``config.json`` says of the decoder: of a model with other parts its ``text_config``, over the rest."""
    nested = config.get("text_config")
    return config | nested if isinstance(nested, dict) else config


def families() -> list[str]:
    """Names of all families, which are the names of their files."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def load_family(name: str) -> Family:
    """A family by the name of its file. A misspelt key is a TypeError: the file is wrong, not the user."""
    data: dict[str, Any] = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    try:
        keys: dict[str, Any] = data.pop("config")
        keys = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
        layouts = tuple(Layout(**entry | {"experts": tuple(entry["experts"])}) for entry in data.pop("layout"))
        layers = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in data.pop("layers").items()}
        modules = Modules(**data.pop("modules"))
        parts: dict[str, Any] = {"gguf": Gguf(**data.pop("gguf", {}))}
        parts |= {key: tuple(data.pop(key, ())) for key in ("unloaded", "architectures", "beside")}
        parts["onnx_refused"] = data.pop("onnx", {"refused": ""})["refused"]
        if "decoder" in data:
            parts["decoder"] = Decoder(**data.pop("decoder"))
        return Family(config=Keys(**keys), layers=layers, layouts=layouts, modules=modules, **parts, **data)
    except (TypeError, KeyError) as error:
        raise TypeError(f"prune/families/{name}.toml: {error}") from error


def family_of(config: dict[str, Any]) -> Family:
    """The family of a checkpoint's ``config.json``: by its ``model_type``, that of its decoder first, or its class.

    Raises:
        RequestError: no family file describes this model.
    """
    known = families()
    for model_type in (decoder_config(config).get("model_type"), config.get("model_type")):
        if (name := re.sub(r"\W", "_", str(model_type))) in known:  # nllb-moe
            return load_family(name)
    if named := {*(config.get("architectures") or ())}:
        for name in known:
            with suppress(TypeError, tomllib.TOMLDecodeError):  # a broken file is no other model's trouble
                if named & {*load_family(name).architectures}:
                    return load_family(name)
    raise RequestError(
        f"Models of type {config.get('model_type')!r} are not supported; known MoE families: {', '.join(known)}. "
        "docs/add-a-family.md says how to add one."
    )
