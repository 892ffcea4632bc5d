"""How many threads an engine gets where nobody says: by what is free, and by what is faster."""

from dataclasses import dataclass
from pathlib import Path

from runtime.formats.artefact import files_of
from runtime.formats.gguf_file import GgufFile
from runtime.formats.onnx_folder import graph_file
from runtime.machine import free_cores

# Bytes of weights read for a token, up to which many texts go to several workers of one thread each: threads wait for each
# other after each operation, and workers of one were never slower (docs/threads.md). From here on a text alone would wait too
# long for its one thread, which reads some 6 GB/s of quantised weights.
SMALL = 192 << 20


@dataclass(frozen=True)
class Threads:
    """A choice, and why it was made: ``count`` threads for one sequence, ``workers`` sequences at a time."""

    count: int
    workers: int
    reason: str

    def __str__(self) -> str:
        threads = f"{self.count} thread{'s' * (self.count != 1)}"
        return f"{self.workers} workers of {threads} each" if self.workers > 1 else threads


def active_bytes(artefact: Path, file: GgufFile | None = None) -> int:
    """Bytes of weights that a token needs, about: of a GGUF file from its header, of an ONNX graph all it has.

    ``file`` is a GGUF file that was read already.

    Of a GGUF file's experts, the tensors with an outermost axis of as many, those that a token is routed to count.

    Raises:
        RequestError, WorkError: there is none, or its header is damaged.
    """
    if artefact.suffix != ".gguf":
        return sum(path.stat().st_size for path in files_of(graph_file(artefact)))
    file = file or GgufFile(artefact)
    experts, used = (file.get(f"{file.architecture}.expert{name}_count") or 0 for name in ("", "_used"))
    sizes = {name: tensor.stop - tensor.start for name, tensor in file.tensors.items()}
    routed = sum(
        size for name, size in sizes.items() if len(shape := file.tensors[name].shape) == 3 and shape[0] == experts
    )
    return sum(sizes.values()) - (routed - routed * used // experts if routed else 0)


def default_threads(active: int) -> Threads:
    """Threads and workers for a model of ``active`` bytes of weights a token (see ``active_bytes``)."""
    free = free_cores()
    cores = f"{free} core{'s' * (free != 1)} free"
    if active <= SMALL:
        return Threads(1, free, f"{cores}, and a token reads {active / 1e6:.0f} MB only")
    return Threads(free, 1, f"{cores}, and a token reads {active / 1e6:.0f} MB")
