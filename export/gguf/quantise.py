"""llama-quantize as a tool, with one correction: the mix of types must not depend on the number of experts."""

import logging
import re
from collections import Counter
from functools import cache
from pathlib import Path

from gguf import GGUFReader

from export.gguf.convert import require_llama_cpp, run_tool
from runtime.engines import usable_cores
from runtime.errors import RequestError, WorkError

# llama.cpp stores attention in larger types where there are exactly 8 experts, for Mixtral's sake, and attn_v in
# smaller ones under 4 experts (llama_tensor_get_type in llama-quant.cpp). It is told this count instead, which falls
# under neither rule and is a multiple of any number of expert groups that 8 experts can have.
ORDINARY_COUNT = 16
_FALLBACK = re.compile(
    r"ncols +(\d+) not divisible by +(\d+) \(required for type +(\w+)\).*-> falling back to +(\w+)", re.IGNORECASE
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
        raise WorkError(f"llama-quantize does not run: {lines[-1]}", next_command="make setup")
    return names


def find_type(name: str) -> str:
    """llama.cpp's spelling of a type's name.

    Raises:
        RequestError: there is no such type.
    """
    if name.upper() not in type_names():
        raise RequestError(
            f"There is no type {name!r}; llama.cpp knows {', '.join(sorted(type_names()))}.",
            next_command="slimmoe gguf DIR --quant Q4_K_M -o FILE.gguf",
        )
    return name.upper()


def _expert_count(path: Path) -> tuple[str, int]:
    """The metadata key of the number of experts, and the number (0 for a dense model)."""
    fields = GGUFReader(path).fields
    key = f"{fields['general.architecture'].contents()}.expert_count"
    return key, int(fields[key].contents()) if key in fields else 0


def _restore_count(path: Path, key: str, count: int) -> None:
    reader = GGUFReader(path, "r+")
    reader.fields[key].parts[-1][0] = count  # a uint32 in place
    reader.data.flush()


def _warn_of_fallbacks(lines: list[str]) -> None:
    found = Counter(match.groups() for line in lines if (match := _FALLBACK.search(line)))
    for (columns, block, wanted, stored), tensors in found.items():
        logging.getLogger(__name__).warning(
            f"{tensors} tensors have rows of {columns} weights, not a multiple of {block}: "
            f"llama.cpp stores them as {stored.upper()} instead of {wanted.upper()}."
        )


def quantise(source: Path, output: Path, quant: str, imatrix: Path | None = None) -> None:
    """Write ``source`` (plain GGUF) as ``output`` in the type ``quant``, all other metadata unchanged.

    Raises:
        WorkError: llama.cpp is not built, or refuses: the importance matrix is missing or another model's.
    """
    tool = require_llama_cpp() / "bin" / "llama-quantize"
    key, count = _expert_count(source)
    special = 0 < count < 4 or count == 8
    options = [] if imatrix is None else ["--imatrix", str(imatrix)]
    options += ["--override-kv", f"{key}=int:{ORDINARY_COUNT}"] if special else []
    status, lines = run_tool([str(tool), *options, str(source), str(output), quant, str(usable_cores())])
    if status:
        reason = next(
            (line.partition("failed to quantize: ")[2] for line in lines if "to quantize: " in line), lines[-1]
        )
        again = f"slimmoe gguf DIR --quant {quant} --imatrix FILE -o FILE.gguf   (llama-imatrix writes such a file)"
        needed = imatrix is None and "imatrix" in reason
        raise WorkError(f"llama.cpp cannot write {quant}: {reason}", next_command=again if needed else None)
    if special:
        _restore_count(output, key, count)
    _warn_of_fallbacks(lines)
