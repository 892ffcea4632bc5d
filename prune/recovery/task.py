"""What a way of recovery is given, and what it gives back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prune.batches import Batch
from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.recovery.settings import Settings

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """One recovery of ``checkpoint``, which was cut from ``source`` (None: not at hand) by ``plan``.

    Training computes its loss in ``dtype``. ``work`` is the folder of an unfinished run, ``resume`` the Trainer
    checkpoint in it to go on from.
    """

    checkpoint: Checkpoint
    source: Checkpoint | None
    plan: Plan
    learnt: list[Batch]
    held_out: list[Batch]
    settings: Settings
    steps: int
    rate: float | None
    device: torch.device
    dtype: torch.dtype
    work: Path
    resume: Path | None
    quiet: bool


@dataclass(frozen=True)
class Recovered:
    """The recovered model, its dev losses (nats per response token), and how many steps it took."""

    model: Any
    loss_before: float
    loss_after: float
    steps: int
    best_step: int
