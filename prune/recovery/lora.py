"""LoRA on the linear layers outside the routers and on the fused experts; merged back, it leaves a plain model."""

from typing import Any

from torch import nn

from prune.checkpoint import Checkpoint
from prune.recovery.settings import Settings


def add_lora(model: Any, checkpoint: Checkpoint, settings: Settings) -> Any:
    """The model with adapters; only they are trained."""
    from peft import LoraConfig, get_peft_model

    routers = tuple(checkpoint.module("router", layer) for layer in checkpoint.moe_layers)
    experts = [checkpoint.module("experts", layer) for layer in checkpoint.moe_layers]
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and not name.startswith(routers)
    ]
    fused = [
        f"{name}.{weight}"
        for name in experts
        for weight, parameter in model.get_submodule(name).named_parameters(recurse=False)
        if parameter.dim() == 3
    ]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=0.0,  # the only value that works on fused experts
        target_modules=linear,
        target_parameters=fused,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
