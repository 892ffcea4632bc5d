"""Importance matrices computed on the text of a pair, cut by a plan, and written; prune/calibrate/imatrix.py has the format."""

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from export.gguf.convert import require_llama_cpp, run_tool
from prune.calibrate.imatrix import CHUNK, Entry, ImportanceMatrix, read_imatrix
from prune.plan.plan import Plan
from prune.tokenizer import read_tokenizer
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_names import is_down_projection, layer_of_experts
from runtime.machine import usable_cores
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate
from runtime.text.special_tokens import special_of, take_apart

MOST_TOKENS = 1 << 17


def write_imatrix(matrix: ImportanceMatrix, output: Path) -> None:
    """Write llama-imatrix's GGUF format; ``output`` appears whole or not at all."""
    with new_file(output) as temporary:
        writer = GGUFWriter(temporary, "imatrix")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", matrix.datasets or [""])
        writer.add_uint32("imatrix.chunk_count", matrix.chunk_count)
        writer.add_uint32("imatrix.chunk_size", matrix.chunk_size)
        for name, entry in matrix.entries.items():
            writer.add_tensor(f"{name}.in_sum2", entry.sums.astype(np.float32))
            writer.add_tensor(f"{name}.counts", entry.counts.astype(np.float32)[:, None])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _places(keep: list[int], most: int, groups: int) -> list[int]:
    """Where the kept experts stand in a layer padded to ``most``: each group is padded by itself (prune/rewrite/shape.py)."""
    size, full = len(keep) // groups, most // groups
    return [i // size * full + i % size for i in range(len(keep))]


def _sliced(matrix: ImportanceMatrix, plan: Plan, groups: int) -> ImportanceMatrix:
    """The rows of the kept experts; where layers keep different numbers, rows of zeros for those that pad.

    Raises:
        RequestError: its experts are not those that the plan was made for.
    """
    keep = {layer.layer: layer for layer in plan.layers}
    most = max(len(layer.keep) for layer in plan.layers)
    entries = dict(matrix.entries)
    for name, entry in matrix.entries.items():
        number = layer_of_experts(name)
        if number is None:
            continue
        layer = keep.get(number)
        if layer is None or layer.experts != len(entry.counts):
            planned = "none" if layer is None else layer.experts
            raise RequestError(
                f"The importance matrix has {len(entry.counts)} experts in layer {number}, and the plan was made for "
                f"{planned}: it is of another model."
            )
        sums = np.zeros((most, entry.sums.shape[1]), np.float32)
        counts = np.zeros(most, np.float32)
        places = _places(layer.keep, most, groups)
        sums[places], counts[places] = entry.sums[layer.keep], entry.counts[layer.keep]
        entries[name] = Entry(sums, counts)
    return replace(matrix, entries=entries)


def slice_imatrix(file: Path, plan: Plan, output: Path, groups: int = 1) -> None:
    """Cut the experts that a plan drops out of the unpruned model's importance matrix, for the pruned model.

    Args:
        groups: of experts in the pruned model's router.

    Raises:
        RequestError: no importance matrix, or another model's.
        WorkError: it is damaged.
    """
    write_imatrix(_sliced(read_imatrix(file), plan, groups), output)


def groups_of(model: GgufFile) -> int:
    """Groups of experts in the model's router."""
    return int(model.get(f"{model.architecture}.expert_group_count", 1)) or 1


def fitted(matrix: ImportanceMatrix, model: GgufFile, plan: Plan | None) -> ImportanceMatrix:
    """The part of ``matrix`` that the model has weights for, sliced by ``plan`` where it is of the unpruned model.

    Raises:
        RequestError: it is another model's.
    """
    experts = {
        layer: tensor.shape[0]
        for name, tensor in model.tensors.items()
        if (layer := layer_of_experts(name)) is not None and len(tensor.shape) == 3
    }
    ours = matrix.experts()
    different = {layer for layer, count in ours.items() if experts.get(layer, count) != count}
    if different and plan is not None:
        matrix = _sliced(matrix, plan, groups_of(model))
    common = {name: entry for name, entry in matrix.entries.items() if name in model.tensors}
    wrong = []
    for name, entry in common.items():
        shape = model.tensors[name].shape
        if entry.sums.size != shape[-1] * (shape[0] if len(shape) == 3 else 1):
            wrong.append(f"{entry.sums.size} numbers for {name}, which needs {shape[-1]} for each of its matrices")
    if not common:
        wrong.append("none of this model's weights")
    if wrong:
        raise RequestError(f"The importance matrix is of another model: it has {wrong[0]}.")
    return replace(matrix, entries=common)


def padded_places(plan: Plan, groups: int) -> set[tuple[int, int]]:
    """Layer and place of what pads layers that keep fewer than the most: no token ever goes there."""
    most = max(len(layer.keep) for layer in plan.layers)
    kept = {(each.layer, place) for each in plan.layers for place in _places(each.keep, most, groups)}
    return {(each.layer, place) for each in plan.layers for place in range(most)} - kept


def fill_never_routed(
    matrix: ImportanceMatrix, padded: Set[tuple[int, int]] = frozenset()
) -> tuple[ImportanceMatrix, int]:
    """Give experts that no token reached the mean of their layer's; returns how many there are, all layers together.

    Args:
        padded: layer and place of experts that are not counted, since no text could have reached them.

    llama.cpp would weigh all their columns alike. What enters an expert is the layer's hidden state, whichever expert it
    is, so that the mean over the others is the best guess. What enters its last projection are neurons of its own, of
    which the others tell nothing: those stay as they are.
    """
    entries, never = dict(matrix.entries), set[tuple[int, int]]()
    for name, entry in matrix.entries.items():
        layer, zero = layer_of_experts(name), entry.counts == 0
        if layer is None or not zero.any():
            continue
        never |= {(layer, int(expert)) for expert in np.flatnonzero(zero)}
        if is_down_projection(name) or zero.all():
            continue
        sums, counts = entry.sums.copy(), entry.counts.copy()
        sums[zero] = entry.sums.sum(0, dtype=np.float64) / entry.counts.sum()
        counts[zero] = 1
        entries[name] = Entry(sums, counts)
    return replace(matrix, entries=entries), len(never - padded)


def _conversations(folder: Path, pair: Pair, corpus: Path, prompt: PromptTemplate | None) -> str:
    """Whole conversations of the pair, one after the other: as many tokens as whole chunks have, at least two.

    Segments with special tokens in them are left out: the tool would parse them.
    """
    tokenizer, template = read_tokenizer(folder), ChatTemplate.from_folder(folder, prompt)
    special = special_of(tokenizer)
    parts = [(template.prompt(pair, a), template.completion(pair, a, b)) for a, b in read_segments(corpus, pair)]
    texts = ["".join(each) for each in parts if all(len(take_apart(part, special)) == 1 for part in each)]
    if not texts:
        raise RequestError(f"{corpus} has no {pair} segment without the model's special tokens in it.")
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    step = -(-sum(lengths) // MOST_TOKENS)
    texts, lengths = texts[::step], lengths[::step]
    wanted = max(-(-sum(lengths) // CHUNK), 2) * CHUNK
    taken, tokens = [], 0
    while tokens < wanted:  # the tool leaves an incomplete chunk out: it is filled from the beginning
        taken.append(texts[len(taken) % len(texts)])
        tokens += lengths[(len(taken) - 1) % len(texts)]
    return "".join(taken)


def compute_imatrix(
    model: Path, folder: Path, pair: Pair, corpus: Path, work: Path, prompt: PromptTemplate | None = None
) -> ImportanceMatrix:
    """The importance matrix of a plain GGUF file on whole conversations of a pair, references included.

    Args:
        folder: the model's checkpoint, for its tokenizer and chat template.
        work: an empty folder for what the tool reads and writes.
        prompt: how the model is asked; default: as the folder says, or as is known of such a model.

    Raises:
        RequestError: the corpus has no text of the pair.
        WorkError: llama.cpp's tool fails.
    """
    text, output = work / "text.txt", work / "computed.gguf"
    text.write_text(_conversations(folder, pair, corpus, prompt), encoding="utf-8", newline="")
    command = [str(require_llama_cpp() / "bin" / "llama-imatrix"), "-m", str(model.absolute())]
    command += ["-f", text.name, "-o", output.name, "--parse-special", "--no-ppl", "-t", str(usable_cores())]
    command += ["-c", str(CHUNK), "-b", str(CHUNK), "-ub", str(CHUNK)]
    status, lines = run_tool(command, folder=work)
    if status or not output.exists():
        raise WorkError(f"llama.cpp cannot compute an importance matrix: {lines[-1][:300]}")
    return replace(read_imatrix(output), datasets=[f"{corpus.name} {pair}"])
