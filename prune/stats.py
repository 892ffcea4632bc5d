"""Router and expert statistics of a calibration run: sums over tokens, so that shards of a corpus add up."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from runtime.errors import RequestError, WorkError
from runtime.files import new_file

FORMAT = "slimmoe-stats/1"
ROLES = ("prompt", "response")  # the two rows of every sum
SUMS = ("count", "gate", "norm", "gate_norm")


@dataclass
class LayerStats:
    """Sums over the tokens routed to each expert of one layer, float64 [2, experts]; the first axis is ROLES.

    With the notation of PRUNING criteria (X_j: tokens that chose expert j, g: gate weight, f: expert output):
    ``count`` N_j, ``gate`` sum of g_j, ``norm`` sum of ||f_j||_2, ``gate_norm`` sum of g_j ||f_j||_2.
    """

    count: np.ndarray
    gate: np.ndarray
    norm: np.ndarray
    gate_norm: np.ndarray

    @classmethod
    def zeros(cls, experts: int) -> "LayerStats":
        return cls(*(np.zeros((len(ROLES), experts)) for _ in SUMS))

    @property
    def experts(self) -> int:
        return self.count.shape[1]


@dataclass
class Stats:
    """Statistics of one model on one pair's text."""

    layers: dict[int, LayerStats]
    model: str
    fingerprint: str  # of the checkpoint, see prune/checkpoint.py
    pair: str
    top_k: int
    calibration: dict  # corpus, its SHA-256, segments, tokens by role, seconds, device

    def save(self, path: Path) -> None:
        tensors = {f"layer.{i}.{name}": getattr(layer, name) for i, layer in self.layers.items() for name in SUMS}
        about = {"model": self.model, "fingerprint": self.fingerprint, "pair": self.pair, "top_k": self.top_k}
        metadata = {"format": FORMAT, "about": json.dumps(about | {"calibration": self.calibration})}
        with new_file(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path) -> "Stats":
        """Read what ``save`` wrote.

        Raises:
            RequestError: no such file, or not a statistics file.
            WorkError: the file is damaged.
        """
        if not Path(path).is_file():
            raise RequestError(
                f"There is no statistics file {path}.", next_command=f"slimmoe calibrate MODEL --pair en-de -o {path}"
            )
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except SafetensorError as error:
            raise WorkError(f"{path} is damaged ({error}); calibrate again.") from None
        if metadata.get("format") != FORMAT:
            raise RequestError(f"{path} is not a statistics file ({FORMAT}).")
        about = json.loads(metadata["about"])
        ids = sorted({int(name.split(".")[1]) for name in tensors})
        layers = {i: LayerStats(*(tensors[f"layer.{i}.{name}"] for name in SUMS)) for i in ids}
        return cls(layers, **about)
