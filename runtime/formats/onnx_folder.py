"""An ONNX folder on disk: its graphs, and what its JSON files say."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from runtime.errors import RequestError, WorkError
from runtime.formats.model_folder import read_own_object
from runtime.formats.typed_json import Count, mismatch

# Graphs by type, named as transformers.js expects them; the largest first.
SUFFIXES = {"none": "", "fp16": "_fp16", "int8": "_int8", "int4": "_q4"}
FILES = {kind: f"model{suffix}.onnx" for kind, suffix in SUFFIXES.items()}
# The same with activations in float16, for devices: a processor computes them in float32, with casts between.
HALF_SUFFIXES = {"fp16": "_f16", "int8": "_int8f16", "int4": "_q4f16"}
VARIANTS = (*reversed(FILES.values()), *(f"model{suffix}.onnx" for suffix in reversed(HALF_SUFFIXES.values())))
_PAIR = ("encoder_model", "decoder_model_merged")  # what the files of a model with an encoder begin with


class _Positions(TypedDict, total=False):
    """What a config says of the length of texts, where it does."""

    max_position_embeddings: Count
    original_max_position_embeddings: Count
    model_max_length: Count
    rope_scaling: dict[str, Any]
    rope_parameters: dict[str, Any]


def graph_file(artefact: Path) -> Path:
    """The graph that an artefact stands for: itself, or the smallest variant of a folder.

    Raises:
        RequestError: the folder has none, or it is one of two graphs, for an encoder and a decoder.
    """
    graphs = [artefact] if artefact.suffix == ".onnx" else sorted((artefact / "onnx").glob("*.onnx"))
    if graphs and all(graph.name.startswith(_PAIR) for graph in graphs):
        raise RequestError(
            f"{artefact} is a model with an encoder, which this engine does not run; optimum's ORTModelForSeq2SeqLM and "
            "transformers.js load it (docs/onnx.md)."
        )
    if artefact.suffix == ".onnx":
        return artefact
    found = next((path for name in VARIANTS if (path := artefact / "onnx" / name).exists()), None)
    if found is None:
        sentence = f"{artefact} holds no {' or '.join(VARIANTS)}."
        raise RequestError(sentence, next_command=f"slimmoe onnx DIR -o {artefact}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file.

    Raises:
        WorkError: it is something else, or cannot be read.
    """
    try:
        return read_own_object(path.parent, path.name)
    except WorkError as error:
        remedy = error.next_command or f"cp DIR/{path.name} {path}   (DIR: the checkpoint)"
        raise WorkError(error.sentence, next_command=remedy) from None


def end_ids(config: Mapping[str, Any], generation: Mapping[str, Any]) -> list[int]:
    """End-of-sequence ids: generation_config.json's before config.json's.

    Raises:
        WorkError: they are no ids of tokens.
    """
    for values in (generation, config):
        if (told := values.get("eos_token_id")) is not None:
            ids = told if isinstance(told, list) else [told]
            if why := mismatch(ids, list[Count], "one of them"):
                raise WorkError(f"The model's config is damaged: of its eos_token_id, {why}.")
            return ids
    return []


def _check_positions(values: Mapping[str, Any]) -> None:
    if why := mismatch({key: value for key, value in values.items() if value is not None}, _Positions, "it"):
        raise WorkError(f"The model's config is damaged: {why}.")


def longest_text(config: Mapping[str, Any]) -> int:
    """Tokens that a text may have, ``sys.maxsize`` where the config does not say.

    Of ``longrope``, whose frequencies jump where a text outgrows the length that the model was first trained on, graphs
    know the part before.

    Raises:
        WorkError: the config says nonsense.
    """
    _check_positions(config)
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    _check_positions(rope)
    names = ["max_position_embeddings" if "max_position_embeddings" in config else "model_max_length"]
    if "longrope" in (rope.get("rope_type"), rope.get("type")):
        names.append("original_max_position_embeddings")
    known = [values[name] for name in names for values in (rope, config) if values.get(name)]
    return min(known, default=sys.maxsize)
