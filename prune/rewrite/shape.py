"""What a plan makes of a model's shape: experts by layer, padding, groups. Every cut and the masked reference follow it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from prune.moe_model import MoeModel
from prune.plan.plan import Plan
from runtime.errors import RequestError, WorkError

PADDED_EXPERT = -1  # in rows: a place of the cut that the router must never choose
# By type: a selection bias so low that no score can outweigh it, finite because some engines refuse infinities.
EXCLUDED_BIAS = {
    "F32": np.float32(-1e30),
    "F64": np.float64(-1e30),
    "F16": np.float16(-65504),
    "BF16": np.uint16(0xF149),
}


@dataclass(frozen=True)
class Shape:
    """The cut model.

    Attributes:
        rows: by layer, the source expert of each place in the cut, or PADDED_EXPERT. No plan knows layers of multi-token
            prediction: those that stay keep the experts of the same numbers as the model's last routed layer.
        groups: expert groups of the router; 1 means plain top-k.
    """

    rows: dict[int, list[int]]
    groups: int

    @property
    def experts(self) -> int:
        """The count that the cut model gives: the largest of any layer."""
        return max(len(rows) for rows in self.rows.values())

    @property
    def ragged(self) -> bool:
        """Whether layers differ in their count, which neither plain transformers nor llama.cpp can load."""
        return len({len(rows) for rows in self.rows.values()}) > 1


def check_plan(model: MoeModel, plan: Plan) -> None:
    """Refuse a plan that does not fit.

    Raises:
        RequestError: it is of another model, other layers or another top-k, a keep-list is wrong, or too few experts stay.
    """
    if plan.fingerprint != model.fingerprint:
        raise RequestError(
            f"The plan was made for another model ({plan.model}), not for {model.source}.",
            next_command=f"slimmoe calibrate {model.source} --pair {plan.pair} -o stats.safetensors",
        )
    if {layer.layer: layer.experts for layer in plan.layers} != model.moe_layers:
        raise RequestError("The plan's layers are not the model's layers.")
    for layer in plan.layers:
        valid = (
            layer.keep
            and layer.keep == sorted(set(layer.keep))
            and 0 <= layer.keep[0] <= layer.keep[-1] < layer.experts
        )
        if not valid:
            raise RequestError(f"The plan's keep-list of layer {layer.layer} is empty, unsorted or out of range.")
    fewest = min(len(layer.keep) for layer in plan.layers)
    if not 1 <= plan.top_k <= model.top_k:  # a lower one is a choice: less work for each token
        raise RequestError(
            f"The plan has {plan.top_k} experts per token, and {model.source} {model.top_k}.",
            next_command="slimmoe plan STATS --ratio 0.75 -o plan.json",
        )
    floor = max(plan.top_k, model.layer_floor)
    if fewest < floor:
        lowest = min(layer.experts for layer in plan.layers)
        raise RequestError(
            f"The plan keeps {fewest} experts in a layer; the router of {model.architecture} needs {floor}.",
            next_command=f"slimmoe plan STATS --ratio {int((1 - floor / lowest) * 100) / 100:g} -o plan.json",
        )


def groups_can_stay(model: MoeModel, kept: int, top_k: int) -> bool:
    """Whether ``kept`` experts of a layer can be as many in each group: enough for its score and for top-k within groups."""
    size, rest = divmod(kept, model.groups)
    return not rest and size >= model.group_floor and size * model.topk_groups >= top_k


def groups_after(model: MoeModel, plan: Plan) -> int:
    """Expert groups of the cut model: as they were where each keeps the same number of experts in a layer, else one.

    Kept groups must also have enough experts for the router's group score, and for top-k within the groups of a token:
    otherwise the router would choose experts of groups that it has ruled out.
    """
    groups = model.groups
    for layer in plan.layers:
        sizes = Counter(expert * groups // layer.experts for expert in layer.keep)
        size = len(layer.keep) // groups
        even = all(sizes[group] == size for group in range(groups))
        if not even or not groups_can_stay(model, len(layer.keep), plan.top_k):
            return 1
    return groups


def cut_shape(model: MoeModel, plan: Plan, ragged: bool = False) -> Shape:
    """The shape of the cut. Where layers differ in their count, each is padded to the largest unless ``ragged``.

    Raises:
        RequestError: the layers differ and the router has no bias that makes padding exact.
        WorkError: a layer of multi-token prediction has not as many experts as the model's last routed layer.
    """
    last = max(model.moe_layers)
    if {*model.draft_layers.values()} - {model.moe_layers[last]}:
        raise WorkError(
            f"{model.source} is damaged: its layers of multi-token prediction have other counts of experts."
        )
    shape = _own_layers(model, plan, ragged)
    return Shape(shape.rows | dict.fromkeys(model.draft_layers, shape.rows[last]), shape.groups)


def whole_shape(model: MoeModel) -> Shape:
    """The shape of a model that keeps all its experts."""
    layers = model.moe_layers | model.draft_layers
    return Shape({layer: [*range(experts)] for layer, experts in layers.items()}, model.groups)


def _own_layers(model: MoeModel, plan: Plan, ragged: bool) -> Shape:
    groups = groups_after(model, plan)
    rows = {layer.layer: layer.keep for layer in plan.layers}
    counts = {len(keep) for keep in rows.values()}
    if len(counts) == 1 or ragged:
        return Shape(rows, groups)
    if not model.can_pad:
        raise RequestError(
            f"The plan keeps {min(counts)} to {max(counts)} experts by layer; a plain checkpoint or GGUF file has one "
            "count, and this router has no bias that would make padding exact. Only ONNX and slimmoe's own tools can hold such "
            "a model, cut from a checkpoint.",
            next_command=f"slimmoe prune {model.source if model.source.is_dir() else 'DIR'} --plan plan.json --ragged -o CUT",
        )
    padded = {}
    for layer in plan.layers:
        part = len(layer.keep) // groups  # all in one where groups is 1
        parts = [layer.keep[i * part : (i + 1) * part] for i in range(groups)]
        padded[layer.layer] = [row for p in parts for row in p + [PADDED_EXPERT] * (max(counts) // groups - part)]
    return Shape(padded, groups)


def padding_source(rows: list[int], experts: int) -> int:
    """Whose weights fill the places that are never chosen: any dropped expert's."""
    return next((expert for expert in range(experts) if expert not in rows), 0)
