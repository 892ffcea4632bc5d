"""Models that stay: by name, in a folder of this user's, and in packages that were installed for them.

There is no index: the folder is the truth. ``<store>/<name>/`` is an ONNX folder or holds a GGUF file; ``.pair`` in it tells
the pair where the model's own files do not. ``<store>/.defaults/<pair>`` holds the name of the model that is taken for that
pair, ``<store>/.defaults/any`` the one for all others. A package brings a model by an entry point of the group
``slimmoe.models``: its name is the model's, its value the module in whose folder the model lies. No code of it is run.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from runtime.errors import RequestError, naming
from runtime.formats.files import full_disk_is_a_sentence, new_file, scratch_folder, sync_files

ENTRY_POINTS = "slimmoe.models"
ANY = "any"  # the pair of a default that stands for every pair
_PAIR, _DEFAULTS = ".pair", ".defaults"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_PAIRS = re.compile(r"[A-Za-z-]{2,40}( \+ [A-Za-z-]{2,40}){0,20}")
_MOST_BYTES = 1000  # of the small files beside the models


def store_folder() -> Path:
    """Where the platform has programs keep a user's data; ``SLIMMOE_MODELS`` names another place."""
    if chosen := os.environ.get("SLIMMOE_MODELS"):
        return Path(chosen)
    from platformdirs import user_data_path  # not where a model is given by its path

    return user_data_path("slimmoe", appauthor=False) / "models"


def is_name(text: str) -> bool:
    """Whether a model may be called so, on every system: it is then the name of one folder, and no path."""
    ends = text.lower().endswith((".", ".gguf", ".onnx"))  # the latter are files where a model is asked for
    return bool(_NAME.fullmatch(text)) and not ends and not _OF_WINDOWS.fullmatch(text)


def own_folders() -> dict[str, Path]:
    """The folder of each model in the store, by name; what is called otherwise is none.

    Raises:
        OSError: the store may not be read, or is no folder.
    """
    try:
        found = sorted(store_folder().iterdir())
    except FileNotFoundError:
        return {}
    return {path.name: path for path in found if is_name(path.name) and path.is_dir()}


def package_folders() -> dict[str, tuple[Path, str]]:
    """By name the folder of each model that a package brings, and the package's name."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[Path, str]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if not is_name(point.name) or not point.value.isidentifier():
            continue
        try:
            module = find_spec(point.value)
        except (ImportError, ValueError):
            continue
        for place in (module.submodule_search_locations or []) if module else []:
            found.setdefault(point.name, (Path(place), point.dist.name if point.dist else ""))
    return dict(sorted(found.items()))


def stored_folder(name: str) -> Path | None:
    """The folder of the model of that name, in the store before packages; None where there is none."""
    if not is_name(name):
        return None
    found = own_folders().get(name) or package_folders().get(name)
    return found[0] if isinstance(found, tuple) else found


def names() -> list[str]:
    """Of all models, those in the store first."""
    return list(dict.fromkeys([*own_folders(), *package_folders()]))


def no_such_model(name: str) -> RequestError:
    """The sentence for a name that is not there."""
    known = ", ".join(names()) or "none"
    return RequestError(f"There is no model called {name!r}; there are: {known}.", next_command="slimmoe models list")


def require_free(name: str) -> None:
    """Refuse what no model may be called, and a name that another one has, save for upper and lower case.

    Raises:
        RequestError: it is refused.
    """
    if not is_name(name):
        raise RequestError(
            f"{name!r} is no name for a model: use up to 64 letters (a-z), digits, '-', '_' and '.', a letter or digit first.",
            next_command="the same with --name my-model",
        )
    if taken := next((each for each in names() if each.lower() == name.lower()), None):
        own = taken in own_folders()
        remedy = f"slimmoe models remove {taken}   (or the same with another --name)"
        raise RequestError(
            f"There is a model called {taken} already.",
            next_command=remedy if own else "the same with another --name",
        )


@contextlib.contextmanager
def new_model(name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the model ``name`` when the block ends, and vanishes when it fails.

    What a killed run left of any model goes, too.

    Raises:
        RequestError: there is a model of that name, before the block or after it.
        WorkError: the disk is full.
    """
    from filelock import FileLock

    store = store_folder()
    require_free(name)
    with scratch_folder(store / "model") as scratch, naming(store, scratch), full_disk_is_a_sentence(store / name):
        folder = scratch / name
        folder.mkdir()
        yield folder
        sync_files(folder)
        with FileLock(store / ".lock"):
            require_free(name)
            folder.rename(store / name)


def remove_model(name: str) -> None:
    """Remove a model from the store, and it from the defaults: at once under its name, however long its files take.

    Raises:
        RequestError: there is none of that name, or a package brings it.
    """
    if (folder := own_folders().get(name)) is None:
        if (packaged := package_folders().get(name)) is None:
            raise no_such_model(name)
        package = packaged[1] or "PACKAGE"
        raise RequestError(f"{name} came with the package {package}.", next_command=f"pip uninstall {package}")
    for pair, default in defaults().items():
        if default == name:
            (store_folder() / _DEFAULTS / pair).unlink(missing_ok=True)
    with scratch_folder(store_folder() / "model") as scratch:
        folder.rename(scratch / name)


def _small_text(path: Path) -> str:
    """The content of a small file; empty where it is not there or is something else."""
    try:
        if path.is_file() and path.stat().st_size <= _MOST_BYTES:
            return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        pass
    return ""


def told_pair(folder: Path) -> str:
    """The pair that a user gave with a model; empty where that was none."""
    text = _small_text(folder / _PAIR)
    return text if _PAIRS.fullmatch(text) else ""


def tell_pair(folder: Path, pair: str) -> None:
    """Note a pair in a folder that is still being made."""
    (folder / _PAIR).write_text(f"{pair}\n", encoding="utf-8")


def defaults() -> dict[str, str]:
    """By pair (or ``any``) the name of its default, as far as that model is there; a damaged file names none."""
    folder = store_folder() / _DEFAULTS
    pairs = sorted(path.name for path in folder.iterdir() if is_name(path.name)) if folder.is_dir() else []
    found = {pair: _small_text(folder / pair) for pair in pairs}
    return {pair: name for pair, name in found.items() if name and stored_folder(name)}


def set_default(name: str, pair: str) -> None:
    """Make a model that is there the default of a pair, or of ``any``."""
    with new_file(store_folder() / _DEFAULTS / pair) as temporary:
        temporary.write_text(f"{name}\n", encoding="utf-8")
