"""llama-quantize as a tool, with one correction: the mix of types must not depend on the number of experts."""

import logging
import math
import mmap
import re
import struct
from collections import defaultdict
from functools import cache
from pathlib import Path

from gguf import GGUFValueType

from export.gguf.convert import require_llama_cpp, run_tool
from export.gguf.types import ALIASES, TYPES
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_names import EXPERT_WEIGHTS, in_layer, split_layer
from runtime.formats.gguf_types import bits_per_weight
from runtime.llama_paths import GET_TOOLS
from runtime.machine import usable_cores

# llama_tensor_get_type in llama-quant.cpp takes larger types for attention, and for some down projections, where there
# are exactly 8 experts, for Mixtral's sake; other types for values of attention under 4 experts; and counts layers
# otherwise where there is one. It is told this count instead, which falls under none of these rules, and is a multiple of
# any number of expert groups that 8 experts can have.
ORDINARY_COUNT = 16
# MXFP4_MOE knows experts by their third axis, which a single expert's tensor has no more.
_EXPERTS_OF_MXFP4 = f"{EXPERT_WEIGHTS}=mxfp4"
_FALLBACK = re.compile(
    r"warning: +(\S+) +- ncols +(\d+) not divisible by +(\d+) \(required for type +(\w+)\).*-> falling back to +(\w+)",
    re.IGNORECASE,
)


@cache
def type_names() -> tuple[str, ...]:
    """The types that this llama.cpp can write, by its own list.

    Raises:
        WorkError: llama.cpp is not built, or its tool does not run.
    """
    _, lines = run_tool([str(require_llama_cpp() / "bin" / "llama-quantize"), "--help"])
    names = tuple(match[1] for line in lines if (match := re.match(r"\d+ +or +(\w+)", line)))
    if not names:
        raise WorkError(f"llama-quantize does not run: {lines[-1]}", next_command=GET_TOOLS)
    return names


def find_type(name: str) -> str:
    """llama.cpp's spelling of a type's name.

    Raises:
        RequestError: there is no such type.
    """
    found = ALIASES.get(name.upper(), name.upper())
    if found not in TYPES:
        raise RequestError(
            f"There is no type {name!r}; llama.cpp knows {', '.join(TYPES)}.",
            next_command="slimmoe gguf --help   (a line of advice on each)",
        )
    return found


def _restore_count(path: Path, key: str, told: int, count: int) -> None:
    """Overwrite the number of experts where it stands in the header: key, type and value are next to one another."""
    entry = key.encode() + struct.pack("<II", GGUFValueType.UINT32, told)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = data.find(entry)
        if at < 0:
            raise WorkError(f"llama-quantize wrote {path} without {key}.")
        data[at + len(entry) - 4 : at + len(entry)] = struct.pack("<I", count)


def _shortened(names: list[str]) -> str:
    """The names, with one pattern for a tensor of several layers, which it has as ``{0-5,7}``."""
    layers: dict[str, list[int]] = defaultdict(list)
    found = []
    for name in names:
        layer, rest = split_layer(name)
        if layer is None:
            found.append(name)
        else:
            layers[rest].append(layer)
    for rest, numbers in layers.items():
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
        found.append(in_layer(text if text.isdigit() else f"{{{text}}}", rest))
    return ", ".join(found)


def _warn_of_fallbacks(lines: list[str], source: GgufFile, output: Path) -> None:
    """Say which tensors llama.cpp stores in another type because of their rows, and what that costs."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for line in lines:
        if match := _FALLBACK.search(line):
            found[match.groups()[1:]].append(match[1])
    for (columns, block, wanted, stored), names in found.items():
        weights = sum(math.prod(source.tensors[name].shape) for name in names)
        more = weights * (bits_per_weight(stored.upper()) - bits_per_weight(wanted.upper())) / 8
        share = more / (output.stat().st_size - more)
        logging.getLogger(__name__).warning(
            f"{len(names)} tensors have rows of {columns} weights, not a multiple of {block}: llama.cpp stores them as "
            f"{stored.upper()} instead of {wanted.upper()}, which costs {more / 1e6:.1f} MB ({share:.0%} of the file): "
            f"{_shortened(names)}."
        )


def options_of(plain: GgufFile, quant: str, imatrix: Path | None = None) -> list[str]:
    """What llama-quantize is told so that its types are those of an ordinary number of experts."""
    key = f"{plain.architecture}.expert_count"
    count = int(plain.get(key, 0))
    options = [] if imatrix is None else ["--imatrix", imatrix.name]
    if 0 < count < 4 or count == 8:
        options += ["--override-kv", f"{key}=int:{ORDINARY_COUNT}"]
    if count == 1 and quant == "MXFP4_MOE":
        options += ["--tensor-type", _EXPERTS_OF_MXFP4]
    return options


def quantise(source: Path, output: Path, quant: str, imatrix: Path | None = None) -> None:
    """Write ``source`` (plain GGUF) as ``output`` in the type ``quant``, all other metadata unchanged.

    Args:
        imatrix: of this very model; its file name, without the folder, is kept in the metadata.

    Raises:
        WorkError: llama.cpp is not built, or refuses: the importance matrix is missing or another model's.
    """
    tool = require_llama_cpp() / "bin" / "llama-quantize"
    plain = GgufFile(source)
    options = options_of(plain, quant, imatrix)
    command = [str(tool), *options, str(source.absolute()), str(output.absolute()), quant, str(usable_cores())]
    status, lines = run_tool(command, folder=None if imatrix is None else imatrix.parent)
    if status:
        reason = next(
            (line.partition("failed to quantize: ")[2] for line in lines if "to quantize: " in line), lines[-1]
        )
        again = (
            f"slimmoe gguf DIR --quant {quant} --pair en-de   (computes one; --imatrix FILE takes one that is there)"
        )
        needed = imatrix is None and "imatrix" in reason
        raise WorkError(f"llama.cpp cannot write {quant}: {reason}", next_command=again if needed else None)
    if "--override-kv" in options:
        key = f"{plain.architecture}.expert_count"
        _restore_count(output, key, ORDINARY_COUNT, int(plain.get(key)))
    _warn_of_fallbacks(lines, plain, output)
