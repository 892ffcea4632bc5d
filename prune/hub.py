"""A model given by folder or by Hugging Face id becomes a folder."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from runtime.errors import RequestError, WorkError

# The card for licence and languages; never pickled weights, never code.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md"]


def resolve_model(model: str) -> Path:
    """The folder of a checkpoint; ids (``organisation/name``) are downloaded once into Hugging Face's own cache.

    Raises:
        RequestError: neither a folder nor an id, or no such repository.
        WorkError: the hub cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_file() or path.suffix == ".gguf":
        raise RequestError(
            f"{model} is a file, and this needs a checkpoint's folder.", next_command="ls models/default"
        )
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise RequestError(f"There is no model folder {model}.", next_command="ls models/default")
    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except (RepositoryNotFoundError, HFValidationError):
        raise RequestError(f"{model} is neither a folder nor a model on the Hugging Face hub.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WorkError(
            f"{model} is not a folder here, and the Hugging Face hub cannot be reached ({type(error).__name__}).",
            next_command=f"hf download {model}   (where there is a network), then MODEL=<its folder>",
        ) from None
