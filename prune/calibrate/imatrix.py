"""Importance matrices as llama-imatrix writes them, and the statistics in them: how many tokens each expert was given.

Format: a GGUF file with, for each weight, ``<name>.in_sum2`` [matrices, columns], sums of squared inputs, and
``<name>.counts`` [matrices, 1], the tokens summed over, both float32. Stacked experts have a matrix for each expert,
everything else one. ``imatrix.datasets``, ``imatrix.chunk_count`` and ``imatrix.chunk_size`` tell of the text. Nothing
tells of gate weights or outputs, nor which tokens were a prompt's.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prune.calibrate.stats import LayerStats, Routing, Stats
from prune.moe_model import MoeModel
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_header import integer
from runtime.formats.gguf_names import layer_of_experts
from runtime.text.pairs import Pair

CHUNK = 512  # tokens that see one another


@dataclass(frozen=True)
class Entry:
    """Sums of squared inputs [matrices, columns] and tokens [matrices] of one weight, both float32."""

    sums: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class ImportanceMatrix:
    """All entries by the weight's name, and the text they are from."""

    entries: dict[str, Entry]
    datasets: list[str] = field(default_factory=list)
    chunk_count: int = 0
    chunk_size: int = CHUNK

    def experts(self) -> dict[int, int]:
        """Number of experts by layer."""
        found = {}
        for name, entry in self.entries.items():
            if (layer := layer_of_experts(name)) is not None:
                found[layer] = len(entry.counts)
        return found


def _read_entries(path: Path, file: GgufFile) -> dict[str, Entry]:
    entries = {}
    for name, tensor in file.tensors.items():
        weight, _, kind = name.rpartition(".")
        if kind != "in_sum2":
            continue
        if (counted := file.tensors.get(f"{weight}.counts")) is None:
            raise WorkError(f"{path} is damaged: it has no counts for {weight}.")
        if {tensor.type.name, counted.type.name} != {"F32"} or not tensor.shape:
            raise WorkError(f"{path} is damaged: the numbers of {weight} are not in float32, by matrix and column.")
        sums = np.frombuffer(file.read(name), "<f4").reshape(-1, tensor.shape[-1])
        counts = np.frombuffer(file.read(f"{weight}.counts"), "<f4")
        if len(sums) != len(counts) or not np.isfinite(sums).all() or not (np.isfinite(counts) & (counts >= 0)).all():
            raise WorkError(f"{path} is damaged: the numbers of {weight} are none of an importance matrix.")
        entries[weight] = Entry(sums, counts)
    return entries


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read llama-imatrix's GGUF format.

    Raises:
        RequestError: no such file, or another kind of file.
        WorkError: it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"There is no importance matrix {path}.")
    with path.open("rb") as start:
        if start.read(4) != b"GGUF":
            raise RequestError(
                f"{path} is not in llama-imatrix's GGUF format (older ones are not read).",
                next_command=f"llama-imatrix --in-file {path} -o {path.stem}.gguf   (reads the older format)",
            )
    file = GgufFile(path)
    entries = _read_entries(path, file)
    if not entries:
        raise RequestError(f"{path} is a GGUF file, but not an importance matrix.")
    datasets = file.get("imatrix.datasets", [])
    return ImportanceMatrix(
        entries,
        [str(name) for name in datasets] if isinstance(datasets, list) else [str(datasets)],
        integer(path, "imatrix.chunk_count", file.metadata) or 0,
        integer(path, "imatrix.chunk_size", file.metadata) or CHUNK,
    )


def read_counts(path: Path, model: MoeModel, pair: Pair) -> Stats:
    """Statistics that know only ``count``, all of it in the first role: criteria sum over both.

    Args:
        model: ``GgufModel`` or ``Checkpoint`` of which the importance matrix was computed.
        pair: of the text that it was computed on.

    Raises:
        RequestError: not an importance matrix in GGUF, or another model's.
        WorkError: the file is damaged.
    """
    matrix = read_imatrix(path)
    counts: dict[int, np.ndarray] = {}
    for name, entry in matrix.entries.items():
        if (layer := layer_of_experts(name)) is not None:
            counts[layer] = entry.counts.astype(np.float64)
    if not counts:
        raise RequestError(
            f"{path} holds no counts of experts: it is not an importance matrix of a mixture of experts.",
            next_command=f"llama-imatrix -m MODEL.gguf -f TEXT -o {path}",
        )
    experts = model.moe_layers
    if {layer: len(values) for layer, values in counts.items()} != experts:
        raise RequestError(f"{path} is another model's: its layers and experts are not those of {model.source}.")
    for layer, values in counts.items():
        if not values.any():
            raise WorkError(f"{path} is damaged: it counts no token in layer {layer}.")
    tokens = round(max(values.sum() for values in counts.values()) / model.top_k)
    calibration = {
        "corpus": " + ".join(name for name in matrix.datasets if name) or str(path),
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
        "segments": matrix.chunk_count,
        "prompt_tokens": tokens,
        "response_tokens": 0,
        "imatrix": str(path),
        "seconds": 0.0,
    }
    layers = {i: LayerStats(count=np.stack((counts[i], np.zeros(n)))) for i, n in experts.items()}
    routing = Routing.of(model)
    return Stats(layers, str(model.source), model.fingerprint, str(pair), model.top_k, calibration, routing)
