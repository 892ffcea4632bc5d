"""A model of the Hugging Face hub that runs as it is: which files of a repository one model is, and their download."""

import contextlib
import errno
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.onnx_folder import FILES, VARIANTS

_LINK = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = re.compile(rf"({_PART}/{_PART})(?:/(?:resolve|blob|raw|tree)/([^/]+))?(?:/(.+?))?/?(?::([A-Za-z0-9_]+))?")
_SPLIT = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")
_LEFT_ASIDE = re.compile(r"(^|/)(mmproj|imatrix)|[.-]imatrix", re.IGNORECASE)  # GGUF files that are no language model
_SMALL = (".json", ".jinja", ".txt", ".model", ".md", "")  # what lies beside a graph, and no weights of another kind
_NAMED = 6  # of several models of a repository


@dataclass(frozen=True)
class Repository:
    """What was asked for: a repository, and of it a file or folder, or a type as ``Q4_K_M``, where these were given."""

    id: str
    revision: str | None = None
    file: str = ""
    type: str = ""

    @property
    def default_name(self) -> str:
        """What the model is called: its file, or the repository."""
        stem = PurePosixPath(self.file).name if self.file.endswith(".gguf") else self.id.split("/")[1]
        return fitting_name(stem.removesuffix(".gguf").removesuffix("-GGUF") + (f"-{self.type}" if self.type else ""))


def fitting_name(text: str) -> str:
    """A text with nothing but what names of models have, without the number of a split file's part."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"-00001-of-\d{5}$", "", text)).strip("-._")


def find_repository(text: str) -> Repository | None:
    """The repository that a text names: ``organisation/name``, with ``/FILE`` or ``:TYPE``, or a link; None: a path.

    Raises:
        RequestError: a link to elsewhere.
    """
    link = _LINK.match(text)
    if link is None:
        if "://" in text:
            raise RequestError(f"{text} is no link to the Hugging Face hub.", next_command="slimmoe models add --help")
        if text.startswith(("/", ".", "~")) or "/" not in text or "\\" in text or Path(text.partition("/")[0]).exists():
            return None
    rest = text[link.end() :] if link else text
    found = _ID.fullmatch(unquote(re.sub(r"[?#].*", "", rest)) if link else rest)
    if found is None:
        if link:
            raise RequestError(f"{text} is no link to a model.", next_command="slimmoe models add --help")
        return None
    file = found[3] or ""
    if ".." in PurePosixPath(file).parts:
        raise RequestError(f"{text} is no link to a model.", next_command="slimmoe models add --help")
    return Repository(found[1], found[2], file, found[4] or "")


def models_in(files: Iterable[str]) -> dict[str, list[str]]:
    """The models that can be run of a repository's files: by the first file of each, all that it is made of."""
    names = sorted(files)
    found: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(".gguf") and not _LEFT_ASIDE.search(name):
            split = _SPLIT.search(name)
            stem = name[: split.start()] if split else name
            if split is None or split[1] == "00001":
                found[name] = [each for each in names if split and each.startswith(stem) and _SPLIT.search(each)] or [
                    name
                ]
        path = PurePosixPath(name)
        if path.name in VARIANTS and path.parent.name == "onnx":
            home = path.parent.parent
            beside = [each for each in names if PurePosixPath(each).parent == home]
            small = [each for each in beside if PurePosixPath(each).suffix in _SMALL]
            found[name] = [name, *(each for each in names if each.startswith(f"{name}_")), *small]
    return found


def choose(repository: Repository, files: Iterable[str]) -> list[str]:
    """The files of the one model that was asked for, that which is opened first.

    Raises:
        RequestError: there is none, or there are several.
    """
    names, wanted = [*files], repository.file
    models = models_in(names)
    if wanted and wanted not in models:
        models = {name: parts for name, parts in models.items() if wanted in parts or name.startswith(f"{wanted}/")}
    elif wanted:
        models = {wanted: models[wanted]}
    if repository.type:
        models = {name: parts for name, parts in models.items() if _is_of_type(name, repository.type)}
    elif len(models) > 1 and len({PurePosixPath(name).parent for name in models}) == 1 and _all_graphs(models):
        smallest = min(models, key=lambda name: VARIANTS.index(PurePosixPath(name).name))
        models = {smallest: models[smallest]}
    if len(models) == 1:
        return next(iter(models.values()))
    if models:
        told = ", ".join([*models][:_NAMED]) + (f" and {len(models) - _NAMED} more" if len(models) > _NAMED else "")
        raise RequestError(
            f"{repository.id} holds several models: {told}.",
            next_command=f"slimmoe models add {repository.id}/{next(iter(models))}",
        )
    which = f" {wanted}" if wanted else f" of type {repository.type}" if repository.type else ""
    checkpoint = any(name.endswith(".safetensors") for name in names)
    raise RequestError(
        f"{repository.id} holds no GGUF file and no ONNX folder{which}"
        + ("; it holds a checkpoint, which is cut and exported first." if checkpoint else "."),
        next_command=f"slimmoe export {repository.id} --pair en-de" if checkpoint else "slimmoe models add --help",
    )


def _all_graphs(models: Iterable[str]) -> bool:
    return all(name.endswith(".onnx") for name in models)


def _is_of_type(name: str, kind: str) -> bool:
    if name.endswith(".onnx"):
        return FILES.get(kind.lower()) == PurePosixPath(name).name
    stem = _SPLIT.sub("", name).removesuffix(".gguf").lower()
    return re.search(rf"(^|[-._/]){re.escape(kind.lower())}$", stem) is not None


def downloaded(repository: Repository) -> Path:
    """The model's first file in Hugging Face's own cache, where a stopped download goes on and nothing is fetched twice.

    Where the hub cannot be reached, what the cache holds of the repository will do.

    Raises:
        RequestError: there is no such repository, or it holds no model that runs, or several.
        WorkError: the hub cannot be reached, and the cache does not hold it.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _hub_failures(repository):
        try:
            about = HfApi().model_info(repository.id, revision=repository.revision)
        except Exception as error:
            if not _is_of_network(error):
                raise
            try:
                folder = Path(snapshot_download(repository.id, revision=repository.revision, local_files_only=True))
            except LocalEntryNotFoundError:
                raise error from None
            files = choose(
                repository, [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
            )
            return folder / files[0]
        files = choose(repository, [each.rfilename for each in about.siblings or []])
        first, *_ = [hf_hub_download(repository.id, name, revision=repository.revision) for name in files]
    return Path(first)


def _is_of_network(error: Exception) -> bool:
    """Also what the hub's client lets through of the library below it, whose name changes with its version."""
    return isinstance(error, OSError) or type(error).__module__.startswith("httpx")


@contextlib.contextmanager
def _hub_failures(repository: Repository) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError:
        raise RequestError(
            f"{repository.id} is given to those who accept its terms: accept them on its page, and log in.",
            next_command="hf auth login",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise RequestError(
            f"{repository.id} is neither a file or folder here nor a model on the Hugging Face hub.", next_command="ls"
        ) from None
    except SlimmoeError:
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or not (_is_of_network(error) or isinstance(error, HfHubHTTPError)):
            raise
        raise WorkError(
            f"{repository.id} is no file or folder here, and the Hugging Face hub cannot be reached ({type(error).__name__}).",
            next_command=f"hf download {repository.id}   (where there is a network), then slimmoe models add FOLDER",
        ) from None
