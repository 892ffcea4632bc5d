"""The doctor on what an engine runs: GGUF files and ONNX folders."""

import contextlib
import math
from collections import Counter
from pathlib import Path

from export.gguf_sizes import cut_size, type_of
from prune.gguf_model import GgufModel
from prune.tokenizer import highest_ids, read_tokenizer
from runtime.errors import RequestError
from runtime.formats.artefact import files_of
from runtime.formats.gguf_file import check_gguf
from runtime.formats.model_folder import check_side_files
from runtime.formats.onnx_folder import FILES, graph_file
from runtime.formats.provenance import read_provenance
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from slimmoe.doctor.diagnosis import SEGMENT, Notes, asked_pair, layout_text, note_prompt, template_of

_CALIBRATING, _CUTTING = 0.1e9, 30e6  # beside the mapped file: the peaks measured in docs/gguf.md
_ROOM = 1.1  # bytes of memory for each byte of the file: the cache and what is computed, too


def read_gguf(path: Path, pair: Pair, ratio: float, notes: Notes) -> None:
    with notes.problem_if_refused():
        file, pair = check_gguf(path), asked_pair(path, pair)
        stored = Counter[str]()
        for tensor in file.tensors.values():
            stored[tensor.type.name] += tensor.stop - tensor.start
        notes.facts |= {
            "bytes": sum(part.stat().st_size for part in files_of(path)), "stored": dict(stored.most_common()),
            "family": file.architecture,
            "layout": f"{max(file.numbers('block_count'), default=0)} layers, no experts",
            "commands": (f"slimmoe translate {path} --pair {pair} {SEGMENT!r}",),
        }  # fmt: skip
        tokens = file.get("tokenizer.ggml.tokens", [])
        notes.facts["tokenizer"] = (
            f"{file.get('tokenizer.ggml.model', 'none')}, {len(tokens)} tokens, split as "
            f"{file.get('tokenizer.ggml.pre', 'by default')}"
        )
        with notes.problem_if_refused():
            note_prompt(notes, ChatTemplate.from_gguf_file(file), "tokenizer.chat_template", pair)
    if "family" in notes.facts:
        with contextlib.suppress(RequestError):  # a model without experts runs all the same
            model = GgufModel(path)
            with notes.problem_if_refused():
                _gguf_experts(model, type_of(model), pair, ratio, notes)


def _gguf_experts(model: GgufModel, kind: str, pair: Pair, ratio: float, notes: Notes) -> None:
    path, layers = model.source, model.moe_layers
    weights = sum(math.prod(tensor.shape) for tensor in model.tensors.values())
    total = max(model.numbers("block_count"), default=0)
    calibrate = f"slimmoe calibrate {path} --pair {pair} -o stats.safetensors   (then plan, and prune {path})"
    notes.facts |= {
        "layout": layout_text(total, [*layers.values()], model.top_k, weights),
        "writable": {"GGUF": f"a cut keeps the types as they are ({kind})", "ONNX": "no: it needs the checkpoint"},
        "memory": {
            "calibrate": int(_CALIBRATING), "prune": int(_CUTTING), "run": int(_ROOM * notes.facts["bytes"]),
            f"run at {ratio:g}": int(_ROOM * cut_size(model, ratio)[0]),
        },
        "commands": (calibrate, *notes.facts["commands"]),
    }  # fmt: skip


def read_onnx(path: Path, pair: Pair, notes: Notes) -> None:
    with notes.problem_if_refused():
        graph = graph_file(path)
        folder = graph.absolute().parent.parent
        check_side_files(folder)
        told = (provenance := read_provenance(folder)) and provenance.pair
        pair = asked_pair(path, pair) if told else pair
        sizes = {
            kind: sum(each.stat().st_size for each in files_of(folder / "onnx" / name))
            for kind, name in FILES.items()
            if (folder / "onnx" / name).exists()
        }
        smallest = min(sizes.values(), default=0)
        notes.facts |= {
            "bytes": sum(sizes.values()), "stored": sizes, "memory": {"run": int(_ROOM * smallest)},
            "commands": (f"slimmoe translate {path} --pair {pair} {SEGMENT!r}",),
        }  # fmt: skip
        notes.note(tokenizer=lambda: f"tokenizer.json, {highest_ids(read_tokenizer(folder))[1] + 1} tokens")
        note_prompt(notes, *template_of(folder), pair)
