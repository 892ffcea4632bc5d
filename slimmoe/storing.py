"""Adding to the stored models: a copy of what a user has or the Hugging Face hub gives, checked before it gets its name."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from runtime.errors import RequestError, naming, warn_once
from runtime.formats.artefact import describe, files_of, find_artefact
from runtime.formats.copying import copy_range
from runtime.formats.files import require_space
from runtime.formats.gguf_file import check_gguf
from runtime.formats.model_folder import CONFIG, OBJECTS, TEXTS, own_file
from runtime.formats.onnx_folder import graph_file
from runtime.formats.provenance import FILE as PROVENANCE
from runtime.formats.store import new_model, require_free, tell_pair
from runtime.llama_paths import GET_LIBRARY
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
        what: a GGUF file, an ONNX folder or one of its graphs, a run's folder (of which the GGUF file is taken, where
            llama.cpp is here), or a repository of the Hugging Face hub.
        name: default: by what it is called.
        pair: of a model that does not tell it; without, such a model may be asked for any.

    Raises:
        RequestError: there is no such model, the name is taken or none, or the model tells another pair.
        WorkError: the model is damaged, the hub cannot be reached, or the disk is full.
    """
    repository = find_repository(what)
    if repository is not None:
        name = repository.default_name if name is None else name
        require_free(name)  # before a download of gigabytes
        artefact = find_artefact(downloaded(repository))
    else:
        artefact = find_artefact(Path(what), prefer_onnx=not _has_llama())
        name = default_name(artefact) if name is None else name
    require_artefact(artefact)
    told = describe(artefact)["provenance"].get("pair", "")
    if pair is not None and told and str(pair) not in told.split(" + "):
        raise RequestError(f"{artefact} was cut for {told}, not for {pair}.", next_command="the same without --pair")
    files = files_of_model(artefact)
    with new_model(name) as folder:
        _copy(files, folder)
        with naming(_home(artefact), instead_of=folder):
            check_model(folder / artefact.name if artefact.suffix == ".gguf" else folder)
        if pair is not None and not told:
            tell_pair(folder, str(pair))
    stored = find_stored(name)
    if stored.engine == "llama.cpp" and not _has_llama():
        warn_once(f"slimmoe: GGUF files are run by llama.cpp, which is not installed yet.\n  next: {GET_LIBRARY}")
    return stored


def require_artefact(artefact: Path) -> None:
    """Refuse what no engine runs.

    Raises:
        RequestError: there is nothing, or another kind of file.
    """
    if not artefact.exists():
        raise RequestError(f"There is no model {artefact}.", next_command="ls")
    if artefact.suffix not in (".gguf", ".onnx") and not (artefact / "onnx").is_dir():
        raise RequestError(
            f"{artefact} is neither a GGUF file nor an ONNX folder.", next_command="slimmoe gguf DIR -o FILE.gguf"
        )


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


def _has_llama() -> bool:
    return find_spec("llama_cpp") is not None


def _home(artefact: Path) -> Path:
    """The folder in which a model's files lie."""
    return artefact.parent if artefact.suffix == ".gguf" else graph_file(artefact).absolute().parent.parent


def files_of_model(artefact: Path) -> dict[str, Path]:
    """What a model needs, by its path in a folder of its own: of an ONNX folder the graph that would be run, and its company.

    Raises:
        RequestError: there is no graph.
        WorkError: a GGUF file is damaged or cut short, or a file is a link out of its folder.
    """
    if artefact.suffix == ".gguf":
        return {part.name: part for part in check_gguf(artefact).parts}
    inside = [*_BESIDE, *(f"onnx/{path.name}" for path in files_of(graph_file(artefact)))]
    return {name: path for name in inside if (path := own_file(_home(artefact), name)) is not None}


def check_model(artefact: Path) -> None:
    """Hold a GGUF file's header against its bytes; load an ONNX graph, and hold it against its self-test.

    Raises:
        WorkError: it is damaged, or does not run here.
    """
    if artefact.suffix == ".gguf":
        check_gguf(artefact)
        return
    from runtime.engines import open_engine

    open_engine(artefact, threads=1).close()


def _copy(files: dict[str, Path], folder: Path) -> None:
    size = sum(source.stat().st_size for source in files.values())
    require_space(folder, size)
    with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=None, desc="copying") as bar:
        for name, source in files.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            for copied in _copied(source, target):
                bar.update(copied)


def _copied(source: Path, target: Path) -> Iterator[int]:
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as to:
        size = source.stat().st_size
        for start in range(0, size, _STEP):
            stop = min(start + _STEP, size)
            copy_range(file, to, start, stop)
            yield stop - start
