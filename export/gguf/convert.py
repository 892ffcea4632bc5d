"""llama.cpp's converter as a tool: it knows some ninety architectures, and we rewrite none of them."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export.gguf.converter_folder import converter_folder
from export.gguf.converter_process import FOUND, UNKNOWN_TOKENIZER, differences
from export.gguf.tokenizer import unknown_tokenizer
from prune.checkpoint import Checkpoint
from runtime import llama_paths
from runtime.engines.llama_library import GAVE_UP
from runtime.errors import RequestError, WorkError
from runtime.processes import ends_with_us

_PROCESS = Path(__file__).with_name("converter_process.py")


@dataclass(frozen=True)
class Extra:
    """What the converter is told beyond the folder.

    Attributes:
        keys: GGUF keys to add.
        general: attributes of gguf-py's ``Metadata`` to set, which become the keys ``general.*``.
        pre: name of the pre-tokenisation to write whatever the tokenizer; recognised: for one that it does not know.
        dequantised: the keys of config.json that tell of a quantisation, where the weights are to be read as floats.
        ends: ids of tokens that end an answer.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    pre: str | None = None
    recognised: str | None = None
    dequantised: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()


def require_llama_cpp() -> Path:
    """The folder of the environment's llama.cpp (tools/build_llama.py).

    Raises:
        WorkError: it is not built.
    """
    home = llama_paths.HOME
    if not (home / "version").exists():
        raise WorkError(f"llama.cpp is not built: there is no {home}.", next_command=llama_paths.GET_TOOLS)
    return home


def run_tool(
    command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None, told: str = ""
) -> tuple[int, list[str]]:
    """Exit status and non-empty output lines of a tool run in ``folder``; it prints nothing on the user's terminal.

    Args:
        told: what it reads on standard input.
    """
    result = subprocess.run(
        command,
        cwd=folder,
        input=told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
        **ends_with_us(),
    )
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    if result.returncode < 0:
        lines.append(f"ended by signal {-result.returncode}")
    return result.returncode, lines or [f"ended with status {result.returncode}"]


def inexactness(checkpoint: Checkpoint) -> str:
    """In what llama.cpp computes the model only nearly as transformers does; empty where it is exact."""
    gguf, decoder, fixed = checkpoint.family.gguf, checkpoint.family.decoder, checkpoint.family.gguf.rope_fixed
    known = (decoder.defaults if decoder else {}) | checkpoint.config
    rope = checkpoint.config.get("rope_parameters") or checkpoint.config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    found = differences(known, gguf.nearly_fixed) + (differences(fixed | rope, fixed) if kind == "yarn" else [])
    return "; ".join([*found, *([gguf.nearly] if gguf.nearly else [])])


def require_supported(checkpoint: Checkpoint, groups: int | None = None) -> None:
    """Refuse by config.json and headers what llama.cpp does not compute.

    A key that config.json leaves out has the default of transformers' code, which only the converter's process knows; it
    looks again.

    Args:
        groups: expert groups of the router after a cut that is to be made; None: as they are.

    Raises:
        RequestError: why the checkpoint has no GGUF.
    """
    gguf, decoder, folder = checkpoint.family.gguf, checkpoint.family.decoder, checkpoint.folder
    known = gguf.fixed | (decoder.defaults if decoder else {}) | checkpoint.config
    if groups is not None and (key := checkpoint.family.config.groups):
        known[key] = groups
    onnx = f"slimmoe onnx {folder} -o DIR" if decoder else None
    if reason := gguf.refused or "; ".join(differences(known, gguf.fixed)):
        raise RequestError(f"{folder} has no GGUF: {reason}.", next_command=onnx)
    if len(set(checkpoint.moe_layers.values())) > 1:
        raise RequestError(
            f"{folder} has different numbers of experts by layer, and a GGUF file holds one number for all.",
            next_command=onnx and f"{onnx}   (or a plan with --allocation uniform)",
        )


def _changes(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the converter is to read in config.json in another way."""
    keys = checkpoint.family.config
    lacking = not any(checkpoint.place(name).tensor_role == "unloaded" for name in checkpoint.tensors)
    # It wants more experts than groups, so that one expert in one group would end it.
    alone = max(checkpoint.moe_layers.values()) == 1
    return {
        "without_mtp": lacking,  # a config may count layers of multi-token prediction that are not there
        "overrides": {keys.mtp_layers: 0} if lacking and keys.mtp_layers else {},
        "removed": [keys.groups, keys.topk_groups] if alone else [],
    }


def convert(checkpoint: Checkpoint, output: Path, plain: str, extra: Extra) -> str | None:
    """Write ``checkpoint`` as a GGUF file of the plain type F32, F16 or BF16.

    Returns:
        where the name of its pre-tokenisation is from: ``known`` to the converter, ``recognised``, ``forced``, or None
        where its tokenizer needs none (SentencePiece).

    Raises:
        WorkError: llama.cpp is not built, or its converter refuses the model or its tokenizer.
    """
    source, folder = require_llama_cpp() / "source", checkpoint.folder
    told = json.dumps(asdict(extra) | asdict(checkpoint.family.gguf) | _changes(checkpoint))
    with converter_folder(checkpoint) as given:
        places = [str(each.absolute()) for each in (source, given, output)]
        command = [sys.executable, str(_PROCESS), *places, plain.lower()]
        # Not as an argument: a list of tokens that stay may be longer than one may be.
        status, lines = run_tool(command, os.environ | {"HF_HUB_OFFLINE": "1"}, told=told)
    if status == UNKNOWN_TOKENIZER:
        raise unknown_tokenizer(folder)
    if status or not output.exists():
        gave_up = next((line for line in lines if line.startswith(GAVE_UP)), None)
        raise WorkError(gave_up or f"llama.cpp's converter failed on {folder}: {lines[-1][:300]}")
    return next((line.removeprefix(FOUND) for line in lines if line.startswith(FOUND)), None)
