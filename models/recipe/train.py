"""Train the default model: ``python -m models.recipe.train WORK --tokens 60e6``.

Reads ``WORK/model`` (tokenizer) and ``WORK/tokens`` (conversations), writes ``WORK/run``: a checkpoint every few
minutes and at Ctrl-C, from which the same command goes on, and ``loss.csv``. About 7 thousand tokens/s on two cores
with AMX, if nothing else runs.
"""

import argparse
import csv
import signal
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from models.recipe.batches import batches
from models.recipe.network import training_loss
from models.recipe.optimiser import Muon
from models.recipe.tokenizer import VOCABULARY

BATCH, ACCUMULATE = 12_288, 2  # tokens in a pass, passes in a step
WARM_UP, DECAY = 0.01, 0.45  # shares of the run: the rate rises, stays, and falls linearly to zero
MUON_RATE, ADAM_RATE = 0.02, 4e-3
BALANCE = 0.01  # weight of the router balance loss
SAVE_SECONDS = 300


def configuration() -> Qwen3MoeConfig:
    """41 M parameters, of them 38 M in experts; 7 M active for a token. Every row is divisible by 256."""
    values: dict[str, Any] = dict(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        num_experts=32,
        num_experts_per_tok=4,
        moe_intermediate_size=256,
        intermediate_size=1024,
        norm_topk_prob=True,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        router_aux_loss_coef=BALANCE,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=3,
        initializer_range=0.02,
    )
    return Qwen3MoeConfig(**values)


def optimisers(model: Qwen3MoeForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for attention and experts, AdamW for embeddings, routers and norms."""
    stacked, plain, rest = [], [], []
    for name, parameter in model.named_parameters():
        inner = ".layers." in name and parameter.dim() > 1 and ".gate.weight" not in name
        (stacked if name.endswith("gate_up_proj") else plain if inner else rest).append(parameter)
    muon = Muon([{"params": stacked, "stack": 2}, {"params": plain}], lr=MUON_RATE)
    return [muon, torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


def rate_factor(progress: float) -> float:
    """Warm up, hold, decay (progress from 0 to 1)."""
    return min(1.0, (progress + 1e-4) / WARM_UP, max(0.0, 1 - progress) / DECAY)


def save(path: Path, state: dict) -> None:
    """Write a checkpoint whole or not at all."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train(work: Path, total: float, seed: int = 7) -> None:
    """Train until ``total`` tokens (padding not counted) were seen, then write ``WORK/run/final``."""
    run = work / "run"
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = Qwen3MoeForCausalLM(configuration())
    opts = optimisers(model)
    rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    step, seen = 0, 0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["optimisers"], strict=True):
            opt.load_state_dict(saved)
        step, seen = state["step"], state["seen"]
        print(f"going on from step {step}, {seen / 1e6:.1f} M tokens", flush=True)
    stream = batches(work / "tokens", BATCH, seed + step)  # a resumed run draws anew instead of replaying
    started = saved_at = shown = time.time()
    first = seen
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))  # finish the step, save, leave
    with open(run / "loss.csv", "a", newline="") as file:
        log = csv.writer(file)
        while seen < total and not stopped:
            factor = rate_factor(seen / total)
            for opt, base in zip(opts, rates, strict=True):
                for group, rate in zip(opt.param_groups, base, strict=True):
                    group["lr"] = rate * factor
            parts = [next(stream) for _ in range(ACCUMULATE)]
            scale = 1 / sum(float(part[2].sum()) for part in parts)
            loss_sum = balance_sum = 0.0
            load = torch.zeros(())
            for tokens, labels, weights, real in parts:
                loss, balance, loads = training_loss(model, tokens, labels, weights, real)
                (loss * scale + BALANCE / ACCUMULATE * balance).backward()
                loss_sum += loss.item() * scale
                balance_sum += balance.item() / ACCUMULATE / len(loads)
                load = load + loads
                seen += int(real.sum())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
                opt.zero_grad(set_to_none=True)
            step += 1
            if step % 10 == 0:
                rarest = float((load / load.mean(-1, keepdim=True)).min())
                speed = (seen - first) / (time.time() - started)
                log.writerow([step, seen, f"{loss_sum:.4f}", f"{balance_sum:.4f}", f"{rarest:.3f}", f"{speed:.0f}"])
                file.flush()
                if time.time() - shown > 20:
                    shown = time.time()
                    left = (total - seen) / speed / 60
                    print(
                        f"step {step}  {seen / 1e6:.2f} M tokens  loss {loss_sum:.3f}  balance {balance_sum:.3f}  "
                        f"rarest expert {rarest:.2f} of the mean  {speed:.0f} tokens/s  {left:.0f} min left",
                        flush=True,
                    )
            if time.time() - saved_at > SAVE_SECONDS or seen >= total or stopped:
                saved_at = time.time()
                states = [opt.state_dict() for opt in opts]
                save(checkpoint, {"model": model.state_dict(), "optimisers": states, "step": step, "seen": seen})
    if stopped:
        print(f"stopped at step {step}; the same command goes on from here", flush=True)
        return
    model.bfloat16().save_pretrained(run / "final", max_shard_size="45MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tokens", type=float, default=60e6, help="tokens to train on (default: 60e6)")
    arguments = parser.parse_args()
    train(arguments.work, arguments.tokens)
