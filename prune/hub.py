"""A model given by folder or by Hugging Face id becomes a folder; a LoRA adapter becomes one with its base."""

from pathlib import Path

from runtime.errors import RequestError, WorkError
from runtime.formats.kinds import kind_of, snapshot_of

# The card for licence and languages; never pickled weights, never code.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md"]
_SMALL = [pattern for pattern in _FILES if pattern != "*.safetensors"]


def resolve_model(model: str, local: bool = False, weights: bool = True) -> Path:
    """The folder of a checkpoint; ids (``organisation/name``) are downloaded once into Hugging Face's own cache.

    A LoRA adapter is merged with its base model into a folder ``<adapter>-merged``, beside its own or, of a downloaded one,
    in the current folder.

    Args:
        local: download and merge nothing.
        weights: without, only the small files of an id are downloaded, and none is merged.

    Raises:
        RequestError: neither a folder nor an id, or no such repository.
        WorkError: the hub cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        folder = snapshot_of(path)
        return folder if local else _whole(folder, path.absolute().with_name(f"{path.absolute().name}-merged"))
    if path.exists() or path.suffix == ".gguf":
        raise _no_folder(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise RequestError(f"There is no model folder {model}.", next_command="ls models/default")
    folder = _download(model, local, weights)
    return folder if local or not weights else _whole(folder, Path(f"{model.split('/')[1]}-merged"))


def _whole(folder: Path, merged: Path) -> Path:
    """The folder, or of an adapter the folder ``merged``."""
    from prune.adapter import is_adapter, merged_model

    return merged_model(folder, merged) if is_adapter(folder) else folder


def _no_folder(path: Path) -> RequestError:
    kind = kind_of(path)
    if kind == "gguf" and path.suffix == ".gguf":
        return RequestError(
            f"{path} is a GGUF file, and this needs a checkpoint's folder; a GGUF file is calibrated, planned, pruned and "
            "verified as it is.",
            next_command=f"slimmoe calibrate {path} --pair en-de -o stats.safetensors   (then plan, and prune {path})",
        )
    if kind == "gguf":
        return RequestError(
            f"{path} is a GGUF file, and its name does not say so.", next_command=f"ln -s {path.name} {path}.gguf"
        )
    if kind == "safetensors":
        return RequestError(
            f"{path} is a file of a checkpoint, and its folder is needed.", next_command=f"the same with {path.parent}"
        )
    return RequestError(f"{path} is a file, and this needs a checkpoint's folder.", next_command="ls models/default")


def _download(model: str, local: bool, weights: bool) -> Path:
    from huggingface_hub import snapshot_download  # a second, for those who need it
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        patterns = _FILES if weights else _SMALL
        return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=local))
    except (RepositoryNotFoundError, HFValidationError):
        raise RequestError(f"{model} is neither a folder nor a model on the Hugging Face hub.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if local:
            raise RequestError(
                f"{model} is neither here nor in the cache.", next_command=f"hf download {model}"
            ) from None
        raise WorkError(
            f"{model} is not a folder here, and the Hugging Face hub cannot be reached ({type(error).__name__}).",
            next_command=f"hf download {model}   (where there is a network), then MODEL=<its folder>",
        ) from None
