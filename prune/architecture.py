"""Which of transformers' classes a checkpoint is: its config, and the model with all of its parts."""

from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from prune.checkpoint import Checkpoint
from runtime.formats.quantised import KEYS


def config_of(checkpoint: Checkpoint) -> PreTrainedConfig:
    """The config as transformers reads it. Where it does not know the type, that of the family whose code the model is.

    It is not told of a quantisation: what the model is given are floats.
    """
    model_type = str(checkpoint.stored_config.get("model_type"))
    kind = CONFIG_MAPPING[model_type if model_type in CONFIG_MAPPING else checkpoint.family.model_type]
    config = kind.from_pretrained(checkpoint.folder)
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
