"""The stage: a pruned checkpoint folder in, a recovered one out. The same command goes on with an unfinished run."""

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from prune.batches import Batch, batches
from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, read_conversations
from prune.device import choose_device, choose_training_dtype
from prune.loading import load_model
from prune.plan.plan import Plan
from prune.recovery.fine_tune import fine_tune
from prune.recovery.least_squares import least_squares
from prune.recovery.settings import LEAST_SQUARES, Settings
from prune.recovery.task import CPU, Task
from prune.recovery.trainer import newest_checkpoint
from runtime.errors import RequestError
from runtime.formats.files import new_file, new_folder, require_new, require_space
from runtime.formats.provenance import OWN_TRANSLATIONS, Provenance, Recovery, read_provenance, write_provenance
from runtime.formats.quantised import plain_config
from runtime.text.corpus import is_own, read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate


def _check_teacher(cut: Path, plan: Plan, teacher: Path | None, settings: Settings) -> Checkpoint | None:
    again = f"slimmoe recover DIR --pair {plan.pair} --method {settings.method} --teacher {plan.model} -o OUT"
    if teacher is None:
        if settings.method == LEAST_SQUARES:
            raise RequestError("Least squares needs the unpruned model, to know what is lacking.", next_command=again)
        return None
    checkpoint = Checkpoint(teacher)
    if checkpoint.fingerprint != plan.fingerprint:
        raise RequestError(
            f"{teacher} is not the model that was pruned ({plan.model}), so its experts cannot be matched.",
            next_command=again,
        )
    first, other = ((read_provenance(folder) or Provenance()).vocabulary.get("keep") for folder in (cut, teacher))
    if first != other:
        raise RequestError(
            f"{cut} and {teacher} have different tokens: one learns from the other before its vocabulary is cut.",
            next_command=f"slimmoe prune RECOVERED --vocabulary coverage=0.9999 --corpus my.tsv --pair {plan.pair} -o OUT",
        )
    return checkpoint


def _require_room(checkpoint: Checkpoint, output: Path, settings: Settings) -> None:
    stored = sum(tensor.stop - tensor.start for tensor in checkpoint.tensors.values())
    # Training: best, last and the checkpoint being written, of float32 weights and the two moments of AdamW.
    each = 4 if settings.method == LEAST_SQUARES else 3 * 12
    require_space(output, stored + each * checkpoint.weights)


def _open_work(output: Path, signature: dict[str, Any]) -> tuple[Path, Path | None]:
    """The folder of the run's checkpoints beside the output, and the checkpoint to go on from.

    Raises:
        RequestError: it holds an unfinished run with other settings.
    """
    work = output.with_name(f".{output.name}.recovery")
    known, text = work / "settings.json", json.dumps(signature, indent=1) + "\n"
    if known.exists() and known.read_text(encoding="utf-8") != text:
        raise RequestError(
            f"{work} holds an unfinished recovery with other settings or another number of processes.",
            next_command=f"rm -r {work}   (or the same settings, to go on with it)",
        )
    if not known.exists():
        with new_file(known) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return work, newest_checkpoint(work)


def _make_batches(conversations: list[Conversation], tokens: int, seed: int) -> list[Batch]:
    """Batches of like length. Shuffled first, so that which conversations of a length meet is left to chance."""
    order = np.random.default_rng(seed).permutation(len(conversations))
    return list(batches([conversations[i] for i in order], tokens))


def _write(
    student: Any, folder: Path, checkpoint: Checkpoint, provenance: Provenance, about: dict[str, Any], output: Path
) -> None:
    """A plain checkpoint: weights in the type they came in, everything else from the pruned folder.

    Of a quantised one they are written as floats, and its config says so. What is written is loaded once, without its
    weights' values, so that nothing is told to be done that transformers cannot read.
    """
    with new_folder(output) as temporary:
        dtype = getattr(torch, str(checkpoint.config.get("dtype", checkpoint.config.get("torch_dtype", "bfloat16"))))
        student.to(dtype).save_pretrained(temporary, max_shard_size="45MB")
        for path in folder.iterdir():
            weights = path.suffix == ".safetensors" or path.name == "model.safetensors.index.json"
            if path.is_file() and not weights:
                shutil.copyfile(path, temporary / path.name)
        config = json.dumps(plain_config(checkpoint.config), indent=2) + "\n"
        (temporary / "config.json").write_text(config, encoding="utf-8")
        load_model(temporary, torch.device("meta"), dtype)
        left_out = (*provenance.left_out, *sorted(checkpoint.draft_places()))  # layers that transformers does not load
        write_provenance(temporary, replace(provenance, left_out=left_out).after(Recovery.from_dict(about)))


def recover(
    folder: Path,
    pair: Pair,
    corpus: Path,
    dev: Path,
    output: Path,
    settings: Settings | None = None,
    teacher: Path | None = None,
    quiet: bool = False,
    prompt: PromptTemplate | None = None,
) -> dict[str, Any]:
    """Recover the checkpoint in ``folder`` and write the weights with the lowest dev loss to ``output``.

    Checkpoints lie in ``.<output>.recovery`` beside the output until the work is done; the same call goes on from the
    last one. Runs under ``accelerate launch`` or ``torchrun``: the processes share a step of ``settings.batch_tokens``, so
    that more of them are faster and train much alike (the loss is the mean of their means).

    Args:
        teacher: the unpruned model, for least squares, or for distillation of its logits and routers; None: cross-entropy
            alone.
        prompt: how the model is asked from now on; default: as it was in calibration.

    Returns:
        what is added to the recoveries in ``slimmoe.json``: corpus, steps, dev losses before and after (nats per response
        token) and the settings.

    Raises:
        RequestError: unreadable corpus or folder, a wrong setting or teacher, or ``output`` holds something already.
        WorkError: the loss is not a number, or the disk is too full.
    """
    started, settings = time.perf_counter(), settings or Settings()
    settings.check()
    folder, output = Path(folder), Path(output)
    checkpoint = Checkpoint(folder)
    plan, provenance = Plan.of_checkpoint(folder), read_provenance(folder) or Provenance()
    require_new(output)
    source = _check_teacher(folder, plan, teacher, settings)
    _require_room(checkpoint, output, settings)
    device, _ = choose_device()
    state = PartialState(cpu=device.type == "cpu")  # without the word, processes on CPUs would not find each other
    if settings.method == LEAST_SQUARES and state.num_processes > 1:
        raise RequestError(
            "Least squares runs in one process.", next_command="slimmoe recover ...   (without torchrun)"
        )
    asked = ChatTemplate.from_folder(folder, prompt).asking
    provenance = replace(provenance, prompt=asked.to_dict())
    train_set = read_conversations(folder, read_segments(corpus, pair), pair, prompt=asked)
    learnt = _make_batches(train_set, settings.batch_tokens // state.num_processes, settings.seed)
    held_out_set = read_conversations(folder, read_segments(dev, pair), pair, prompt=asked)
    held_out = list(batches(held_out_set, 2 * settings.batch_tokens))
    steps, steps_reason = settings.choose_steps(-(-len(learnt) // state.num_processes))
    rate, rate_reason = settings.choose_rate(int(checkpoint.config["hidden_size"]))
    said = {
        "corpus": str(corpus),
        **({"text": OWN_TRANSLATIONS} if is_own(corpus) else {}),
        "dev": str(dev),
        "pair": str(pair),
        "teacher": None if source is None else str(teacher),
        "prompt": asked.to_dict(),
    }
    said |= asdict(settings) | {"steps": steps, "rate": rate, "processes": state.num_processes}
    dtype, dtype_reason = choose_training_dtype(device, settings.method)
    said["dtype"] = str(dtype).removeprefix("torch.")
    with state.main_process_first():
        work, resume = _open_work(output, said | {"weights": checkpoint.weights_hash, "segments": len(train_set)})
    if not quiet and state.is_main_process:
        told = f"recovery: {steps} steps ({steps_reason})"
        if rate is not None:
            told += f", learning rate {rate:.2g} ({rate_reason}), in {said['dtype']} ({dtype_reason})"
        print(told, flush=True)
        if resume is not None:
            print(f"recovery: going on from {resume.name}", flush=True)

    task = Task(checkpoint, source, plan, learnt, held_out, settings, steps, rate, device, dtype, work, resume, quiet)
    recovered = (least_squares if settings.method == LEAST_SQUARES else fine_tune)(task)
    student, after, best_step = recovered.model, recovered.loss_after, recovered.best_step
    if after >= recovered.loss_before:  # nothing was gained: the weights stay what they were
        student, after, best_step = load_model(folder, CPU, torch.float32), recovered.loss_before, 0
    about = said | {
        "segments": len(train_set),
        "steps": recovered.steps,
        "best_step": best_step,
        "dev_loss_before": round(recovered.loss_before, 4),
        "dev_loss_after": round(after, 4),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if state.is_main_process:
        _write(student, folder, checkpoint, provenance, about, output)
        shutil.rmtree(work)
    state.wait_for_everyone()
    return about
