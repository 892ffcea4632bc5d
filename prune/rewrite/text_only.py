"""A checkpoint with a vision or audio part, written as its decoder alone: names, config and files of a causal language model."""

from typing import Any

from prune.checkpoint import Checkpoint
from runtime.errors import RequestError
from runtime.formats.quantised import KEYS

_WRAPPER = "language_model."  # between what transformers calls a decoder alone and within a model with other parts
_OF_OTHERS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
# What such a model's config says outside text_config and means the decoder.
_SHARED = ("dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id", *KEYS)


def check_text_only(checkpoint: Checkpoint) -> None:
    """Refuse what has no such form.

    Raises:
        RequestError: the model is a decoder alone already, or transformers has no class for one.
    """
    family, folder = checkpoint.family, checkpoint.folder
    command = f"slimmoe prune {folder} --plan plan.json -o DIR"
    if not isinstance(checkpoint.stored_config.get("text_config"), dict):
        raise RequestError(
            f"{folder} has no part beside its decoder that --text-only could leave out.", next_command=command
        )
    if not family.text_class:
        raise RequestError(
            f"transformers has no class for the decoder of {family.model_type!r} alone, so --text-only has no form for it.",
            next_command=command,
        )


def beside(checkpoint: Checkpoint) -> list[str]:
    """Names of the tensors of other parts than the decoder."""
    return [name for name in checkpoint.tensors if name.startswith(checkpoint.family.beside)]


def own_name(name: str) -> str:
    """What a tensor or module of the decoder is called where the decoder is alone."""
    return name.replace(_WRAPPER, "", 1)


def is_of_others(file: str) -> bool:
    """Whether a side file is for other parts alone."""
    return file in _OF_OTHERS


def text_config(checkpoint: Checkpoint, stored: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` of the decoder alone, of the whole model's ``stored``."""
    shared = {key: _renamed(checkpoint, stored[key]) for key in _SHARED if stored.get(key) is not None}
    own = {key: _renamed(checkpoint, value) if key in KEYS else value for key, value in stored["text_config"].items()}
    config = shared | own
    if "tie_word_embeddings" in stored:  # transformers asks the whole model's
        config["tie_word_embeddings"] = stored["tie_word_embeddings"]
    return config | {"architectures": [checkpoint.family.text_class], "model_type": checkpoint.family.model_type}


def _renamed(checkpoint: Checkpoint, quantisation: Any) -> Any:
    """A quantisation's lists of modules, by their new names and without those of other parts."""
    if not isinstance(quantisation, dict):
        return quantisation
    others = tuple(prefix.removesuffix(".") for prefix in checkpoint.family.beside)
    return {
        key: [own_name(each) for each in value if not str(each).startswith(others)]
        if isinstance(value, list) and all(isinstance(each, str) for each in value)
        else value
        for key, value in quantisation.items()
    }
