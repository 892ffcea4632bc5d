"""Why a plan keeps what it keeps: how concentrated and how far apart the routing of each layer is."""

from dataclasses import dataclass

import numpy as np

from prune.calibrate.stats import Stats
from prune.plan.plan import Plan, divergences
from runtime.errors import RequestError


@dataclass(frozen=True)
class Explanation:
    """One layer of a plan: how concentrated its routing is, and how much of it the kept experts carry."""

    layer: int
    experts: int
    kept: int
    effective: float  # exp of the entropy of the gate mass: as many equally used experts would be as concentrated
    mass_kept: float  # share of the gate mass that kept experts had before the cut
    busiest_dropped: float  # the largest share of gate mass among dropped experts; 0 where none is dropped
    never_chosen: int  # experts that no token chose
    divergence: float  # of the routing of source and target language; NaN where it is not known


def explain(plan: Plan, stats: Stats) -> list[Explanation]:
    """Per layer, what the plan keeps and how concentrated the routing was.

    Raises:
        RequestError: statistics without gate weights.
    """
    if "gate" not in stats.known:
        raise RequestError("These statistics hold no gate weights, which an explanation is about.")
    found, apart = [], divergences(stats)
    for layer in plan.layers:
        mass = stats.layers[layer.layer].gate.sum(0)
        share = mass / max(mass.sum(), np.finfo(float).tiny)
        used = share[share > 0]
        dropped = np.delete(share, layer.keep)
        found.append(
            Explanation(
                layer.layer,
                layer.experts,
                len(layer.keep),
                float(np.exp(-(used * np.log(used)).sum())),
                float(share[layer.keep].sum()),
                float(dropped.max(initial=0.0)),
                int((share == 0).sum()),
                apart[layer.layer],
            )
        )
    return found
