"""transformers' Trainer for recovery: it brings accelerate (several processes), schedules, checkpoints and resuming.

Two things differ from its defaults. An item of the data set is a whole batch, cut by token count out of conversations
of like length. And a checkpoint holds the trained parameters under their names in memory: a model that is saved in the
layout of its family (one tensor for each expert) would be read back by the Trainer without its experts.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from prune.batches import Batch
from prune.recovery.objective import Objective
from prune.recovery.settings import CHECKS, Settings

_STATE = "trainer_state.json"  # written last: a checkpoint that has it is whole


class _Progress(TrainerCallback):
    """One line: steps, time left, the latest dev loss."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._bar = quiet, tqdm(disable=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        hidden = self._quiet or not state.is_world_process_zero
        first = state.global_step
        self._bar = tqdm(desc="recover", total=state.max_steps, initial=first, disable=hidden or None, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        self._bar.set_postfix_str(f"dev loss {metrics['eval_loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()


def _collate(items: list[Batch]) -> dict[str, torch.Tensor]:
    (batch,) = items
    return {"ids": batch.ids, "mask": batch.mask, "response": batch.response}


class RecoveryTrainer(Trainer):
    """Minimises an ``Objective`` over ready-made batches; the dev loss decides which weights are kept."""

    def __init__(
        self, objective: Objective, train: list[Batch], dev: list[Batch], args: TrainingArguments, quiet: bool
    ):
        data: Any = {"train_dataset": train, "eval_dataset": dev}  # lists will do
        super().__init__(model=objective, args=args, data_collator=_collate, **data)
        self._objective, self._dev = objective, dev
        self.remove_callback(PrinterCallback)
        self.add_callback(_Progress(quiet))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = {"eval_loss": self._objective.mean_loss(self._dev, self.args.device)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:  # one process of several does
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name: p.detach() for name, p in self._objective.named_parameters() if p.requires_grad}
        save_file(trained, folder / "model.safetensors")

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        if load_result.unexpected_keys:
            raise RuntimeError(f"checkpoint of another model: {load_result.unexpected_keys[:3]}")
        # the frozen parameters are missing, as they should be


def arguments(work: Path, settings: Settings, steps: int, rate: float, on_cpu: bool) -> TrainingArguments:
    """The Trainer's arguments: linear warm-up and cosine decay, dev loss and checkpoint ``CHECKS`` times."""
    logging.set_verbosity_error()
    every = max(1, -(-steps // CHECKS))
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item is a batch
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 20),
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,  # and the best one
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        use_cpu=on_cpu,
        seed=settings.seed,
    )


def newest_checkpoint(work: Path) -> Path | None:
    """The last checkpoint that was written whole, if any."""
    whole = []
    for path in work.glob("checkpoint-*"):
        try:
            whole.append((json.loads((path / _STATE).read_text(encoding="utf-8"))["global_step"], path))
        except (OSError, ValueError, KeyError):
            continue  # killed while it was written
    return max(whole)[1] if whole else None


def train(trainer: RecoveryTrainer, settings: Settings, resume: Path | None) -> tuple[int, float]:
    """Train until the steps are done or the dev loss stops falling; the best weights are then in the objective.

    Returns:
        the step of the best weights, and their dev loss.
    """
    trainer.add_callback(EarlyStoppingCallback(settings.patience))
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer.state.best_global_step or 0, float(trainer.state.best_metric or float("inf"))
