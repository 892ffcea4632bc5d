"""What a GGUF file holds, or all parts of a split one: metadata, tensors and where their bytes lie."""

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_header import GgufTensor, Part, decode, integer, read_part
from runtime.formats.gguf_names import EMBEDDING, ROUTER, expert_shape, in_layer, layer_of_experts, split_layer
from runtime.formats.gguf_types import ValueType

MOST_LAYERS, MOST_EXPERTS = 512, 1024  # of llama.cpp
_GATING_FUNCTIONS = range(1, 5)  # of llama.cpp
_SCALINGS = ("none", "linear", "yarn", "longrope")  # of llama.cpp
_LARGEST = (1 << 31) - 1  # of sizes, which llama.cpp keeps in 32 bits, and counts with a sign
_SIZES = (
    "embedding_length", "feed_forward_length", "expert_feed_forward_length", "attention.key_length", "attention.value_length",
    "attention.kv_lora_rank", "attention.sliding_window", "rope.dimension_count",
)  # fmt: skip
_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class GgufFile:
    """A GGUF file, or all parts of a split one (``-00001-of-00003.gguf``), whichever part is named.

    Attributes:
        path: the file that was named.
        parts: the files in order; the first one holds the metadata.
        metadata: by key, see ``Value``; ``get`` decodes.
        tensors: by name, in the order of the files.
        alignment: of each tensor's first byte, counted from the start of the data.
        version: 2 or 3, which differ in nothing that is read here.
        metadata_end: byte offset in the first part where the last value ends.

    Raises:
        RequestError: no such file, or not a GGUF file of a version that is read here.
        WorkError: it is damaged, cut short, or a part is missing.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise RequestError(f"There is no file {path}." if not path.is_dir() else f"{path} is a folder, not a file.")
        self.path, named = path, read_part(path)
        read = [named if part == path else read_part(part) for part in self._find_parts(path, named)]
        first = read[0]
        self.parts = [part.path for part in read]
        self.metadata, self.metadata_end = first.metadata, first.metadata_end
        self.version, self.alignment = first.version, first.alignment
        self.tensors: dict[str, GgufTensor] = {}
        for number, part in enumerate(read):
            self._check_part(part, number, len(read))
            if twice := part.tensors.keys() & self.tensors.keys():
                raise WorkError(f"{part.path} is damaged: the tensor {min(twice)!r} is in another part too.")
            self.tensors |= part.tensors
        total = integer(self.parts[0], "split.tensors.count", self.metadata)
        if len(read) > 1 and total is not None and total != len(self.tensors):
            raise WorkError(f"{self.parts[0]} and its parts hold {len(self.tensors)} tensors, not {total}.")

    @staticmethod
    def _find_parts(path: Path, named: Part) -> list[Path]:
        count = integer(path, "split.count", named.metadata) or 1
        if count <= 1:
            return [path]
        name = _SPLIT_NAME.fullmatch(path.name)
        if name is None or int(name[3]) != count:
            raise RequestError(
                f"{path} is one of {count} parts, which are found by their names only when these end in "
                f"-00001-of-{count:05}.gguf and so on."
            )
        parts = [path.with_name(f"{name[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
        if missing := next((part for part in parts if not part.is_file()), None):
            raise WorkError(f"{path} is one of {count} parts, and {missing.name} is missing.")
        return parts

    @staticmethod
    def _check_part(part: Part, number: int, count: int) -> None:
        if count == 1:
            return
        said = [integer(part.path, key, part.metadata) for key in ("split.no", "split.count")]
        if said != [number, count]:
            raise WorkError(f"{part.path} is not part {number + 1} of {count}, as its name has it.")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key as a Python value (arrays: a list), or ``default`` where the key is not there.

        Raises:
            WorkError: a string is not UTF-8.
        """
        value = self.metadata.get(key)
        return default if value is None else decode(self.parts[0], key, value)

    @cached_property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture: qwen3moe, gpt-oss, ...

        Raises:
            WorkError: the file names none.
        """
        value = self.metadata.get("general.architecture")
        if value is None or value.type != ValueType.STRING or value.count is not None:
            raise WorkError(f"{self.parts[0]} is damaged: it does not name its architecture.")
        return self.get("general.architecture")

    def numbers(self, name: str) -> list[int]:
        """Values of an integer key of the architecture, which may be given by layer; none where it is not there.

        Raises:
            WorkError: it is something else, negative, or of more layers than llama.cpp has.
        """
        key = f"{self.architecture}.{name}"
        value = self.metadata.get(key)
        if value is None:
            return []
        integer = value.type.name.startswith(("INT", "UINT"))
        if not integer or not 1 <= (1 if value.count is None else value.count) <= MOST_LAYERS:
            raise WorkError(f"{self.parts[0]} is damaged: {key!r} is not a number, or one for each layer.")
        found = self.get(key)
        found = found if isinstance(found, list) else [found]
        if min(found) < 0:
            raise WorkError(f"{self.parts[0]} is damaged: {key!r} is negative.")
        return found

    def read(self, name: str) -> bytes:
        """The bytes of a tensor.

        Raises:
            WorkError: the file has become shorter.
        """
        tensor = self.tensors[name]
        with tensor.path.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.stop - tensor.start)
        if len(data) != tensor.stop - tensor.start:
            raise WorkError(f"{tensor.path} is cut short: it ended within the tensor {name!r}.")
        return data


def check_gguf(path: Path) -> GgufFile:
    """Read a header before llama.cpp does, and refuse what it would end the whole process for.

    It asserts its hyperparameters (``load_hparams`` in llama-model.cpp) where other faults are errors with a reason.

    Raises:
        RequestError: no such file, or not a GGUF file of a version that is read here.
        WorkError: the file is damaged.
    """
    file = GgufFile(path)
    check_model(file)
    return file


def check_model(file: GgufFile) -> None:
    """Refuse metadata that describe no model, and tensors of another one: what llama.cpp asserts, and sizes beyond what it has.

    Raises:
        WorkError: they do, or there are such.
    """

    def largest(name: str, default: int = 0) -> int:
        return max(file.numbers(name), default=default)

    layers, experts, groups = largest("block_count", 1), largest("expert_count"), largest("expert_group_count")
    used, used_groups = largest("expert_used_count"), largest("expert_group_used_count")
    right = {name: largest(name) <= _LARGEST for name in _SIZES} | {
        "block_count": 1 <= layers <= MOST_LAYERS,
        "nextn_predict_layers": largest("nextn_predict_layers") < layers,
        "expert_count": experts <= MOST_EXPERTS,
        "expert_used_count": min(experts, 1) <= used <= experts,
        "expert_group_count": groups < max(experts, 1) and (groups < 2 or experts % groups == 0),
        "expert_group_used_count": groups < 2 or 1 <= used_groups < groups,
        "expert_gating_func": largest("expert_gating_func", 1) in _GATING_FUNCTIONS,
    }
    width = largest("embedding_length")
    for name in ("attention.head_count", "attention.head_count_kv"):  # of each head at least one number
        right[name] = largest(name) <= (width or _LARGEST)
    for name in ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"):
        value = file.get(f"{file.architecture}.{name}", 0.0)
        right[name] = isinstance(value, float) and 0 <= value < math.inf
    right["rope.scaling.type"] = file.get(f"{file.architecture}.rope.scaling.type", "none") in _SCALINGS
    if wrong := [f"{file.architecture}.{name}" for name, is_right in right.items() if not is_right]:
        raise WorkError(f"{file.path} is damaged: its metadata describe no model, by {' and '.join(wrong)}.")
    _check_tensors(file, experts, width)


def _check_tensors(file: GgufFile, experts: int, width: int) -> None:
    """Refuse embeddings that are none, tensors beyond the last layer, and parts of other experts than the metadata tell of.

    Args:
        width: of a hidden state; 0: it is not said.
    """
    layers = max(file.numbers("block_count"), default=MOST_LAYERS)
    vocabulary = file.metadata.get("tokenizer.ggml.tokens")
    tokens = vocabulary.count if vocabulary else None
    for name, tensor in file.tensors.items():
        layer, rest = split_layer(name)
        wrong = f"{file.path} is damaged: {name} has the shape {list(tensor.shape)}"
        if name == EMBEDDING and len(tensor.shape) != 2:
            raise WorkError(f"{wrong}, and not a row for each token.")
        if name == EMBEDDING and tokens is not None and tensor.shape[0] != tokens:
            raise WorkError(f"{wrong}, and its vocabulary {tokens} tokens.")
        if layer is None:
            continue
        if layer >= layers:
            raise WorkError(f"{file.path} is damaged: {name} is of none of its {layers} layers.")
        if (shape := expert_shape(rest, tensor.shape)) is None:
            continue
        if shape[0] != experts:
            raise WorkError(f"{wrong}, and its metadata tell of {experts} experts.")
        if rest == ROUTER and shape[1:] != (width or shape[-1],):
            raise WorkError(f"{wrong}, and not {experts} rows" + f" of {width} numbers" * (width > 0) + ".")
        if layer_of_experts(name) is not None and in_layer(layer, ROUTER) not in file.tensors:
            raise WorkError(f"{file.path} is damaged: {name} is of experts without a router.")
