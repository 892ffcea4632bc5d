"""Statistics out of an importance matrix: llama-imatrix counts how many tokens each expert was given.

Format: a GGUF file with ``<tensor>.in_sum2`` and ``<tensor>.counts`` for each tensor of the model; of stacked experts
there is one count for each. It says nothing of gate weights or outputs, nor which tokens were a prompt's.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from prune.shape import MoeModel
from prune.stats import LayerStats, Routing, Stats
from runtime.errors import RequestError, WorkError
from runtime.gguf_file import GgufFile
from runtime.pairs import Pair

_COUNTS = re.compile(r"blk\.(\d+)\.ffn_(?:down|up|gate|gate_up)_exps\.weight\.counts")


def read_counts(path: Path, model: MoeModel, pair: Pair) -> Stats:
    """Statistics that know only ``count``, all of it in the first role: criteria sum over both.

    Args:
        model: ``GgufModel`` or ``Checkpoint`` of which the importance matrix was computed.
        pair: of the text that it was computed on.

    Raises:
        RequestError: not an importance matrix in GGUF, or another model's.
        WorkError: the file is damaged.
    """
    file = GgufFile(path)
    counts: dict[int, np.ndarray] = {}
    for name, tensor in file.tensors.items():
        if (found := _COUNTS.fullmatch(name)) and tensor.type.name == "F32":
            counts[int(found[1])] = np.frombuffer(file.read(name), "<f4").astype(np.float64)
    if not counts:
        raise RequestError(
            f"{path} holds no counts of experts: it is not an importance matrix of a mixture of experts.",
            next_command=f"llama-imatrix -m MODEL.gguf -f TEXT -o {path}",
        )
    experts = model.moe_layers
    if {layer: len(values) for layer, values in counts.items()} != experts:
        raise RequestError(f"{path} is another model's: its layers and experts are not those of {model.source}.")
    for layer, values in counts.items():
        if not (np.isfinite(values).all() and values.min() >= 0 and values.any()):
            raise WorkError(f"{path} is damaged: the counts of layer {layer} are not numbers of tokens.")
    tokens = round(max(values.sum() for values in counts.values()) / model.top_k)
    datasets = file.get("imatrix.datasets") or []
    calibration = {
        "corpus": " + ".join(datasets) or str(path),
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
        "segments": int(file.get("imatrix.chunk_count") or 0),
        "prompt_tokens": tokens,
        "response_tokens": 0,
        "imatrix": str(path),
        "seconds": 0.0,
    }
    layers = {i: LayerStats(count=np.stack((counts[i], np.zeros(n)))) for i, n in experts.items()}
    routing = Routing.of(model)
    return Stats(layers, str(model.source), model.fingerprint, str(pair), model.top_k, calibration, routing)
