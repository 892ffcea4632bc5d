"""A fast training pass over transformers' own parameters of a Qwen3-MoE or OLMoE model.

transformers' forward is the definition; this one computes the same function (tests compare them) an order of
magnitude faster on a CPU with AMX, because everything but attention works on one flat list of tokens of fixed size:

- shapes never change, so the elementwise parts compile once;
- tokens are sorted by expert, and each expert is a few plain matrix products (AMX runs these near its peak);
- the output layer's loss and gradient are computed chunk by chunk, and only where there is a loss.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from models.recipe.batches import Batch
from models.recipe.precision import COMPUTE
from models.recipe.shapes import EXPERT_SHARE

CHUNK = 1024  # rows of logits in flight in the output layer
ROWS = 128  # an expert's rows are padded to a multiple of this
compiled = torch.compile(dynamic=False)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


@compiled
def _queries_keys_values(x, norm, q_proj, k_proj, v_proj, q_norm, k_norm, cos, sin, eps: float, head: int):
    """Pre-norm and projections. x [N, H] -> q [N, heads, head], k and v [N, kv_heads, head].

    Queries and keys are normalised in pieces as wide as the norm's weight: a head, or all of them together.
    """
    x = _rms_norm(x, norm, eps)
    q, k, v = (F.linear(x, weight.to(x.dtype)) for weight in (q_proj, k_proj, v_proj))
    q, k = (_rms_norm(h.unflatten(1, (-1, len(weight))), weight, eps) for h, weight in ((q, q_norm), (k, k_norm)))
    q, k, v = (h.reshape(len(x), -1, head) for h in (q, k, v))
    return *(_rotate(h.float(), cos, sin).to(x.dtype) for h in (q, k)), v


def _causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, heads, T, head], k and v [B, kv_heads, T, head]. For T of a sentence, plain products beat the fused kernel."""
    group, length = q.shape[1] // k.shape[1], q.shape[2]
    k, v = (h.repeat_interleave(group, 1) for h in (k, v))
    future = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT + future, -1) @ v


@compiled
def _after_attention(residual, attended, o_proj, norm, router, eps: float, top_k: int, normalised: bool):
    """Output projection, residual, post-norm and routing; the router's softmax is in float32."""
    residual = residual + F.linear(attended, o_proj.to(attended.dtype))
    x = _rms_norm(residual, norm, eps)
    probabilities = F.linear(x.float(), router).softmax(-1)
    gates, index = probabilities.topk(top_k, -1)
    return residual, x, probabilities, gates / gates.sum(-1, keepdim=True) if normalised else gates, index


@compiled
def _combine(residual, outputs, gates):
    """Residual plus the gated sum of the chosen experts. outputs [N, k, H], gates [N, k]."""
    return residual + (outputs.float() * gates.unsqueeze(-1)).sum(1).to(residual.dtype)


@compiled
def _swiglu(hidden):
    gate, up = hidden.float().chunk(2, -1)
    return (F.silu(gate) * up).to(hidden.dtype)


@compiled
def _swiglu_backward(hidden, d_inner):
    """Gradients in gate and up and the forward value again, in one pass."""
    gate, up = hidden.float().chunk(2, -1)
    above, sigmoid = d_inner.float(), gate.sigmoid()
    silu = gate * sigmoid
    d_gate = above * up * (sigmoid + silu * (1 - sigmoid))
    return d_gate.to(hidden.dtype), (above * silu).to(hidden.dtype), (silu * up).to(hidden.dtype)


class _Experts(torch.autograd.Function):
    """Outputs of each token's top-k experts, ungated.

    x [N, H], index [N, k], gate_up [E, 2I, H] and down [E, H, I] -> [N, k, H]; all of one type.

    Each expert's rows are padded to a multiple of ROWS: oneDNN builds a kernel for each new shape, which takes longer
    than the product itself, so only a handful of shapes may occur.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        flat, width, experts = index.reshape(-1), index.shape[1], gate_up.shape[0]
        order = flat.argsort(stable=True)
        count = torch.bincount(flat, minlength=experts)
        padded = (count + ROWS - 1) // ROWS * ROWS
        shift = (padded.cumsum(0) - padded) - (count.cumsum(0) - count)
        slot = torch.empty_like(order)  # where a (token, choice) stands among the rows
        place = torch.arange(len(flat), device=x.device)
        slot[order] = place + shift[flat[order]]
        origin = slot.new_zeros(len(flat) + experts * ROWS).index_copy_(0, slot, place // width)
        bounds = [0, *padded.cumsum(0).tolist()]
        rows = x[origin]
        hidden = rows.new_empty(rows.shape[0], gate_up.shape[1])
        for expert, (start, stop) in enumerate(zip(bounds, bounds[1:])):
            torch.mm(rows[start:stop], gate_up[expert].T, out=hidden[start:stop])
        inner, result = _swiglu(hidden), torch.empty_like(rows)
        for expert, (start, stop) in enumerate(zip(bounds, bounds[1:])):
            torch.mm(inner[start:stop], down[expert].T, out=result[start:stop])
        ctx.save_for_backward(rows, hidden, slot, gate_up, down)
        ctx.bounds = bounds
        return result[slot].view(*index.shape, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, slot, gate_up, down = ctx.saved_tensors
        width = gradients[0].shape[1]
        upstream = torch.zeros_like(rows).index_copy_(0, slot, gradients[0].reshape(-1, rows.shape[1]))
        spans = list(enumerate(zip(ctx.bounds, ctx.bounds[1:])))
        d_inner = hidden.new_empty(rows.shape[0], down.shape[2])
        for expert, (start, stop) in spans:
            torch.mm(upstream[start:stop], down[expert], out=d_inner[start:stop])
        *halves, inner = _swiglu_backward(hidden, d_inner)
        d_hidden = torch.cat(halves, -1)
        d_gate_up, d_down, d_rows = torch.zeros_like(gate_up), torch.zeros_like(down), torch.empty_like(rows)
        for expert, (start, stop) in spans:
            torch.mm(upstream[start:stop].T, inner[start:stop], out=d_down[expert])
            torch.mm(d_hidden[start:stop].T, rows[start:stop], out=d_gate_up[expert])
            torch.mm(d_hidden[start:stop], gate_up[expert], out=d_rows[start:stop])
        return d_rows[slot].view(-1, width, rows.shape[1]).sum(1), None, d_gate_up, d_down


@compiled
def _chunk_loss(logits, labels, weights):
    """Weighted cross-entropy of one chunk and its gradient in the logits; no copy of the logits in float32."""
    wide = logits.float()
    log_sum = torch.logsumexp(wide, -1)
    loss = ((log_sum - wide.gather(1, labels[:, None])[:, 0]) * weights).sum()
    gradient = torch.exp(wide - log_sum[:, None])
    ids = torch.arange(wide.shape[1], device=wide.device)
    gradient = (gradient - (ids[None, :] == labels[:, None])) * weights[:, None]
    return loss, gradient.to(logits.dtype)


class _OutputLoss(torch.autograd.Function):
    """Sum over rows of weight * cross-entropy, forward and backward in one sweep over chunks of rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        total, narrow = torch.zeros((), device=x.device), weight.to(x.dtype)
        d_x, d_weight = torch.empty_like(x), torch.zeros_like(weight)
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            loss, gradient = _chunk_loss(x[part] @ narrow.T, labels[part], weights[part])
            total += loss
            torch.mm(gradient, narrow, out=d_x[part])
            d_weight += gradient.T @ x[part]
        ctx.save_for_backward(d_x, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_x, d_weight = ctx.saved_tensors
        return d_x * gradients[0], d_weight * gradients[0], None, None


class Usage:
    """How a layer's experts are used over all text: running means over some hundred thousand tokens.

    Rows of a batch are alike in length, so most of a batch may be of one kind. To balance each batch by itself would spread
    every kind over all experts; the load has to be even over all text (Qiu et al. 2025, arXiv 2501.11873).
    """

    def __init__(self, experts: int, keep: float = 0.9, device: torch.device | None = None) -> None:
        self.load = torch.full((experts,), 1 / experts, device=device)  # share of the choices
        self.probability = self.load
        self._keep = keep

    def update(self, load: Tensor, probability: Tensor) -> None:
        """Count in a batch's load, in tokens or as a share, and its mean probabilities."""
        self.load = torch.lerp(load / load.sum(), self.load, self._keep)
        self.probability = torch.lerp(probability.detach(), self.probability, self._keep)


def new_usage(model: PreTrainedModel) -> list[Usage]:
    """One for each layer, before anything was routed."""
    return [Usage(model.config.num_experts, device=model.device) for _ in range(model.config.num_hidden_layers)]


def balance_loss(probability: Tensor, usage: Usage) -> Tensor:
    """Switch Transformer, arXiv 2101.03961, section 2.2: E * sum of load share times mean probability; 1 when balanced."""
    return len(probability) * (usage.load * probability).sum()


def specialisation_loss(probabilities: Tensor, kinds: Tensor, usage: Usage) -> Tensor:
    """What the mutual information of kinds of text and experts lacks, in nats (Mod-Squad, arXiv 2212.08066, section 3.3).

    Its two parts: how far H(expert | kind), the mean over tokens, is above log(EXPERT_SHARE * E), so that a kind is not driven
    into fewer experts than its subset; and how far H(expert) over all text is below log E, so that the kinds do not
    agree on the same few. The second has the gradient of its definition, with the log of the probability over all text.
    """
    experts, count = probabilities.shape[1], torch.bincount(kinds)
    sums = probabilities.new_zeros(len(count), experts).index_add(0, kinds, probabilities)
    means = sums / count.clamp(min=1)[:, None]
    spread = F.relu(-torch.xlogy(means, means.clamp(min=1e-9)).sum(-1) - math.log(EXPERT_SHARE * experts))
    agreement = (probabilities.mean(0) * torch.log(experts * usage.probability.clamp(min=1e-9))).sum()
    return (count / count.sum() * spread).sum() + agreement


class Losses(NamedTuple):
    """Of one batch: the weighted cross-entropy summed over tokens, both router losses summed over layers, and the load.

    ``loads`` [layers, experts] are in tokens.
    """

    text: Tensor
    balance: Tensor
    specialisation: Tensor
    loads: Tensor


def training_loss(model: PreTrainedModel, batch: Batch, usage: list[Usage]) -> Losses:
    """Losses of one batch of right-padded rows; the model's float32 parameters get gradients.

    Its rows times their length may be short of the flat size by less than a row. The batch is counted in each layer's
    ``usage`` first.
    """
    tokens, labels, weights, real, kinds = batch
    config, size = model.config, labels.shape[0]
    rows, length = tokens.shape
    flat = F.pad(tokens.reshape(-1), (0, size - rows * length))
    position = F.pad(torch.arange(length, device=flat.device).repeat(rows), (0, size - rows * length))
    decoder: Any = model.model  # torch types what is inside a module as a bare module
    output: Any = model.get_output_embeddings()
    cos, sin = decoder.rotary_emb(torch.empty(1, device=flat.device), position[None])
    cos, sin = cos[0, :, None], sin[0, :, None]
    head = cos.shape[-1]
    x = F.embedding(flat, decoder.embed_tokens.weight).to(COMPUTE)
    balance = specialisation = torch.zeros((), device=flat.device)
    loads = []
    for layer, used in zip(decoder.layers, usage, strict=True):
        attention, moe = layer.self_attn, layer.mlp
        q, k, v = _queries_keys_values(
            x, layer.input_layernorm.weight, attention.q_proj.weight, attention.k_proj.weight,
            attention.v_proj.weight, attention.q_norm.weight, attention.k_norm.weight,
            cos, sin, config.rms_norm_eps, head,
        )  # fmt: skip
        q, k, v = (h[: rows * length].view(rows, length, -1, head).transpose(1, 2) for h in (q, k, v))
        attended = _causal_attention(q, k, v)
        attended = attended.transpose(1, 2).reshape(rows * length, -1)
        attended = F.pad(attended, (0, 0, 0, size - rows * length))
        x, normed, probabilities, gates, index = _after_attention(
            x, attended, attention.o_proj.weight, layer.post_attention_layernorm.weight, moe.gate.weight,
            config.rms_norm_eps, config.num_experts_per_tok, config.norm_topk_prob,
        )  # fmt: skip
        experts = moe.experts
        outputs = _Experts.apply(normed, index, experts.gate_up_proj.to(COMPUTE), experts.down_proj.to(COMPUTE))
        x = _combine(x, outputs, gates)
        load = torch.bincount(index[real].reshape(-1), minlength=config.num_experts)
        probabilities = probabilities[real]
        mean = probabilities.mean(0)
        used.update(load, mean)
        balance = balance + balance_loss(mean, used)
        specialisation = specialisation + specialisation_loss(probabilities, kinds[real], used)
        loads.append(load)
    where = weights.nonzero()[:, 0]
    pad = -len(where) % CHUNK  # whole chunks only: one compiled shape
    where = F.pad(where, (0, pad))
    weight = weights[where]
    weight[len(where) - pad :] = 0
    x = _rms_norm(x[where], decoder.norm.weight, config.rms_norm_eps)
    loss: Any = _OutputLoss.apply(x, output.weight, labels[where], weight)
    return Losses(loss, balance, specialisation, torch.stack(loads))
