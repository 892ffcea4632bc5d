"""A pruned checkpoint as an ONNX folder, for our engine, onnxruntime-genai, optimum and transformers.js alike."""

import filecmp
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from export.onnx.blocks import Blocks
from export.onnx.encoder_decoder import STEMS, build_encoder_decoder
from export.onnx.genai import PROVIDERS, genai_config
from export.onnx.graph import build_graph
from export.onnx.nodes import shape_of
from export.onnx.quantise import Blockwise, Float16, Float32, Storage
from export.onnx.self_test import write_self_test
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint
from prune.tokenizer import SENTENCEPIECE, tokens_past, write_tokenizer
from runtime.errors import RequestError
from runtime.formats.files import new_file, new_files, new_folder, require_space
from runtime.formats.model_folder import TOKENIZER, own_file
from runtime.formats.onnx_folder import FILES, HALF_SUFFIXES, SUFFIXES, end_ids, graph_file, read_json
from runtime.formats.provenance import FILE as PROVENANCE_FILE
from runtime.formats.provenance import Provenance, read_provenance, write_provenance
from runtime.formats.quantised import plain_config
from runtime.text.prompt_templates import DEFAULT, PromptTemplate
from runtime.text.prompts import ChatTemplate, turn_end_ids
from runtime.text.tokenizer_file import load_tokenizer

BLOCKS = (32, 128)  # of experts
_WIDE = 256  # of attention, at 8 bits: no further from the original than blocks of 32, and faster
_COPIED = ("generation_config.json", TOKENIZER)

_EXTERNAL = {"transformers.js_config": {"use_external_data_format": True}}  # else transformers.js ignores *.onnx_data


def _storage(quant: str, block: int, zero_points: bool, accuracy_level: int) -> Storage:
    """How to store weights.

    ``int4`` leaves attention at 8 bits: its weights are few, and cost most where they are coarse (docs/onnx.md has the
    measurements).
    """
    if quant not in FILES:
        raise RequestError(f"'{quant}' is not a quantisation for ONNX; there are {', '.join(FILES)}.")
    if block not in BLOCKS:
        raise RequestError(f"There are no blocks of {block} weights; there are {' and '.join(map(str, BLOCKS))}.")
    if zero_points and quant != "int4":
        raise RequestError(
            f"Zero points are for int4; {quant} has none.",
            next_command="slimmoe onnx DIR --quant int4 --zero-points -o DIR",
        )
    if quant in ("none", "fp16"):
        return Float16() if quant == "fp16" else Float32()
    bits = 4 if quant == "int4" else 8
    experts, vocabulary = Blocks(bits, block, zero_points), Blocks(bits, BLOCKS[0], zero_points)
    return Blockwise(experts, vocabulary, Blocks(8, _WIDE), accuracy_level)


def _is_half(activations: str, provider: str, quant: str) -> bool:
    """Whether activations are float16; refuses what does not exist or cannot run."""
    if activations not in ("fp32", "fp16"):
        raise RequestError(f"There are no activations in {activations}; there are fp32 and fp16.")
    if provider not in PROVIDERS:
        raise RequestError(f"onnxruntime-genai is set up for {', '.join(PROVIDERS)}, not for {provider}.")
    half = activations == "fp16"
    if half and quant not in HALF_SUFFIXES:
        raise RequestError(
            f"Activations in float16 are for {', '.join(HALF_SUFFIXES)}; {quant} keeps all in float32.",
            next_command="slimmoe onnx DIR --quant fp16 --activations fp16 -o DIR",
        )
    if provider == "cuda" and not half:
        raise RequestError(
            "CUDA has experts and attention in float16 alone.",
            next_command=f"slimmoe onnx DIR --quant {quant} --activations fp16 --provider cuda -o DIR",
        )
    return half


def _build(
    checkpoint: Checkpoint, storage: Storage, quant: str, half: bool = False
) -> dict[str, tuple[ModelProto, Weights]]:
    """Each graph by the name of its file, with what has to be written beside it."""
    decoder = checkpoint.family.decoder
    paired = bool(decoder and decoder.has_encoder)
    if paired and half:
        raise RequestError("Models with an encoder have no graphs with --activations fp16.")
    suffix = (HALF_SUFFIXES if half else SUFFIXES)[quant]
    names = [f"{stem}{suffix}.onnx" for stem in (STEMS if paired else ("model",))]
    weights = [Weights(f"{name}_data") for name in names]
    models = (
        build_encoder_decoder(checkpoint, storage, weights)
        if paired
        else [build_graph(checkpoint, storage, each, half) for each in weights]
    )
    return dict(zip(names, zip(models, weights, strict=True), strict=True))


def require_supported(checkpoint: Checkpoint, quant: str) -> None:
    """Refuse what the graph cannot express, by building it without its weights: config.json, headers and norms are read.

    Raises:
        RequestError: an unknown quantisation, or why the checkpoint has no ONNX folder of this one.
        WorkError: tensors are missing.
    """
    storage = _storage(quant, BLOCKS[0], False, 0)
    _require_tokenizer(checkpoint)
    _build(checkpoint, storage, quant)


def _require_tokenizer(checkpoint: Checkpoint) -> None:
    folder = checkpoint.folder
    if own_file(folder, TOKENIZER) is None and own_file(folder, SENTENCEPIECE) is None:
        raise RequestError(f"{folder} has no tokenizer.json, which the ONNX engine needs.")
    tokens_past(folder, checkpoint.config.get("vocab_size"))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _provenance(folder: Path, prompt: PromptTemplate) -> Provenance | None:
    """What the ONNX folder says of itself; None of a model that was not cut and is asked as usual."""
    known = read_provenance(folder)
    as_usual = prompt == DEFAULT and not (known and known.prompt)
    return known if as_usual else replace(known or Provenance(), prompt=prompt.to_dict())


def _require_same_model(checkpoint: Checkpoint, output: Path, provenance: Provenance | None) -> None:
    """A folder that has another variant already must be of the same checkpoint: it shares config and tokenizer."""
    config = output / "config.json"
    theirs = read_json(config)
    ours, other = checkpoint.folder / TOKENIZER, output / TOKENIZER
    same = not ours.exists() or (other.exists() and filecmp.cmp(ours, other, shallow=False))
    same = same and read_provenance(output) == provenance
    if theirs != plain_config(checkpoint.config) | _EXTERNAL or not same:
        raise RequestError(f"{output} holds something else already.", next_command=f"rm -r {output}   (or another -o)")


def export_onnx(
    folder: Path,
    output: Path,
    quant: str = "int4",
    block: int = BLOCKS[0],
    zero_points: bool = False,
    accuracy_level: int = 4,
    prompt: PromptTemplate | None = None,
    activations: str = "fp32",
    provider: str = "cpu",
) -> Path:
    """Write one variant of a checkpoint into an ONNX folder; other variants of the same checkpoint may be there.

    Args:
        folder: a checkpoint of a family with a [decoder] section. Expert counts are those of its router tensors.
        output: the ONNX folder.
        quant: "none" (float32), "fp16", "int8", or "int4" (attention: 8 bits).
        block: weights along a row of an expert that share a scale: 32 or 128.
        zero_points: of int4, store one for each block as well: closer to the original, larger and slower.
        accuracy_level: of quantised linear layers: 4 lets kernels use int8 activations, 0 keeps them float32 where there
            are such kernels (many times slower: docs/onnx.md). Of experts it is for the engine to say.
        prompt: how the model is asked, kept in the folder; default: as the checkpoint says, or as is known of such a model.
        activations: "fp32", or "fp16" for devices: CUDA has experts and attention in nothing else.
        provider: what onnxruntime-genai is to run this graph on: "cpu", "webgpu" or "cuda".

    Raises:
        RequestError: an unknown quantisation, a model that the graph cannot express, or ``output`` is taken.
        WorkError: tensors are missing, or the disk is full.
    """
    folder, output = Path(folder), Path(output)
    storage, checkpoint = _storage(quant, block, zero_points, accuracy_level), Checkpoint(folder)
    half = _is_half(activations, provider, quant)
    _require_tokenizer(checkpoint)
    template = ChatTemplate.from_folder(folder, prompt)
    provenance = _provenance(folder, template.asking)
    graphs = _build(checkpoint, storage, quant, half)
    require_space(output, sum(weights.size + model.ByteSize() for model, weights in graphs.values()))
    alone = next((name for name in graphs if name.startswith("model")), "")  # a decoder without an encoder

    def write_variant(target: Path) -> None:
        with new_files(target / "onnx") as staged:  # the graph moves there last: one that is there is complete
            for name, (model, weights) in graphs.items():
                weights.write(staged / weights.location)
                (staged / name).write_bytes(model.SerializeToString())
            if alone:
                write_self_test(staged / alone, target, exact=quant in ("none", "fp16") and not half)
        if alone:
            write_genai(target, graphs[alone][0])

    def write_genai(target: Path, model: ModelProto) -> None:
        chosen = graph_file(target).name if provider == "cpu" else alone
        inputs = {each.name: shape_of(each) for each in model.graph.input}
        outputs = [each.name for each in model.graph.output]
        generation, decoder = read_json(target / "generation_config.json"), checkpoint.family.decoder
        turns = turn_end_ids(template, load_tokenizer(target / "tokenizer.json"))
        ends = list(dict.fromkeys([*end_ids(checkpoint.config, generation), *turns]))
        generation |= {"eos_token_id": ends} if ends else {}
        assert decoder  # or there is no graph
        kind = decoder.genai_type
        config = {"num_hidden_layers": checkpoint.layer_count} | checkpoint.config
        genai = genai_config(config, generation, kind, f"onnx/{chosen}", inputs, outputs, provider)
        _write_json(target / "genai_config.json", genai)

    if (output / "onnx").is_dir():
        for name in graphs:
            if (output / "onnx" / name).exists():
                remedy = f"rm {output}/onnx/{name}*   (or another -o)"
                raise RequestError(f"{output}/onnx/{name} exists already and is kept as it is.", next_command=remedy)
        _require_same_model(checkpoint, output, provenance)
        write_variant(output)
        return output
    with new_folder(output) as temporary:
        for name in _COPIED:
            if source := own_file(folder, name):
                shutil.copyfile(source, temporary / name)
        if not (temporary / TOKENIZER).exists():
            write_tokenizer(folder, temporary / TOKENIZER)
        if provenance and provenance == read_provenance(folder):
            shutil.copyfile(folder / PROVENANCE_FILE, temporary / PROVENANCE_FILE)
        elif provenance:
            write_provenance(temporary, provenance)
        tokenizer = read_json(folder / "tokenizer_config.json")
        if alone:
            # The template that our engine uses, in both places: transformers.js looks into tokenizer_config.json alone.
            (temporary / "chat_template.jinja").write_text(template.source, encoding="utf-8", newline="")
            tokenizer |= {"chat_template": template.source}
        _write_json(temporary / "tokenizer_config.json", tokenizer)
        _write_json(temporary / "config.json", plain_config(checkpoint.config) | _EXTERNAL)
        write_variant(temporary)
    return output
