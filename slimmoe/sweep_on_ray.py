"""A sweep's runs as Ray tasks: statistics, then checkpoints with their artefacts, then measurements.

Tasks hand each other files, not data, so every node needs the same folders at the same places, and slimmoe installed.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from runtime.errors import SlimmoeError, WorkError
from runtime.machine import usable_cores
from slimmoe.sweep import Results, Row, Sweep, Todo, Variant, artefact_of, checkpoint_of, key_of, measure, statistics_of

Failed = SlimmoeError | None


def _statistics(here: Path, sweep: Sweep, variant: Variant) -> Failed:
    os.chdir(here)
    try:
        statistics_of(sweep, variant)
    except SlimmoeError as error:
        return error
    return None


def _prepare(here: Path, sweep: Sweep, variant: Variant, kinds: list[str], *before: Failed) -> Failed:
    """Checkpoint and all artefacts of a variant in one task, since they share folders."""
    os.chdir(here)
    try:
        if failed := next(filter(None, before), None):
            return failed
        checkpoint_of(sweep, variant)
        for kind in kinds:
            artefact_of(sweep, variant, kind)
    except SlimmoeError as error:
        return error
    return None


def _measure(here: Path, sweep: Sweep, variant: Variant, kind: str, prepared: Failed) -> tuple[str, Row | SlimmoeError]:
    os.chdir(here)
    try:
        return key_of(variant, kind), prepared or measure(sweep, variant, kind)
    except SlimmoeError as error:
        return key_of(variant, kind), error


def on_cluster(address: str, sweep: Sweep, todo: Todo) -> Results:
    """Keys and rows as they come, for ``slimmoe.sweep.run``.

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
        kinds: dict[Variant, list[str]] = {}
        for variant, kind in todo:
            kinds.setdefault(variant, []).append(kind)
        known: dict[Variant, Any] = {}  # statistics by their model and pair, the rest by variant
        for variant in kinds:
            before = []
            if variant.ratio:
                base = Variant(variant.model, variant.pair, "statistics")
                if base not in known:
                    known[base] = statistics.remote(here, sweep, variant)
                before.append(known[base])
                if variant.recovered and variant.cut in known:
                    before.append(known[variant.cut])
            known[variant] = prepare.remote(here, sweep, variant, kinds[variant], *before)
        waiting = [timed.remote(here, sweep, variant, kind, known[variant]) for variant, kind in todo]
        while waiting:
            (ready, *_), waiting = ray.wait(waiting)
            yield ray.get(ready)
    finally:
        ray.shutdown()
