"""What recovery minimises, as a module: the student, the loss of a batch, and the teacher beside it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune.batches import Batch
from prune.checkpoint import Checkpoint
from prune.plan.plan import Plan
from prune.recovery.settings import Settings
from runtime.errors import WorkError

Routers = dict[int, nn.Module]  # by layer
Logits = dict[int, Tensor]  # router logits by layer, [B * T, experts]


def routers_of(model: Any, checkpoint: Checkpoint) -> Routers:
    """The router modules of a transformers model."""
    return {layer: model.get_submodule(checkpoint.module("router", layer)) for layer in checkpoint.moe_layers}


def response_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits that predict the response tokens [N, vocabulary] (float32), and these tokens' ids [N].

    Only the positions from the first response on go through the output layer.
    """
    length = batch.ids.shape[1]
    first = int(batch.response.int().argmax(1).min())
    keep = length - max(first, 1) + 1  # the logits at a position predict the next token
    output = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=keep)
    logits = output.logits[:, -keep:-1]
    wanted = batch.response[:, length - keep + 1 :]
    return logits[wanted].float(), batch.ids[:, length - keep + 1 :][wanted]


def logit_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over rows, in nats (Hinton et al., arXiv 1503.02531)."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def router_loss(student: Tensor, teacher: Tensor, keep: list[int], real: Tensor) -> Tensor:
    """Cross-entropy of the student's routing against the teacher's over the kept experts, mean over real tokens.

    Args:
        student: router logits [N, kept]; teacher: [N, experts]. A softmax over the kept ones renormalises them.
        keep: ids of the teacher's experts, in the student's order.
        real: bool [N], False for padding.
    """
    wanted = F.softmax(teacher[real][:, keep].float(), -1)
    return -(wanted * F.log_softmax(student[real].float(), -1)).sum(-1).mean()


@contextlib.contextmanager
def _listen(routers: Routers) -> Iterator[Logits]:
    """Within it, a forward pass leaves its router logits in the dictionary that is yielded."""
    heard: Logits = {}

    def note(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            logits = output[0] if isinstance(output, tuple) else output
            heard[layer] = logits.reshape(-1, logits.shape[-1])

        return hook

    handles = [module.register_forward_hook(note(layer)) for layer, module in routers.items()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


class Teacher:
    """The unpruned model. Not a module, so that it is neither trained nor saved."""

    def __init__(self, model: Any, checkpoint: Checkpoint, plan: Plan) -> None:
        self.model, self.routers = model, routers_of(model, checkpoint)
        self.keep = {layer.layer: layer.keep for layer in plan.layers}

    @torch.no_grad()
    def answer(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Logits of the response tokens, and router logits by layer."""
        with _listen(self.routers) as heard:
            logits, _ = response_logits(self.model, batch)
        return logits, heard


class Objective(nn.Module):
    """The student and its loss; a module, so that gradients are averaged over processes as usual.

    ``dtype``: what the loss is computed in. The student keeps float32 weights, which the optimiser moves in steps that
    a shorter type would round away, and its copy in ``dtype`` passes the gradients on to them.
    """

    def __init__(
        self,
        student: Any,
        routers: Routers,
        settings: Settings,
        teacher: Teacher | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.student = student
        self._routers, self._settings, self._teacher, self._dtype = dict(routers), settings, teacher, dtype

    def _compute(self, **inputs: Any) -> Any:
        if self._dtype == torch.float32:
            return self.student(**inputs)
        copy = {name: weight.to(self._dtype) for name, weight in self.student.named_parameters()}
        return torch.func.functional_call(self.student, copy, (), inputs)

    def forward(self, ids: Tensor, mask: Tensor, response: Tensor) -> dict[str, Tensor]:
        """The loss of a batch (see ``Batch``).

        Raises:
            WorkError: it is not a number.
        """
        batch = Batch(ids, mask, response)
        if self._teacher is None:
            loss = F.cross_entropy(*response_logits(self._compute, batch))
        else:
            loss = self._distil(batch, self._teacher)
        if not torch.isfinite(loss):
            raise WorkError("The loss is not a number; the weights may be damaged, or the learning rate too high.")
        return {"loss": loss}

    def _distil(self, batch: Batch, teacher: Teacher) -> Tensor:
        settings = self._settings
        with _listen(self._routers) as heard:
            logits, wanted = response_logits(self._compute, batch)
        reference, routed = teacher.answer(batch)
        loss = (1 - settings.logit_weight) * F.cross_entropy(logits, wanted)
        loss = loss + settings.logit_weight * logit_divergence(logits, reference, settings.temperature)
        real = batch.mask.reshape(-1).bool()
        parts = [router_loss(heard[i], routed[i], keep, real) for i, keep in teacher.keep.items()]
        return loss + settings.router_weight * torch.stack(parts).mean()

    @torch.no_grad()
    def mean_loss(self, batches: list[Batch], device: torch.device) -> float:
        """Mean cross-entropy per response token (nats), in evaluation mode and float32."""
        training, total, count = self.training, 0.0, 0
        self.eval()
        for batch in batches:
            logits, wanted = response_logits(self.student, batch.to(device))
            total += F.cross_entropy(logits, wanted, reduction="sum").item()
            count += len(wanted)
        self.train(training)
        return total / count
