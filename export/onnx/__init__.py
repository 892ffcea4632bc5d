"""A pruned checkpoint as an ONNX folder, for our engine, onnxruntime-genai, optimum and transformers.js alike."""

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

from export.onnx.genai import genai_config
from export.onnx.graph import build_graph
from export.onnx.quantise import Blockwise, Float32, Storage
from export.onnx.self_test import write_self_test
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint
from runtime.engines.onnx import VARIANTS, read_json
from runtime.errors import RequestError
from runtime.files import new_file, new_files, new_folder, require_space
from runtime.prompts import ChatTemplate

FILES = {"none": "model.onnx", "int8": "model_int8.onnx", "int4": "model_q4.onnx"}  # names as transformers.js expects
_COPIED = ("generation_config.json", "tokenizer.json", "slimmoe.json")

_EXTERNAL = {"transformers.js_config": {"use_external_data_format": True}}  # else transformers.js ignores *.onnx_data


def _storage(quant: str, accuracy_level: int) -> Storage:
    if quant not in FILES:
        raise RequestError(f"'{quant}' is not a quantisation for ONNX; there are {', '.join(FILES)}.")
    return Float32() if quant == "none" else Blockwise({"int8": 8, "int4": 4}[quant], accuracy_level)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _require_same_model(checkpoint: Checkpoint, output: Path) -> None:
    """A folder that has another variant already must be of the same checkpoint: it shares config and tokenizer."""
    config = output / "config.json"
    theirs = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    pairs = [(checkpoint.folder / name, output / name) for name in ("tokenizer.json", "slimmoe.json")]
    same = all(a.exists() == b.exists() and (not a.exists() or filecmp.cmp(a, b, shallow=False)) for a, b in pairs)
    if theirs != checkpoint.config | _EXTERNAL or not same:
        raise RequestError(f"{output} holds something else already.", next_command=f"rm -r {output}   (or another -o)")


def export_onnx(folder: Path, output: Path, quant: str = "int4", accuracy_level: int = 4) -> Path:
    """Write one variant of a checkpoint into an ONNX folder; other variants of the same checkpoint may be there.

    Args:
        folder: a checkpoint of a family with a [decoder] section. Expert counts are those of its router tensors.
        output: the ONNX folder.
        quant: "none" (float32), "int8" or "int4" (blocks of 32 weights with one scale each).
        accuracy_level: of quantised products: 4 lets kernels use int8 activations, 0 keeps them float32 (2-3x slower).

    Raises:
        RequestError: an unknown quantisation, a model that the graph cannot express, or ``output`` is taken.
        WorkError: tensors are missing, or the disk is full.
    """
    folder, output = Path(folder), Path(output)
    storage, checkpoint = _storage(quant, accuracy_level), Checkpoint(folder)
    if not (folder / "tokenizer.json").exists():
        raise RequestError(f"{folder} has no tokenizer.json, which the ONNX engine needs.")
    name = FILES[quant]
    weights = Weights(f"{name}_data")
    model = build_graph(checkpoint, storage, weights)
    model_bytes = model.SerializeToString()
    require_space(output, weights.size + len(model_bytes))

    def write_variant(target: Path) -> None:
        with new_files(target / "onnx") as staged:  # the graph moves there last: one that is there is complete
            weights.write(staged / weights.location)
            (staged / name).write_bytes(model_bytes)
            write_self_test(staged / name, target, exact=quant == "none")
        best = next(file for file in VARIANTS if (target / "onnx" / file).exists())
        names = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
        generation = read_json(target / "generation_config.json")
        decoder = checkpoint.family.decoder
        genai = genai_config(checkpoint.config, generation, decoder, f"onnx/{best}", *names)
        _write_json(target / "genai_config.json", genai)

    if (output / "onnx").is_dir():
        if (output / "onnx" / name).exists():
            remedy = f"rm {output}/onnx/{name}*   (or another -o)"
            raise RequestError(f"{output}/onnx/{name} exists already and is kept as it is.", next_command=remedy)
        _require_same_model(checkpoint, output)
        write_variant(output)
        return output
    with new_folder(output) as temporary:
        for source in (folder / file for file in _COPIED):
            if source.exists():
                shutil.copyfile(source, temporary / source.name)
        # The template that our engine uses, in both places: transformers.js looks into tokenizer_config.json alone.
        template = ChatTemplate.from_folder(folder).source
        (temporary / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
        tokenizer = read_json(folder / "tokenizer_config.json") | {"chat_template": template}
        _write_json(temporary / "tokenizer_config.json", tokenizer)
        _write_json(temporary / "config.json", checkpoint.config | _EXTERNAL)
        write_variant(temporary)
    return output
