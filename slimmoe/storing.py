"""Adding to the stored models: a copy of what a user has or the Hugging Face hub gives, checked before it gets its name."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from runtime.errors import RequestError, warn_once
from runtime.formats.artefact import describe, files_of, find_artefact
from runtime.formats.copying import copy_range
from runtime.formats.files import require_space
from runtime.formats.gguf_file import check_gguf
from runtime.formats.model_folder import CONFIG, OBJECTS, TEXTS, own_file
from runtime.formats.onnx_folder import graph_file
from runtime.formats.provenance import FILE as PROVENANCE
from runtime.formats.store import new_model, require_free, tell_pair
from runtime.text.pairs import Pair
from runtime.translate.stored import Stored, find_stored
from slimmoe.repositories import downloaded, find_repository, fitting_name

# What an ONNX folder keeps beside its graph: what engines read, and what readers of the model should know.
CARD, LICENCE = "README.md", "LICENSE"
_BESIDE = (CONFIG, *OBJECTS, *TEXTS, "genai_config.json", PROVENANCE, CARD, LICENCE, "NOTICE")
_STEP = 64 << 20  # bytes between two movements of the bar


def add_model(what: str, name: str | None = None, pair: Pair | None = None) -> Stored:
    """Keep a copy of a model under a name.

    Args:
        what: a GGUF file, an ONNX folder or one of its graphs, a run's folder, or a repository of the Hugging Face hub.
        name: default: by what it is called.
        pair: of a model that does not tell it; without, such a model may be asked for any.

    Raises:
        RequestError: there is no such model, the name is taken or none, or the model tells another pair.
        WorkError: the model is damaged, the hub cannot be reached, or the disk is full.
    """
    repository = find_repository(what)
    if repository is not None:
        require_free(name or repository.default_name)  # before a download of gigabytes
    artefact = find_artefact(downloaded(repository) if repository else Path(what))
    name = name or (repository.default_name if repository else default_name(artefact))
    _check_pair(artefact, pair)
    with new_model(name) as folder:
        copy_model(artefact, folder)
        if pair is not None and not _told(artefact):
            tell_pair(folder, str(pair))
    stored = find_stored(name)
    if stored.engine == "llama.cpp":
        _warn_without_llama()
    return stored


def _told(artefact: Path) -> str:
    return describe(artefact)["provenance"].get("pair", "")


def _check_pair(artefact: Path, pair: Pair | None) -> None:
    if not artefact.exists():
        raise RequestError(f"There is no model {artefact}.", next_command="ls")
    if artefact.suffix not in (".gguf", ".onnx") and not (artefact / "onnx").is_dir():
        raise RequestError(
            f"{artefact} is neither a GGUF file nor an ONNX folder.", next_command="slimmoe gguf DIR -o FILE.gguf"
        )
    if pair is not None and (told := _told(artefact)) and str(pair) not in told.split(" + "):
        raise RequestError(f"{artefact} was cut for {told}, not for {pair}.", next_command="the same without --pair")


def default_name(artefact: Path) -> str:
    """What a model is called: its file, its folder, or in a run (``onnx-int4``) as the run's GGUF files are."""
    path = artefact.absolute()
    if path.suffix in (".gguf", ".onnx"):
        path = path if path.suffix == ".gguf" else path.parent.parent
    name = path.name.removesuffix(".gguf")
    if (run := path.parent.parent / "run.json").exists() and (kind := re.fullmatch(r"onnx-(\w+)", path.name)):
        ratio = describe(artefact)["provenance"].get("ratio")
        name = "-".join([run.parent.name, *([f"p{ratio * 100:g}"] if ratio else []), kind[1]])
    return fitting_name(name)


def _warn_without_llama() -> None:
    from importlib.util import find_spec

    from runtime.llama_paths import GET_LIBRARY

    if find_spec("llama_cpp") is None:
        warn_once(f"slimmoe: GGUF files are run by llama.cpp, which is not installed yet.\n  next: {GET_LIBRARY}")


def copy_model(artefact: Path, folder: Path) -> Path:
    """Copy what an artefact needs into an empty folder, and check the copy; returns the artefact there.

    Of an ONNX folder the graph that would be run, with what lies beside it. A GGUF file's header is held against its
    bytes; an ONNX graph is loaded and held against its self-test.

    Raises:
        RequestError: the model is of another kind.
        WorkError: it is damaged, or the disk is full.
    """
    if artefact.suffix == ".gguf":
        parts = check_gguf(artefact).parts  # before much is copied
        _copy([(part, folder / part.name) for part in parts])
        copy = folder / artefact.name
        check_gguf(copy)
        return copy
    from runtime.engines import open_engine

    graph = graph_file(artefact)
    home = graph.absolute().parent.parent
    inside = [*_BESIDE, *(f"onnx/{path.name}" for path in files_of(graph))]
    (folder / "onnx").mkdir()
    _copy([(path, folder / name) for name in inside if (path := own_file(home, name)) is not None])
    with contextlib.closing(open_engine(folder, threads=1)):
        return folder


def _copy(files: list[tuple[Path, Path]]) -> None:
    size = sum(source.stat().st_size for source, _ in files)
    require_space(files[0][1], size)
    with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=None, desc="copying") as bar:
        for source, target in files:
            for copied in _copied(source, target):
                bar.update(copied)


def _copied(source: Path, target: Path) -> Iterator[int]:
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as to:
        size = source.stat().st_size
        for start in range(0, size, _STEP):
            stop = min(start + _STEP, size)
            copy_range(file, to, start, stop)
            yield stop - start
