"""Recovery by training: SFT of all weights or of LoRA adapters, with distillation where there is a teacher."""

from typing import Any

import torch

from prune.allocator import keep_freed_memory
from prune.loading import load_model
from prune.recovery.lora import add_lora
from prune.recovery.objective import Objective, Teacher, routers_of
from prune.recovery.task import CPU, Recovered, Task
from prune.recovery.trainer import RecoveryTrainer, arguments, train


def fine_tune(task: Task) -> Recovered:
    """The weights with the lowest dev loss of a training run.

    Raises:
        WorkError: the loss is not a number.
    """
    checkpoint, settings, rate = task.checkpoint, task.settings, task.rate
    assert rate is not None
    keep_freed_memory()
    model: Any = load_model(checkpoint.folder, CPU, torch.float32)
    if task.device.type == "cpu":  # conversations are short: plain products beat the fused attention's backward pass
        model.set_attn_implementation("eager")
    routers = routers_of(model, checkpoint)
    student = add_lora(model, checkpoint, settings) if settings.method == "lora" else model
    for router in routers.values():  # of LoRA's base model too: routers are small, and trained whole
        router.requires_grad_(not settings.freeze_router)
    options, teacher = arguments(task.work, settings, task.steps, rate, task.device.type == "cpu"), None
    if task.source is not None:
        teacher = Teacher(load_model(task.source.folder, options.device, torch.float32), task.source, task.plan)
    objective = Objective(student, routers, settings, teacher, task.dtype).to(options.device)
    before = objective.mean_loss(task.held_out, options.device)
    trainer = RecoveryTrainer(objective, task.learnt, task.held_out, options, task.quiet)
    best_step, after = train(trainer, settings, task.resume)
    if settings.method == "lora":
        student = student.merge_and_unload()
    return Recovered(student, before, after, trainer.state.global_step, best_step)
