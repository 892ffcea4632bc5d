"""Which of transformers' classes a checkpoint is: its config, and the model with all of its parts."""

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from prune.checkpoint import Checkpoint
from prune.families import family_of
from runtime.formats.json_object import read_object
from runtime.formats.quantised import KEYS


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a folder as transformers reads it; of a type that it does not know, as that of the family's code."""
    stored = read_object(folder / "config.json")
    model_type = str(stored.get("model_type"))
    kind = CONFIG_MAPPING[model_type if model_type in CONFIG_MAPPING else family_of(stored).model_type]
    config = kind.from_pretrained(folder)
    setattr(config, "model_type", kind.model_type)  # noqa: B010  by which transformers finds how tensors are renamed
    # Names of other people's kernels that a config.json may hold, whose code transformers would fetch and run.
    config._attn_implementation = config._experts_implementation = None
    return config


def config_of(checkpoint: Checkpoint) -> PreTrainedConfig:
    """Its config for transformers, which is not told of a quantisation: what the model is given are floats."""
    config = read_config(checkpoint.folder)
    for part in {id(each): each for each in (config, config.get_text_config())}.values():
        for key in KEYS:
            if hasattr(part, key):
                delattr(part, key)
    return config


def class_of(checkpoint: Checkpoint, config: PreTrainedConfig) -> Any:
    """The class that config.json names, which has the parts beside the decoder too; else the one for its type."""
    for name in checkpoint.stored_config.get("architectures") or ():
        named = getattr(transformers, name, None)
        if isinstance(named, type) and issubclass(named, GenerationMixin):
            return named
    auto: Any = AutoModelForSeq2SeqLM if getattr(config, "is_encoder_decoder", False) else AutoModelForCausalLM
    return auto._model_mapping[type(config)]
