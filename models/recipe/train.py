"""Train the default model: ``python -m models.recipe.train WORK``.

Reads ``WORK/model`` (tokenizer) and ``WORK/tokens`` (rows), writes ``WORK/run``: a checkpoint every few minutes and at
Ctrl-C, from which the same command goes on, and ``loss.csv``. It runs on a GPU where there is one. About 7 thousand
tokens/s on two cores with AMX or AVX-512 BF16, 2 with AVX2, if nothing else runs.

The learning rate rises, stays, and falls to zero over the last part. ``--finish`` lets it fall from where the run is,
so that a run may be ended at any time; ``--tokens`` on a run that goes on sets a new end. ``--start MODEL`` begins from
the weights of another model of this shape, whose vocabulary may be another: its attention and experts then wait until
the embeddings have found their places.
"""

import argparse
import csv
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.recipe.batches import ahead, batches
from models.recipe.network import new_usage, training_loss
from models.recipe.optimiser import Muon
from models.recipe.precision import DEVICE
from models.recipe.shapes import BALANCE, SHAPES, SPECIALISATION, configuration
from models.recipe.transplant import same_vocabulary, weights_from
from prune.allocator import keep_freed_memory
from runtime.formats.files import new_file, new_folder

BATCH, ACCUMULATE = 12_288, 2  # tokens in a pass, passes in a step
GPU_BATCH = 98_304  # on a GPU: one pass is a step
WARM_UP = 1e6  # tokens over which the learning rate rises, or a tenth of a shorter run
WAIT = 0.6e6  # tokens for which layers that were trained before stay as they are under new embeddings
DECAY = 0.35  # share of all tokens over which it falls linearly to zero
TOKENS = 32e6
MUON_RATE, ADAM_RATE = 0.02, 4e-3
SAVE_SECONDS = 300
PACE = 0.05  # weight of the last step in the speed by which a run with a time limit is planned
LOWEST = 0.05  # of the learning rate, from which a run may still be prolonged


def optimisers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for attention and experts, AdamW for embeddings, routers and norms."""
    stacked, plain, rest = [], [], []
    for name, parameter in model.named_parameters():
        inner = ".layers." in name and parameter.dim() > 1 and ".gate.weight" not in name
        (stacked if name.endswith("gate_up_proj") else plain if inner else rest).append(parameter)
    muon = Muon([{"params": stacked, "stack": 2}, {"params": plain}], lr=MUON_RATE)
    return [muon, torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


class Schedule(NamedTuple):
    """Factor of the learning rate by tokens seen: rise to 1, stay, fall linearly from ``height`` at ``begin`` to 0.

    The matrices of the layers rise after ``wait`` tokens; the rest has risen by then.
    """

    begin: float
    end: float
    height: float = 1.0
    wait: float = 0.0

    def __call__(self, seen: float, matrices: bool = False) -> float:
        fall = self.height * max(0.0, self.end - seen) / (self.end - self.begin)
        warm_up = min(WARM_UP, self.end / 10)
        rise, begun = (self.wait, 0.0) if self.wait and not matrices else (warm_up, self.wait)
        return min(1.0, max(0.0, seen + 1e4 - begun) / rise, fall)


def paced(plan: Schedule, seen: int, speed: float, seconds: float, decay: float = DECAY) -> Schedule:
    """The plan of a run that ends after ``seconds`` more at ``speed`` tokens/s; a decay that has begun keeps its height."""
    end = seen + max(speed * seconds, 1.0)
    if seen > plan.begin:
        return Schedule(seen, end, plan(seen), plan.wait)
    return plan._replace(begin=max((1 - decay) * end, seen), end=end)


def schedule(seen: int, tokens: float | None, finish: bool, saved: Schedule | None, decay: float = DECAY) -> Schedule:
    """The schedule of a run that starts or goes on after ``seen`` tokens, and falls over the last ``decay`` of them.

    A decay that has begun is never undone: it goes on from its present height to the end asked for. A run that has come
    to its end keeps its schedule.

    Raises:
        SystemExit: the end asked for is behind, the rate has fallen too far to go on, or there is nothing to finish.
    """
    decaying = saved is not None and seen > saved.begin
    end = tokens or (saved.end if saved else TOKENS)
    if saved and seen >= saved.end == end:
        return saved
    if saved and decaying and end > saved.end and saved(seen) < LOWEST:
        raise SystemExit(
            f"The learning rate has fallen to {saved(seen):.0%}: more tokens would teach nothing. "
            "Next: a new WORK, with --start WORK/run/final."
        )
    if finish and not decaying:
        if not seen:
            raise SystemExit("No run to finish yet. Next: the same command without --finish.")
        end = seen / (1 - decay)
    if end <= seen:
        raise SystemExit(f"{seen / 1e6:.1f} M tokens were seen already. Next: the same command with --finish.")
    wait = saved.wait if saved else 0.0
    if saved and decaying:
        return Schedule(seen, end, saved(seen), wait) if end != saved.end else saved
    return Schedule(max((1 - decay) * end, seen), end, wait=wait)


def write_model(model: PreTrainedModel, tokenizer: Path, folder: Path) -> None:
    """A checkpoint as transformers reads it, in bf16, with the tokenizer and chat template of another folder."""
    with new_folder(folder) as temporary:
        model.bfloat16().save_pretrained(temporary, max_shard_size="47MB")
        shutil.copytree(tokenizer, temporary, dirs_exist_ok=True)


def _trim(log: Path, step: int) -> None:
    """Drop the rows of steps after the checkpoint: they are done again."""
    if log.exists():
        rows = log.read_text().splitlines(keepends=True)
        with new_file(log) as temporary:
            temporary.write_text("".join(row for row in rows if int(row.split(",")[0]) <= step))


def train(
    work: Path,
    shape: str = "default",
    tokens: float | None = None,
    finish: bool = False,
    start: Path | None = None,
    minutes: float | None = None,
    decay: float = DECAY,
    seed: int = 7,
) -> None:
    """Train until the schedule's end (in tokens, padding not counted), then write ``WORK/run/final``.

    With ``minutes`` the end is that time from now, whatever the speed; the first step, which compiles, is in it.

    ``start`` is a folder with a model to begin from; a run that goes on has its own weights and ignores it. A ``shape``
    other than the default one has ``WORK/run-SHAPE`` for its own.
    """
    keep_freed_memory()
    size, accumulate = (GPU_BATCH, 1) if DEVICE.type == "cuda" else (BATCH, ACCUMULATE)
    run = work / ("run" if shape == "default" else f"run-{shape}")
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    with DEVICE:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(configuration(shape), dtype=torch.float32)
    opts = optimisers(model)
    rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    step, seen, saved = 0, 0, None
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=DEVICE)
        model.load_state_dict(state["model"])
        for opt, values in zip(opts, state["optimisers"], strict=True):
            opt.load_state_dict(values)
        step, seen, saved = state["step"], state["seen"], Schedule(*state["schedule"])
        print(f"going on from step {step}, {seen / 1e6:.1f} M tokens", flush=True)
    elif start:
        model.load_state_dict(weights_from(start, work / "model" / "tokenizer.json"))
    plan = schedule(seen, tokens, finish, saved, decay)
    if start and not saved and not same_vocabulary(start, work / "model"):
        plan = plan._replace(wait=WAIT)
    if not minutes:
        print(f"the learning rate falls from {plan.begin / 1e6:.1f} to {plan.end / 1e6:.1f} M tokens", flush=True)
    usage = new_usage(model)  # of some hundred thousand tokens: a resumed run has it again within seconds
    # a resumed run draws anew instead of replaying
    stream = batches(work / "tokens", size, seed + step)
    stream = ahead(stream) if DEVICE.type == "cuda" else stream
    started = saved_at = shown = time.time()
    first, pace = seen, 0.0  # pace: tokens/s of the latest steps
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))  # finish the step, save, leave
    _trim(run / "loss.csv", step)
    with open(run / "loss.csv", "a", newline="") as file:
        log = csv.writer(file)
        while seen < plan.end and not stopped:
            begun, before = time.time(), seen
            if minutes and pace:
                plan = paced(plan, seen, pace, started + 60 * minutes - begun, decay)
            for opt, base in zip(opts, rates, strict=True):
                factor = plan(seen, matrices=isinstance(opt, Muon))
                for group, rate in zip(opt.param_groups, base, strict=True):
                    group["lr"] = rate * factor
            parts = [next(stream).to(DEVICE) for _ in range(accumulate)]
            scale = 1 / sum(float(part.weights.sum()) for part in parts)
            loss_sum = balance_sum = special_sum = 0.0
            for part in parts:
                losses = training_loss(model, part, usage)
                router = BALANCE * losses.balance + SPECIALISATION * losses.specialisation
                (losses.text * scale + router / accumulate).backward()
                loss_sum += losses.text.item() * scale
                balance_sum += losses.balance.item() / accumulate / len(losses.loads)
                special_sum += losses.specialisation.item() / accumulate / len(losses.loads)
                seen += int(part.real.sum())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
                opt.zero_grad(set_to_none=True)
            step += 1
            if before > first:  # the first step compiles
                latest = (seen - before) / (time.time() - begun)
                pace += (latest - pace) * (PACE if pace else 1)
            if step % 10 == 0:
                rarest = min(float(layer.load.min()) * len(layer.load) for layer in usage)
                speed = (seen - first) / (time.time() - started)
                figures = (
                    f"{loss_sum:.4f}",
                    f"{balance_sum:.4f}",
                    f"{special_sum:.4f}",
                    f"{rarest:.3f}",
                    f"{speed:.0f}",
                )
                log.writerow([step, seen, *figures])
                file.flush()
                if time.time() - shown > 20:
                    shown = time.time()
                    left = (plan.end - seen) / speed / 60
                    print(
                        f"step {step}  {seen / 1e6:.2f} M tokens  loss {loss_sum:.3f}  balance {balance_sum:.3f}  "
                        f"specialisation {special_sum:.3f}  rarest expert {rarest:.2f} of the mean  "
                        f"{speed:.0f} tokens/s  {left:.0f} min left",
                        flush=True,
                    )
            if time.time() - saved_at > SAVE_SECONDS or seen >= plan.end or stopped:
                saved_at = time.time()
                states = [opt.state_dict() for opt in opts]
                progress = {"step": step, "seen": seen, "schedule": tuple(plan)}
                with new_file(checkpoint) as temporary:
                    torch.save({"model": model.state_dict(), "optimisers": states, **progress}, temporary)
    if seen < plan.end:
        print(f"stopped at step {step}; the same command goes on from here", flush=True)
        return
    shutil.rmtree(run / "final", ignore_errors=True)
    write_model(model, work / "model", run / "final")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="default", help="which model (models/recipe/shapes.py)")
    parser.add_argument("--tokens", type=float, help=f"end of the run (default: the one it had, {TOKENS:.0f} at first)")
    parser.add_argument(
        "--finish", action="store_true", help="let the rate fall now, over a last share (--decay) of all tokens"
    )
    parser.add_argument("--start", type=Path, metavar="MODEL", help="a model of this shape to begin from")
    parser.add_argument("--minutes", type=float, help="end the run by the clock instead, the fall of the rate included")
    parser.add_argument("--decay", type=float, default=DECAY, help="share of the tokens over which the rate falls")
    parser.add_argument(
        "--seed", type=int, default=7, help="order of the text: another one than --start had, to see new text first"
    )
    given = parser.parse_args()
    if not 0 < given.decay < 1:
        parser.error("--decay is a share between 0 and 1")
    train(given.work, given.shape, given.tokens, given.finish, given.start, given.minutes, given.decay, given.seed)
