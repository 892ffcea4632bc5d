"""A plan says which experts stay: a small JSON file, cheap to make for every ratio from the same statistics."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prune.budget import kept_count
from prune.criteria import find_criterion
from prune.stats import Stats
from runtime.errors import RequestError
from runtime.files import new_file

FORMAT = "slimmoe-plan/1"


@dataclass(frozen=True)
class Layer:
    """The keep-list of one MoE layer: sorted ids of the source model's experts."""

    layer: int
    experts: int
    keep: list[int]


@dataclass(frozen=True)
class Plan:
    """See DESIGN: the fields of plan.json. ``top_k`` is what the pruned model uses."""

    model: str
    fingerprint: str
    pair: str
    criterion: str
    allocation: str
    ratio: float
    seed: int
    top_k: int
    layers: list[Layer]
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Twelve hex digits that identify the cut: model and keep-lists."""
        cut = {"fingerprint": self.fingerprint, "layers": [asdict(layer) for layer in self.layers]}
        return hashlib.sha256(json.dumps(cut, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "hash": self.hash} | asdict(self)

    def save(self, path: Path) -> None:
        with new_file(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read plan.json, or the slimmoe.json of a pruned checkpoint.

        Raises:
            RequestError: no such file, or not a plan.
        """
        if not Path(path).is_file():
            raise RequestError(f"There is no plan {path}.", next_command=f"slimmoe plan STATS --ratio 0.75 -o {path}")
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data.get("format") != FORMAT:
                raise RequestError(f"{path} is not a plan ({FORMAT}).")
            layers = [Layer(**layer) for layer in data["layers"]]
            names = cls.__dataclass_fields__.keys() - {"layers"}
            return cls(layers=layers, **{name: data[name] for name in names})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"{path} is not a readable plan ({error!r}).") from None


def make_plan(stats: Stats, ratio: float, criterion: str = "reap", seed: int = 0) -> Plan:
    """Keep the highest-scoring experts, the same share in every layer (allocation ``uniform``).

    Raises:
        RequestError: ratio out of range, unknown criterion.
    """
    score, rng = find_criterion(criterion), np.random.default_rng(seed)
    layers = []
    for i, layer in stats.layers.items():
        best = np.argsort(-score(layer, rng), kind="stable")[: kept_count(layer.experts, ratio)]
        layers.append(Layer(i, layer.experts, sorted(best.tolist())))
    top_k = min(stats.top_k, *(len(layer.keep) for layer in layers))
    return Plan(
        stats.model, stats.fingerprint, stats.pair, criterion, "uniform", ratio, seed, top_k, layers, stats.calibration
    )
