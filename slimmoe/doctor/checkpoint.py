"""The doctor on a checkpoint's folder."""

import math
import re
from collections import Counter
from pathlib import Path

from export.capabilities import ONNX_TYPES, formats_of
from export.gguf.tokenizer import recognise
from prune.checkpoint import Checkpoint
from prune.tokenizer import highest_ids, read_tokenizer
from runtime.errors import RequestError
from runtime.formats.model_folder import TOKENIZER, check_side_files, own_file, read_config
from runtime.machine import memory_left
from runtime.text.pairs import Pair
from slimmoe.doctor.diagnosis import Notes, asked_pair, layout_text, note_prompt, template_of

# Bytes beside the weights. Cutting and writing: the peaks measured in docs/pruning.md and docs/onnx.md. Streaming: 1.44 GB
# were measured there where a layer has 105 million weights, half a GB of it Python and torch.
_CUTTING, _ONNX, _STREAMING, _TORCH = 30e6, 150e6, 9.0, 0.5e9
_FLOATS = 4  # calibration on the processor computes in float32
_TRAINED = 16  # weights, gradients and the two moments of AdamW, each in float32
_EXACT = 8  # verification is in float64


def read_checkpoint(folder: Path, pair: Pair, ratio: float, notes: Notes) -> None:
    with notes.problem_if_refused():
        notes.facts["family"] = str(read_config(folder).get("model_type"))
        check_side_files(folder)
        pair = asked_pair(folder, pair)
        template, where = template_of(folder)
        note_prompt(notes, template, where, pair)
    with notes.problem_if_refused():
        checkpoint = Checkpoint(folder)
        layers, stored = checkpoint.moe_layers, Counter[str]()
        for tensor in checkpoint.tensors.values():
            stored[tensor.dtype] += tensor.stop - tensor.start
        total = sum(checkpoint.family.layers_in(checkpoint.config, stack) for stack in checkpoint.family.layers)
        notes.facts |= {
            "layout": layout_text(total, [*layers.values()], checkpoint.top_k, checkpoint.weights),
            "stored": dict(stored.most_common()),
            "bytes": stored.total(),
            "quantisation": f"quantised: {checkpoint.quantisation.label}" if checkpoint.quantisation else "",
        }
        notes.note(
            tokenizer=lambda: _tokenizer(checkpoint), writable=lambda: _writable(checkpoint),
            memory=lambda: _checkpoint_memory(checkpoint, ratio),
        )  # fmt: skip
        spare = "" if notes.facts.get("memory", {}).get("verify", 0) < memory_left() else " --no-verify"
        export = f"slimmoe export {folder} --pair {pair} --ratio {ratio:g}{spare}"
        fit = f"slimmoe fit {folder} --memory 8GiB"
        notes.facts["commands"] = (export, fit)
        with notes.problem_if_refused():
            checkpoint.require_decoder()


def _tokenizer(checkpoint: Checkpoint) -> str:
    tokenizer, rows = read_tokenizer(checkpoint.folder), checkpoint.config.get("vocab_size")
    proper, highest = highest_ids(tokenizer)
    name = TOKENIZER if own_file(checkpoint.folder, TOKENIZER) else "older files, turned into a tokenizer.json"
    told = f"{name}, {highest + 1} tokens"
    if rows is not None and proper >= rows:
        raise RequestError(
            f"{checkpoint.folder} has a tokenizer with ids up to {proper}, and an embedding of {rows} rows."
        )
    if rows is not None and highest >= rows:
        told += f", {highest + 1 - rows} of them past the embedding of {rows} rows"
    if split := recognise(checkpoint.folder):
        told += f"; llama.cpp splits it as {split}"
    return told


def _writable(checkpoint: Checkpoint) -> dict[str, str]:
    able, reasons = formats_of(checkpoint), dict[str, list[str]]()
    for kind, error in able.onnx.items():
        reasons.setdefault(error.sentence, []).append(kind)
    gguf = able.refusal("F32")
    types = ", ".join(kind for kind in ONNX_TYPES if kind not in able.onnx)
    refused = "; ".join(f"{sentence} ({', '.join(kinds)})" for sentence, kinds in reasons.items())
    return {
        "GGUF": f"no: {gguf.sentence}" if gguf else "every type (slimmoe gguf --help lists them)",
        "ONNX": f"{types or 'no'}{': ' if refused else ''}{refused}",
    }


def _checkpoint_memory(checkpoint: Checkpoint, ratio: float) -> dict[str, int]:
    """About what stages take on the processor; recovery trains the cut, verification loads the unpruned model."""
    by_layer, routed = Counter[str](), 0
    for name, tensor in checkpoint.floats.items():
        count, place = math.prod(tensor.shape), checkpoint.place(next(iter(tensor.parts.values()), name))
        if found := re.match(r".*?\.\d+\.", name):
            by_layer[found[0]] += count
        routed += count * (place.tensor_role in ("expert", "stacked"))
    whole = checkpoint.weights
    layer = max(by_layer.values(), default=whole)
    in_memory, streamed = _FLOATS * whole * 1.1 + _TORCH, _STREAMING * layer + _TORCH
    return {
        "calibrate": int(in_memory), "calibrate layer by layer": int(min(streamed, in_memory)), "prune": int(_CUTTING),
        f"recover at {ratio:g}": int(_TRAINED * (whole - ratio * routed) + _TORCH), "onnx": int(_ONNX),
        "verify": int(_EXACT * whole + _TORCH),
    }  # fmt: skip
