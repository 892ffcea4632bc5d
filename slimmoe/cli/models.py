"""What a user gives as a model, read and checked before a verb starts its work, or even loads what it works with."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prune.checkpoint import Checkpoint
    from prune.gguf_model import GgufModel


def resolve(model: str) -> Path:
    """The checkpoint's folder, downloaded if it is an id; its config, headers and tokenizer were read and are right.

    Raises:
        RequestError, WorkError: there is none, or it is damaged: see ``resolve_model`` and ``Checkpoint``.
    """
    from prune.checkpoint import Checkpoint
    from prune.hub import resolve_model
    from prune.tokenizer import check_tokenizer

    checkpoint = Checkpoint(resolve_model(model))
    checkpoint.moe_layers  # noqa: B018 - refuses what has no experts
    check_tokenizer(checkpoint.folder)
    return checkpoint.folder


def moe_model(model: str) -> "Checkpoint | GgufModel":
    """A checkpoint or a GGUF file, whichever is given."""
    if model.endswith(".gguf"):
        from prune.gguf_model import GgufModel

        return GgufModel(Path(model))
    from prune.checkpoint import Checkpoint

    return Checkpoint(resolve(model))


def warn_of_formats(model: str) -> None:
    """Say before work in what format the model cannot be written at the end."""
    from export.capabilities import formats_of
    from prune.checkpoint import Checkpoint

    if not model.endswith(".gguf") and Path(model).is_dir():
        for sentence in formats_of(Checkpoint(Path(model))).sentences():
            logging.getLogger(__name__).warning(sentence)
