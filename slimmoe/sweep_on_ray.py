"""A sweep's trials as Ray tasks: statistics, then checkpoints with their artefacts, then measurements.

Tasks hand each other files, not data, so every node needs the same folders at the same places, and slimmoe installed.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from runtime.errors import SlimmoeError, WorkError
from runtime.machine import usable_cores
from slimmoe.runs import runner_in
from slimmoe.stages import Stage
from slimmoe.sweep import Results, Sweep, Trial, measure
from slimmoe.variants import Variant

Failed = SlimmoeError | None


def _do(here: Path, home: Path, stages: list[Stage], *before: Failed) -> Failed:
    """Stages one after the other, since they share folders; nothing where one before them failed."""
    os.chdir(here)
    if failed := next(filter(None, before), None):
        return failed
    try:
        with runner_in(home, check=False) as runner:
            for stage in stages:
                runner.run(stage)
    except SlimmoeError as error:
        return error
    return None


def _statistics(here: Path, sweep: Sweep, trial: Trial) -> Failed:
    pipeline = trial.pipeline(sweep)
    return _do(here, pipeline.home, [pipeline.statistics(trial.variant)])


def _prepare(here: Path, sweep: Sweep, trials: list[Trial], *before: Failed) -> Failed:
    """Checkpoint and all artefacts of a variant."""
    pipeline = trials[0].pipeline(sweep)
    return _do(here, pipeline.home, [pipeline.artefact(each.variant, each.kind) for each in trials], *before)


def _measure(here: Path, sweep: Sweep, trial: Trial, prepared: Failed) -> tuple[Trial, Failed]:
    os.chdir(here)
    return trial, prepared or measure(sweep, trial)


def on_cluster(address: str, sweep: Sweep, todo: list[Trial]) -> Results:
    """Trials as they are done, for ``slimmoe.sweep.run``.

    Args:
        address: ``HOST:PORT`` of the cluster's head, ``auto`` for the one on this machine, ``local`` to start one.

    Raises:
        WorkError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")  # of the extra "cluster"
    except ImportError:
        raise WorkError("A sweep on a cluster needs Ray.", next_command="pip install 'slimmoe[cluster]'") from None
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkError(
            f"There is no Ray cluster at {address} ({str(error).splitlines()[0]}).", next_command="ray start --head"
        ) from None
    try:
        cores = sweep.threads or usable_cores()
        gpus = min(1, ray.cluster_resources().get("GPU", 0))
        statistics, prepare = (ray.remote(num_cpus=cores, num_gpus=gpus)(task) for task in (_statistics, _prepare))
        timed = ray.remote(num_cpus=cores)(_measure)
        here = Path.cwd()
        by_variant: dict[Variant, list[Trial]] = {}
        for trial in todo:
            by_variant.setdefault(trial.variant, []).append(trial)
        known: dict[
            Variant, Any
        ] = {}  # statistics by the unpruned variant of their model and pair, the rest by variant
        prepared: dict[Variant, Any] = {}
        for variant, trials in by_variant.items():
            before = []
            if variant.ratio:
                base = Variant(variant.model, variant.pair)
                if base not in known:
                    known[base] = statistics.remote(here, sweep, trials[0])
                before.append(known[base])
                if variant.recoveries and variant.cut in prepared:
                    before.append(prepared[variant.cut])
            prepared[variant] = prepare.remote(here, sweep, trials, *before)
        waiting = [timed.remote(here, sweep, trial, prepared[trial.variant]) for trial in todo]
        while waiting:
            (ready, *_), waiting = ray.wait(waiting)
            yield ray.get(ready)
    finally:
        ray.shutdown()
