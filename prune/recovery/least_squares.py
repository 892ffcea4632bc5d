"""Recovery without gradients: the kept experts' output matrices are refitted, layer by layer, in closed form.

The unpruned model tells what the hidden state after a layer should be, and the cut model's own state says what is missing
there, errors of earlier layers included. The update of the experts' ``down_proj`` that lessens it the most is a linear
least-squares problem, solved by its normal equations (layer-wise reconstruction in the manner of OBC, Frantar et al.,
arXiv 2208.11580; with the inputs of the layers that were already recovered, as in GPTQ, arXiv 2210.17323).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from prune.batches import Batch
from prune.calibrate.observe import experts_replaced, usual_experts
from prune.calibrate.stream import LayerwiseModel
from prune.checkpoint import Checkpoint
from prune.loading import load_model
from prune.recovery.equations import Equations
from prune.recovery.objective import Objective
from prune.recovery.task import CPU, Recovered, Task
from runtime.errors import RequestError
from runtime.formats.files import new_file

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # times the mean of the matrix's diagonal
HELD_OUT = 10  # each tenth batch chooses the ridge
MEMORY_SHARE = 0.8  # of the free memory that the normal equations may take
_OTHERWISE = "slimmoe recover DIR --pair en-de --method full -o OUT"


class _Listener:
    """What the experts of a layer were given and answered: hidden and output [T, H], index and weights [T, k].

    While ``silent``, the model gets zeros instead of the answer.
    """

    hidden: Tensor
    index: Tensor
    weights: Tensor
    output: Tensor

    def __init__(self, experts: Any) -> None:
        self.silent = False
        self._usual = usual_experts(experts)

    def forward(self, module: Any, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        self.hidden, self.index, self.weights = hidden, index, weights
        self.output = self._usual(module, hidden, index, weights)
        return torch.zeros_like(self.output) if self.silent else self.output


def _factor(student: LayerwiseModel, layer: int, batch: Batch, state: Tensor, listener: _Listener) -> float:
    """By how much the experts' output is multiplied on its way into the layer's output (1, but for a few families).

    Raises:
        RequestError: it is not a factor.
    """
    with_experts = student.run(layer, batch, state)
    listener.silent = True
    without = student.run(layer, batch, state)
    listener.silent = False
    real = batch.mask.reshape(-1).bool()
    told, found = listener.output[real], (with_experts - without).reshape(listener.output.shape)[real]
    factor = ((told * found).sum() / told.square().sum()).item()
    if (found - factor * told).square().sum() > 1e-4 * found.square().sum():
        raise RequestError(
            f"The output of layer {layer} is not linear in its experts' outputs.", next_command=_OTHERWISE
        )
    return factor


def _output_inputs(experts: Any, heard: _Listener) -> Tensor:
    """Gate-weighted inputs of the experts' output matrices [T, k, I]."""
    tokens, k = heard.index.shape
    rows = heard.hidden.repeat_interleave(k, 0)
    order = heard.index.reshape(-1).argsort()
    counts = torch.bincount(heard.index.reshape(-1), minlength=len(experts.down_proj)).tolist()
    found = None
    for i, part in enumerate(order.split(counts)):
        weight = experts.gate_up_proj[i] if not experts.is_transposed else experts.gate_up_proj[i].T
        bias = experts.gate_up_proj_bias[i] if experts.has_bias else None
        inner = experts._apply_gate(F.linear(rows[part], weight, bias))
        if found is None:
            found = inner.new_empty(len(rows), inner.shape[-1])
        found[part] = inner
    assert found is not None
    return found.view(tokens, k, -1) * heard.weights[..., None].to(found.dtype)


def _check(checkpoint: Checkpoint, model: Any, device: torch.device) -> None:
    if len(counts := set(checkpoint.moe_layers.values())) > 1:
        raise RequestError("Least squares needs the same number of experts in every layer.", next_command=_OTHERWISE)
    rows = 0
    for layer in checkpoint.moe_layers:
        experts: Any = model.get_submodule(checkpoint.module("experts", layer))
        if not getattr(experts, "has_gate", False) or experts.has_post_expert_norm:
            raise RequestError(
                f"The experts of {type(model).__name__} are not gated ones with a linear output.",
                next_command=_OTHERWISE,
            )
        rows = max(rows, experts.down_proj.numel() // model.config.hidden_size)
    needed = 6 * 4 * rows * rows  # two sets of equations, their sum, its two triangles, its Cholesky factor
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise RequestError(
            f"Least squares over {counts.pop()} experts at once needs {needed / 1e9:.0f} GB of memory.",
            next_command=_OTHERWISE,
        )


def refit(
    source: Checkpoint,
    cut: Checkpoint,
    batches: list[Batch],
    device: torch.device,
    work: Path,
    advance: Callable[[float], Any],
) -> dict[int, Tensor]:
    """New ``down_proj`` of the experts of each layer of ``cut``, as its modules hold them (float32).

    Every token counts by the inverse mean square of its hidden state, since the norm that follows divides it out. One
    layer's weights of each model are in memory at a time, and all hidden states of both. Layers that are there in the
    folder ``work`` are taken from it.

    Args:
        source: the unpruned model.
        batches: conversations; each tenth batch only chooses the ridge.
        advance: told how many batches have passed a layer.

    Raises:
        RequestError: experts without a linear output, or too many of them for the memory.
    """
    teacher, student = (LayerwiseModel(checkpoint, device, torch.float32) for checkpoint in (source, cut))
    _check(cut, student.model, device)
    here = [batch.to(device) for batch in batches]
    states: dict[LayerwiseModel, list[Tensor]] = {model: list(model.embed(here)) for model in (teacher, student)}
    for model in (teacher, student):
        model.skip_embedding(states[model][0].shape[-1])
    found = {}
    for layer in range(len(student.layers)):
        for model in (teacher, student):
            model.load_layer(layer)
        wanted = [teacher.run(layer, batch, state) for batch, state in zip(here, states[teacher])]
        if layer in cut.moe_layers:
            experts: Any = student.model.get_submodule(cut.module("experts", layer))
            path = work / f"layer-{layer}.safetensors"
            if path.exists():
                experts.down_proj.data.copy_(load_file(path)["down_proj"])
            else:
                _refit_layer(student, layer, experts, here, states[student], wanted)
                work.mkdir(parents=True, exist_ok=True)
                with new_file(path) as temporary:
                    save_file({"down_proj": experts.down_proj.data.contiguous()}, temporary)
            found[layer] = experts.down_proj.detach().cpu().clone()
        states[student] = [student.run(layer, batch, state) for batch, state in zip(here, states[student])]
        states[teacher] = wanted
        for model in (teacher, student):
            model.free_layer(layer)
        advance(len(batches))
    return found


def _refit_layer(
    student: LayerwiseModel, layer: int, experts: Any, batches: list[Batch], states: list[Tensor], wanted: list[Tensor]
) -> None:
    down = experts.down_proj.data
    if experts.is_transposed:
        down = down.mT
    count, width, size = down.shape
    fitted, held_out = (Equations.zeros(count * size, width, down.device) for _ in range(2))
    heard = _Listener(experts)
    with experts_replaced(student.model, heard.forward):
        factor = _factor(student, layer, batches[0], states[0], heard)
        for number, (batch, state, target) in enumerate(zip(batches, states, wanted)):
            lacking = target - student.run(layer, batch, state)
            real = batch.mask.reshape(-1).bool()
            scale = target.square().mean(-1, keepdim=True).rsqrt().reshape(-1, 1)[real]
            inputs = factor * _output_inputs(experts, heard)[real]
            equations = held_out if number % HELD_OUT == HELD_OUT // 2 else fitted
            equations.add(inputs * scale[..., None], heard.index[real], lacking.reshape(-1, width)[real] * scale)
    errors = {ridge: held_out.error(fitted.solve(ridge)) for ridge in RIDGES} if held_out.square else {RIDGES[2]: 0.0}
    ridge = min(errors, key=lambda ridge: errors[ridge])
    if held_out.square and errors[ridge] >= held_out.square:
        return  # no update helps on text that it was not fitted to
    update = (fitted + held_out).solve(ridge).view(count, size, width).mT
    down += update


def least_squares(task: Task) -> Recovered:
    """The cut model with all its experts' output matrices refitted on ``task.steps`` batches.

    Raises:
        RequestError: see ``refit``.
    """
    assert task.source is not None
    order = np.random.default_rng(task.settings.seed).permutation(len(task.learnt))[: task.steps]
    chosen = [task.learnt[i] for i in order]
    model: Any = load_model(task.checkpoint.folder, CPU, torch.float32)
    before, layers = _dev_loss(model, task), model.config.num_hidden_layers
    del model  # while layers are refitted, they are in memory one by one
    with (
        tqdm(total=len(chosen) * layers, desc="least squares", unit="batch", disable=task.quiet or None) as bar,
        torch.inference_mode(),
    ):
        refitted = refit(task.source, task.checkpoint, chosen, task.device, task.work, bar.update)
    model = load_model(task.checkpoint.folder, CPU, torch.float32)
    for layer, down in refitted.items():
        model.get_submodule(task.checkpoint.module("experts", layer)).down_proj.data.copy_(down)
    return Recovered(model, before, _dev_loss(model, task), len(chosen), len(chosen))


def _dev_loss(model: Any, task: Task) -> float:
    return Objective(model.to(task.device), {}, task.settings).mean_loss(task.held_out, task.device)
