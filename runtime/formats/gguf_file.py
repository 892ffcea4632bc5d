"""What a GGUF file holds, or all parts of a split one: metadata, tensors and where their bytes lie."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from gguf.constants import GGUFValueType

from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_header import GgufTensor, Part, decode, integer, read_part

_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class GgufFile:
    """A GGUF file, or all parts of a split one (``-00001-of-00003.gguf``), whichever part is named.

    Attributes:
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
        named = read_part(path)
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
        if value is None or value.type != GGUFValueType.STRING or value.count is not None:
            raise WorkError(f"{self.parts[0]} is damaged: it does not name its architecture.")
        return self.get("general.architecture")

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
