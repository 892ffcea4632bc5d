"""What a plan makes of a model's shape: experts by layer, padding, groups. The cut and the masked reference follow it."""

from collections import Counter
from dataclasses import dataclass

from prune.checkpoint import Checkpoint
from prune.plan import Plan
from runtime.errors import RequestError

PADDING = -1  # in rows: a place of the cut that the router must never choose


@dataclass(frozen=True)
class Shape:
    """The cut model.

    Attributes:
        rows: by layer, the source expert of each place in the cut, or PADDING.
        groups: expert groups of the router; 1 means plain top-k.
    """

    rows: dict[int, list[int]]
    groups: int

    @property
    def experts(self) -> int:
        """The count that ``config.json`` gives: the largest of any layer."""
        return max(len(rows) for rows in self.rows.values())

    @property
    def ragged(self) -> bool:
        """Whether layers differ in their count, which plain transformers cannot load."""
        return len({len(rows) for rows in self.rows.values()}) > 1


def groups_after(checkpoint: Checkpoint, plan: Plan) -> int:
    """Expert groups of the cut model: as they were where each keeps the same number of experts in a layer, else one.

    Kept groups must also have enough experts for the router's group score, and for top-k within the groups of a token:
    otherwise the router would choose experts of groups that it has ruled out.
    """
    groups = checkpoint.groups
    for layer in plan.layers:
        sizes = Counter(expert * groups // layer.experts for expert in layer.keep)
        size = len(layer.keep) // groups
        even = all(sizes[group] == size for group in range(groups))
        if not even or size < checkpoint.group_floor or size * checkpoint.topk_groups < plan.top_k:
            return 1
    return groups


def cut_shape(checkpoint: Checkpoint, plan: Plan, ragged: bool = False) -> Shape:
    """The shape of the cut. Where layers differ in their count, each is padded to the largest unless ``ragged``.

    Raises:
        RequestError: the layers differ and the router has no bias that makes padding exact.
    """
    groups = groups_after(checkpoint, plan)
    rows = {layer.layer: layer.keep for layer in plan.layers}
    counts = {len(keep) for keep in rows.values()}
    if len(counts) == 1 or ragged:
        return Shape(rows, groups)
    if not checkpoint.can_pad:
        raise RequestError(
            f"The plan keeps {min(counts)} to {max(counts)} experts by layer; a plain checkpoint has one count, and "
            "this router has no bias that would make padding exact. Only ONNX and slimmoe's own tools can hold such a model.",
            next_command=f"slimmoe prune {checkpoint.folder} --plan plan.json --ragged -o DIR",
        )
    padded = {}
    for layer in plan.layers:
        part = len(layer.keep) // groups  # all in one where groups is 1
        parts = [layer.keep[i * part : (i + 1) * part] for i in range(groups)]
        padded[layer.layer] = [row for p in parts for row in p + [PADDING] * (max(counts) // groups - part)]
    return Shape(padded, groups)
