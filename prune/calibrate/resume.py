"""The side file of a long calibration: sums so far and how far that is, so that a killed run goes on."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from runtime.errors import SlimmoeError
from runtime.formats.files import new_file

SAVE_SECONDS = 30.0  # of work that a killed run may lose; layer by layer it may lose a layer


class Partial:
    """Sums by layer and a position, valid for the run that ``key`` describes: any other run ignores them."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self._key = json.dumps(key, sort_keys=True)

    def load(self) -> tuple[int, dict[int, np.ndarray]] | None:
        """Position and sums that an interrupted run of the same key left; None: there are none."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "numpy") as file:
                about = file.metadata() or {}
                if about.get("key") != self._key:
                    return None
                sums = {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
                return int(about["position"]), sums
        except (SafetensorError, KeyError):
            return None

    def save(self, position: int, sums: dict[int, np.ndarray]) -> None:
        with new_file(self.path) as temporary:
            tensors = {str(i): np.ascontiguousarray(values) for i, values in sums.items()}
            save_file(tensors, temporary, {"key": self._key, "position": str(position)})


def side_folder(output: Path, process: int) -> Path:
    """Where a process of a run keeps its side files."""
    return output.parent / f".{output.name}.{process}.partial"


@contextlib.contextmanager
def kept_to_go_on(side: Path) -> Iterator[None]:
    """Side files outlive a run that is stopped within the block; one that failed would fail again, and leaves none."""
    try:
        yield
    except SlimmoeError:
        shutil.rmtree(side, ignore_errors=True)
        raise


def remove_all(output: Path) -> None:
    """Remove the side files of an output that is there, also those of runs of other numbers of processes."""
    pattern = re.compile(rf"\.{re.escape(output.name)}\.\d+\.partial")
    for path in [path for path in output.parent.iterdir() if pattern.fullmatch(path.name)]:
        shutil.rmtree(path, ignore_errors=True)


def start_afresh(folder: Path) -> None:
    """Empty the folder of side files: what another run left in it must not be mistaken for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
