"""GGUF: a Hugging Face folder becomes one file that any llama.cpp loads. Conversion and types are llama.cpp's own."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from export.gguf.convert import Extra, convert, inexactness, require_llama_cpp, require_supported
from export.gguf.converter_folder import tokens_past_embedding
from export.gguf.ends import end_tokens
from export.gguf.imatrix import compute_imatrix, fill_never_routed, fitted, groups_of, padded_places, write_imatrix
from export.gguf.metadata import Origin
from export.gguf.modelfile import add_modelfile, modelfile
from export.gguf.quantise import find_type, quantise
from export.gguf.tokenizer import SAMPLE, adds_bos, compare, recognise, require_known, require_name
from export.gguf.types import TYPES
from prune.calibrate.imatrix import ImportanceMatrix, read_imatrix
from prune.checkpoint import Checkpoint
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_space, scratch_folder
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_writer import output_path
from runtime.formats.quantised import KEYS as QUANTISATION_KEYS
from runtime.formats.quantised import MXFP4, Quantisation
from runtime.text.corpus import is_shipped, read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate
from runtime.text.public_sets import Segments

_PLAIN = {"F32": 4, "F16": 2, "BF16": 2}  # types that the converter writes by itself; bytes per weight
KEPT_MXFP4 = "MXFP4_MOE"  # the type that holds experts in MXFP4
_QUANTISED_BYTES = 1.1  # per weight, at most: Q8_0 has 8.5 bits, and routers and norms stay in float32
_log = logging.getLogger(__name__)


def _lossless_type(checkpoint: Checkpoint) -> str:
    """The smallest plain type that holds every weight of the checkpoint unchanged; BF16 for a quantised one.

    That rounds what 8 or 4 bits and a scale in float32 stand for by 2^-9 at most, and saves half of the disk.
    """
    if checkpoint.quantisation:
        return "BF16"
    dtypes = {tensor.dtype for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1}
    if "F32" in dtypes or {"F16", "BF16"} <= dtypes:
        return "F32"
    return "F16" if "F16" in dtypes else "BF16"


def _about_quantisation(quantisation: Quantisation, quant: str, kept: bool) -> str:
    """What becomes of quantised weights, and what else could."""
    if kept:
        return f"{quantisation.label} weights are kept as they are"
    other = f" (--quant {KEPT_MXFP4} keeps them as they are)" if quantisation.formats == (MXFP4,) else ""
    return f"{quantisation.label} weights are dequantised and written as {quant}{other}"


def _read_text(corpus: Path | None, pair: Pair | None) -> Segments:
    """Text of the pair to compare token ids on; none where there is no pair, or the sets that come along do not have it.

    Raises:
        RequestError: the user's own corpus cannot be read.
    """
    if corpus is None or pair is None:
        return []
    try:
        return read_segments(corpus, pair)
    except RequestError:
        if is_shipped(corpus):
            return []
        raise


def _check_tokens(
    path: Path, folder: Path, template: ChatTemplate, pair: Pair | None, segments: Segments, found: str
) -> None:
    """Compare token ids of the converted file and the folder's tokenizer on a sample and on the pair's own text.

    A pre-tokenisation that we recognised must give the same ids throughout. One that llama.cpp itself knows, or that was
    forced, is the best there is for this model: a difference is told, since refusing would leave no way at all.
    """
    texts: list[str] = [*SAMPLE]
    if pair and segments:
        texts += [template.prompt(pair, a) + template.completion(pair, a, b) for a, b in segments]
    result = compare(path, folder, texts)
    if not result.different:
        return
    share = f"{result.different} of {result.texts} texts get other token ids from llama.cpp than from {folder}"
    example = f"for example {result.example[:60]!r}"
    if found == "recognised":
        raise WorkError(
            f"{share}, {example}, though its tokenizer looks like one that llama.cpp has.",
            next_command=f"slimmoe gguf {folder} --pre NAME -o FILE.gguf   (accepts the differences)",
        )
    _log.warning(f"{share}, {example}: the model will see those texts otherwise than it was trained to.")


def _choose_imatrix(
    quant: str, given: Path | Literal["none"] | None, asked: Pair | None, origin: Origin
) -> Pair | None:
    """The pair on whose text an importance matrix is to be computed; None where none is, or one is given.

    Raises:
        RequestError: the type needs one, and none may be computed or no pair is known.
    """
    kind = TYPES[quant]
    if isinstance(given, Path) or (kind.imatrix != "needed" and (given or not (asked and kind.wants_imatrix))):
        return None
    if given or origin.known_pair is None:
        raise RequestError(
            f"{quant} needs an importance matrix, which is computed on text of a pair.",
            next_command=f"slimmoe gguf {origin.folder} --quant {quant} --pair en-de -o FILE.gguf   (or --imatrix FILE)",
        )
    return origin.known_pair


def _require_text(quant: str, corpus: Path | None, pair: Pair, folder: Path) -> None:
    """Refuse before any work where the importance matrix has no text.

    Raises:
        RequestError: no corpus, or no segment of the pair in it.
    """
    try:
        if corpus is not None:
            read_segments(corpus, pair)
            return
        reason = "No corpus is given."
    except RequestError as error:
        reason = error.sentence
    raise RequestError(
        f"{quant} takes an importance matrix from text of {pair}. {reason}",
        next_command=f"slimmoe gguf {folder} --quant {quant} --pair {pair} --corpus FILE.tsv -o FILE.gguf"
        + ("" if TYPES[quant].imatrix == "needed" else "   (or --imatrix none)"),
    )


def _read_given(path: Path, checkpoint: Checkpoint, origin: Origin) -> ImportanceMatrix:
    """A given importance matrix, refused before any work where its experts are neither this model's nor the plan's."""
    matrix, plan = read_imatrix(path), origin.plan
    source = {layer.layer: layer.experts for layer in plan.layers} if plan else {}
    for layer, count in matrix.experts().items():
        ours = checkpoint.moe_layers.get(layer)
        if ours is not None and count not in (ours, source.get(layer)):
            raise RequestError(
                f"{path} is the importance matrix of another model: it has {count} experts in layer {layer}, this model "
                f"{ours}" + (f" of {source[layer]}." if layer in source else ".")
            )
    return matrix


def _prepared(matrix: ImportanceMatrix, plain: Path, origin: Origin, name: str, work: Path) -> Path:
    """The matrix as llama-quantize is to read it, under a neutral name, since that name goes into the GGUF file."""
    model, plan = GgufFile(plain), origin.plan
    padded = padded_places(plan, groups_of(model)) if plan else set()
    matrix, never = fill_never_routed(fitted(matrix, model, plan), padded)
    if never:
        _log.warning(
            f"The importance matrix's text reached {never} experts not once: they take the mean of their layer."
        )
    matrix = ImportanceMatrix(
        matrix.entries, [Path(each).name for each in matrix.datasets], matrix.chunk_count, matrix.chunk_size
    )
    folder = work / "imatrix"  # apart from the files of the export, whose names a given one may have
    folder.mkdir()
    write_imatrix(matrix, folder / name)
    return folder / name


def export_gguf(
    folder: Path,
    output: Path | str,
    quant: str,
    imatrix: Path | Literal["none"] | None = None,
    *,
    pair: Pair | None = None,
    corpus: Path | None = None,
    pre: str | None = None,
    prompt: PromptTemplate | None = None,
    tell: Callable[[str], object] = _log.info,
) -> Path:
    """Convert a checkpoint and quantise it; the file appears whole or not at all, and its path is returned.

    The choice of types is the same for every number of experts, so that a sweep over ratios compares like with like.
    Where the pair is known, a Modelfile for Ollama is written beside it.

    Args:
        folder: a Hugging Face folder; its ``slimmoe.json``, if any, goes into the file as keys ``slimmoe.*``.
        output: the file, or a folder (one that is there, or a name with a slash at its end) for a file named by the model.
        quant: llama.cpp's name of the type: F32, F16, BF16, Q8_0, Q4_K_M, IQ4_XS, ...
        imatrix: importance matrix of this model or of the unpruned one, as llama-imatrix writes it. By default one is
            computed on the pair's text for types that need it, and for those below 5 bits where ``pair`` is given;
            ``none`` leaves it out.
        pair: default: the one the model was pruned for.
        corpus: text of the pair, for the importance matrix and to compare token ids.
        pre: llama.cpp's name of the tokenizer's pre-tokenisation, where neither it nor we know better.
        prompt: how the model is asked, for the importance matrix and kept in the file; default: as the folder says, or as
            is known of such a model.
        tell: is called with a sentence on what takes long.

    Raises:
        RequestError: no such folder, model family, type, importance matrix, pre-tokenisation or corpus.
        WorkError: llama.cpp is not built, refuses the model or its tokenizer, or there is no disk space.
    """
    folder, quant = Path(folder), find_type(quant)
    require_llama_cpp()
    checkpoint, origin = Checkpoint(folder), Origin(folder, pair)
    require_supported(checkpoint)
    if difference := inexactness(checkpoint):
        _log.warning(f"llama.cpp computes {folder} only nearly: {difference}.")
    output = output_path(output, origin.file_name(quant), f"slimmoe gguf {folder} --quant {quant}")
    tokens_past_embedding(checkpoint)
    if pre is None:
        require_known(folder)
    else:
        require_name(pre)
    matrix = _read_given(imatrix, checkpoint, origin) if isinstance(imatrix, Path) else None
    on_text_of = _choose_imatrix(quant, imatrix, pair, origin)
    if on_text_of:
        _require_text(quant, corpus, on_text_of, folder)
    segments = _read_text(corpus, origin.known_pair)
    plain = quant if quant in _PLAIN else _lossless_type(checkpoint)
    weights = checkpoint.weights
    require_space(output, int(weights * (_PLAIN[plain] + (quant != plain) * _QUANTISED_BYTES)))
    template = ChatTemplate.from_folder(folder, prompt)
    keys, dequantised = origin.gguf_keys(template.asking), ()
    if checkpoint.quantisation:
        kept = quant == KEPT_MXFP4 and checkpoint.quantisation.formats == (MXFP4,)
        dequantised = () if kept else QUANTISATION_KEYS
        tell(_about_quantisation(checkpoint.quantisation, quant, kept))
    ends = tuple(end_tokens(checkpoint, template))
    extra = Extra(keys, origin.general(), pre, recognise(folder), dequantised, ends)
    with new_file(output) as temporary, scratch_folder(output) as work:
        converted = work / "plain.gguf"
        found = convert(checkpoint, converted, plain, extra)
        if pre is not None and found is None:
            raise RequestError(f"The tokenizer of {folder} is not one that has a pre-tokenisation: leave --pre out.")
        # By its ids llama.cpp no longer knows a vocabulary that was cut: a difference is that of the whole one, which it knew.
        known = found is None or bool(origin.provenance and origin.provenance.vocabulary)
        _check_tokens(converted, folder, template, origin.known_pair, segments, "known" if known else str(found))
        bos = adds_bos(converted)
        if on_text_of and corpus:
            tell(f"computing an importance matrix on {on_text_of} text of {corpus}")
            matrix = compute_imatrix(converted, folder, on_text_of, corpus, work, template.asking)
        if matrix and TYPES[quant].imatrix == "unused":
            tell(f"{quant} makes no use of an importance matrix")
        if quant == plain:
            converted.replace(temporary)
        else:
            label = imatrix.name if isinstance(imatrix, Path) else f"{on_text_of}.imatrix.gguf"
            ready = _prepared(matrix, converted, origin, label, work) if matrix else None
            quantise(converted, temporary, quant, ready)
    if translates := origin.known_pair:
        context = int(checkpoint.config.get("max_position_embeddings") or 1024)
        add_modelfile(output, lambda: modelfile(output.name, folder, translates, context, bos, template.asking))
    return output
