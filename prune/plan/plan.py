"""A plan says which experts stay: a small JSON file, cheap to make for every ratio from the same statistics."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from prune.calibrate.stats import Routing, Stats
from prune.plan.budget import LayerScores, divergence, find_allocation, kept_count
from prune.plan.criteria import Evidence, find_criterion, require_sums
from prune.vocabulary.selection import Selection
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_replaceable
from runtime.formats.json_object import read_object
from runtime.formats.provenance import FILE, Provenance
from runtime.formats.typed_json import Count, Positive, Share, mismatch
from runtime.text.pairs import parse_pair

FORMAT = "slimmoe-plan/1"


class _LayerFields(TypedDict):
    layer: Count
    experts: Positive
    keep: list[Count]


class _PlanFields(TypedDict):
    """What plan.json must have."""

    model: str
    fingerprint: str
    pair: str
    criterion: str
    allocation: str
    ratio: Share
    seed: int
    top_k: Positive
    layers: list[_LayerFields]
    calibration: dict[str, Any]
    vocabulary: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class Layer:
    """The keep-list of one MoE layer: sorted ids of the source model's experts."""

    layer: int
    experts: int
    keep: list[int]


@dataclass(frozen=True)
class Plan:
    """See DESIGN: the fields of plan.json. ``top_k`` is what the pruned model uses.

    ``vocabulary`` says which tokens stay (``prune.vocabulary.selection.Selection.to_dict``); empty: all.
    """

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
    vocabulary: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Twelve hex digits that identify the cut of the experts: model and keep-lists."""
        cut = {"fingerprint": self.fingerprint, "layers": [asdict(layer) for layer in self.layers]}
        return hashlib.sha256(json.dumps(cut, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def kept(self) -> str:
        """For people: ``8 of 32 experts stay in each of 6 layers``, or ``7 to 10 of 32 ...``."""
        counts, experts = sorted({len(layer.keep) for layer in self.layers}), self.layers[0].experts
        kept = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return f"{kept} of {experts} experts stay in each of {len(self.layers)} layers"

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "hash": self.hash} | asdict(self)

    @staticmethod
    def check_output(path: Path) -> None:
        """Refuse a path where a plan would replace something else.

        Raises:
            RequestError: it is a folder, or another kind of file.
        """
        require_replaceable(path, "a plan", _is_plan)

    def save(self, path: Path) -> None:
        """Write the file, in the place of an older plan.

        Raises:
            RequestError: see ``check_output``.
        """
        self.check_output(path)
        with new_file(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of_checkpoint(cls, folder: Path) -> "Plan":
        """The plan by which a checkpoint was pruned.

        Raises:
            RequestError: it was not pruned, or its plan contradicts itself.
        """
        if Path(folder).is_dir() and not (Path(folder) / FILE).exists():
            again = f"slimmoe prune {folder} --plan plan.json -o PRUNED"
            raise RequestError(f"{folder} was not pruned: it has no {FILE}.", next_command=again)
        return cls.load(Path(folder) / FILE)

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read plan.json, or the slimmoe.json of a pruned checkpoint.

        Raises:
            RequestError: no such file, not a plan, or one that contradicts itself.
        """
        again = f"slimmoe plan STATS --ratio 0.75 -o {path}"
        if not Path(path).is_file():
            raise RequestError(f"There is no plan {path}.", next_command=again)
        try:
            data = read_object(Path(path), unique=True)
        except WorkError as error:
            raise RequestError(error.sentence, next_command=again) from None
        if data.get("format") != FORMAT:
            raise RequestError(f"{path} is not a plan ({FORMAT}).")
        if why := mismatch(data, _PlanFields, "it") or _contradiction(data):
            raise RequestError(f"{path} is no plan that can be followed: {why}.", next_command=again)
        layers = [Layer(each["layer"], each["experts"], each["keep"]) for each in data["layers"]]
        names = cls.__dataclass_fields__.keys() - {"layers"}
        return cls(layers=layers, **{name: data[name] for name in names if name in data})


def _contradiction(data: dict[str, Any]) -> str:
    """Why the fields of a plan do not go together, as a sentence's end; empty where they do."""
    try:
        Provenance.from_dict(data)  # what will be written of it must be readable again
        if tokens := data.get("vocabulary"):
            Selection.from_dict(tokens)
        for each in data["pair"].split(" + "):
            parse_pair(each)
    except ValueError as error:
        return f"its {error}"
    except RequestError as error:
        return error.sentence.removesuffix(".")
    if not data["layers"]:
        return "it has no layers"
    numbers = [layer["layer"] for layer in data["layers"]]
    if len({*numbers}) < len(numbers):
        return f"layer {next(number for number in numbers if numbers.count(number) > 1)} is there twice"
    for layer in data["layers"]:
        keep = layer["keep"]
        if not keep or keep != sorted({*keep}) or keep[-1] >= layer["experts"]:
            return f"the keep-list of layer {layer['layer']} is empty, unsorted or out of range"
        if len(keep) < data["top_k"]:
            return f"layer {layer['layer']} keeps {len(keep)} experts, fewer than its top_k of {data['top_k']}"
    return ""


def _is_plan(path: Path) -> bool:
    try:
        return str(read_object(path).get("format")).startswith("slimmoe-plan/")
    except WorkError:
        return False


def _best(scores: np.ndarray, count: int, top_k: int, routing: Routing) -> list[int]:
    """Sorted ids of the ``count`` highest scores.

    Where routing is limited to groups, the same number from each group, so that the groups stay what they are. Where
    that cannot be (the count does not divide, or too few would be left for the groups' scores or for top-k), the highest
    of all, and the cut routes without groups (prune/rewrite/shape.py).
    """
    order = np.argsort(-scores, kind="stable")
    groups = routing.groups
    each, rest = divmod(count, groups)
    if groups > 1 and not rest and each >= routing.group_floor and each * routing.topk_groups >= top_k:
        group = order * groups // len(scores)
        order = np.concatenate([order[group == i][:each] for i in range(groups)])
    return sorted(order[:count].tolist())


def score_layers(stats: Stats, criterion: str, against: Stats | None = None, seed: int = 0) -> dict[int, np.ndarray]:
    """Scores [experts] by layer.

    Raises:
        RequestError: an unknown criterion, statistics of another model, none to contrast with, or without the sums that
            the criterion reads.
    """
    if against is not None and against.fingerprint != stats.fingerprint:
        raise RequestError(f"The statistics to contrast with are of another model ({against.model}).")
    score, rng = find_criterion(criterion), np.random.default_rng(seed)
    for read in (stats, against) if against else (stats,):
        require_sums(criterion, read.known)
    return {i: score(Evidence(layer, against.layers[i] if against else None, rng)) for i, layer in stats.layers.items()}


def make_plan(
    stats: Stats,
    ratio: float,
    criterion: str = "gate",
    seed: int = 0,
    allocation: str = "uniform",
    against: Stats | None = None,
) -> Plan:
    """Keep the highest-scoring experts of each layer.

    Args:
        ratio: share of all experts to cut.
        allocation: how many experts each layer keeps, by name (prune/plan/budget.py); the total is that of ``uniform``.
        against: statistics of other text, for the criterion ``contrast`` and the allocation ``jsd``.

    Raises:
        RequestError: ratio out of range, unknown criterion or allocation, statistics that do not fit each other.
    """
    scores = score_layers(stats, criterion, against, seed)
    even = [kept_count(len(values), ratio) for values in scores.values()]
    counts = find_allocation(allocation)(layer_scores(stats, scores, against), even, stats.top_k)
    return plan_of_counts(stats, scores, counts, ratio, criterion, allocation, seed)


def divergences(stats: Stats, other: Stats | None = None) -> dict[int, float]:
    """By layer, how far apart two languages are routed: the Jensen-Shannon divergence of their gate mass (arXiv 2605.28042).

    The two languages are those of the translations that the statistics saw: prompts (instruction and source) against
    responses; with ``other`` the texts of the two files. NaN where gate weights or one side are missing.
    """
    if other is None:
        sides = {i: layer.gate for i, layer in stats.layers.items()}
    else:
        sides = {i: (layer.gate.sum(0), other.layers[i].gate.sum(0)) for i, layer in stats.layers.items()}
    return {i: divergence(one.tolist(), two.tolist()) for i, (one, two) in sides.items()}


def layer_scores(stats: Stats, scores: dict[int, np.ndarray], against: Stats | None = None) -> list[LayerScores]:
    """What a budget may look at, by layer: shares of the ``scores``, and ``divergences``."""
    apart = divergences(stats, against)
    return [LayerScores(_shares(values), apart[i]) for i, values in scores.items()]


def _shares(values: np.ndarray) -> list[float]:
    """Scores of a layer's experts as shares of their sum, what is negative counted as nothing; equal where all are."""
    positive = np.maximum(values, 0)
    return (positive / positive.sum() if positive.any() else np.full(len(values), 1 / len(values))).tolist()


def plan_of_counts(
    stats: Stats,
    scores: dict[int, np.ndarray],
    counts: Sequence[int],
    ratio: float,
    criterion: str,
    allocation: str,
    seed: int = 0,
) -> Plan:
    """The plan that keeps the ``counts`` highest scores of each layer.

    Raises:
        RequestError: a layer would keep fewer experts than the model's router needs.
    """
    few = next((i for i, count in zip(scores, counts) if count < stats.routing.layer_floor), None)
    if few is not None:
        raise RequestError(
            f"A ratio of {ratio:g} leaves fewer than {stats.routing.layer_floor} experts in layer {few}, which this "
            "model's router needs.",
            next_command=f"slimmoe plan STATS --ratio {ratio / 2:g} -o plan.json",
        )
    top_k = min(stats.top_k, *counts)
    layers = [
        Layer(i, len(values), _best(values, count, top_k, stats.routing))
        for (i, values), count in zip(scores.items(), counts, strict=True)
    ]
    return Plan(
        stats.model, stats.fingerprint, stats.pair, criterion, allocation, ratio, seed, top_k, layers, stats.calibration
    )
