"""Calibration: one pass over whole conversations, summing what each expert was given and what it answered.

A long run keeps a side file beside its output and goes on from there when the same command is given again. Under
``accelerate launch`` or torchrun each process takes its share of the conversations and the sums are added up. (On CPUs
use torchrun: ``accelerate launch --cpu`` starts one process unless MPI is there.)
"""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from tqdm import tqdm

from prune.batches import Batch, batches
from prune.calibrate.observe import Observer
from prune.calibrate.resume import SAVE_SECONDS, Partial, kept_to_go_on, remove_all, side_folder, start_afresh
from prune.calibrate.stats import LayerStats, Routing, Stats
from prune.calibrate.stream import stream_sums
from prune.checkpoint import Checkpoint
from prune.conversations import about_text, read_conversations
from prune.device import choose_device, choose_dtype, lacks_memory
from prune.loading import load_model
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate

BATCH_TOKENS = 4096


def calibrate(
    folder: Path,
    pair: Pair,
    corpus: Path,
    limit: int | None = None,
    quiet: bool = False,
    stream: bool | None = None,
    output: Path | None = None,
    prompt: PromptTemplate | None = None,
) -> tuple[Stats, str]:
    """Statistics of the model in ``folder`` on a corpus, and the device and type with the reasons for them.

    Args:
        limit: stop after this many tokens; None: the whole corpus.
        stream: one layer's weights in memory at a time, hidden states on disk beside ``output``; None: where the whole
            model does not fit into the memory that is left.
        output: where to write the statistics. The run then resumes. None: nothing is written, nothing resumes.
        prompt: how the model is asked; default: as the folder says, or as is known of such a model.

    Raises:
        RequestError: an unreadable corpus or model folder, or an encoder-decoder.
        WorkError: damaged weights.
    """
    started = time.perf_counter()
    checkpoint = Checkpoint(folder)
    checkpoint.require_decoder()
    segments = read_segments(corpus, pair)
    conversations = read_conversations(folder, segments, pair, prompt=prompt, limit=limit)
    device, why_device = choose_device()
    state = PartialState(cpu=device.type == "cpu")
    dtype, why_dtype = choose_dtype(device, checkpoint)
    dtype_name = str(dtype).removeprefix("torch.")
    where = f"{device.type} ({why_device}) in {dtype_name} ({why_dtype})"
    if stream is None:
        why_stream = lacks_memory(checkpoint, device, dtype)
        stream = bool(why_stream)
        where += f", layer by layer ({why_stream})" if stream else ""
    quiet = quiet or not state.is_main_process
    if not quiet:
        print(f"calibrating on {where}", file=sys.stderr)

    work = list(batches(conversations[state.process_index :: state.num_processes], BATCH_TOKENS))
    key = {
        "weights": checkpoint.weights_hash,
        "work": _hash_of(work),
        "dtype": dtype_name,
        "stream": stream,
        "process": f"{state.process_index} of {state.num_processes}",
    }
    with tempfile.TemporaryDirectory() as scratch:
        side = side_folder(output or Path(scratch) / "stats", state.process_index)
        total = sum(int(batch.mask.sum()) for batch in work)
        progress = tqdm(total=total, desc="calibrate", unit="tok", unit_scale=True, disable=quiet or None)
        with kept_to_go_on(side), progress as bar:
            run = stream_sums if stream else in_memory_sums
            sums = run(checkpoint, device, dtype, work, side, key, bar.update)
        if state.num_processes > 1:
            sums: dict[int, Any] = {i: reduce(tensor, "sum") for i, tensor in sums.items()}
        calibration = about_text(corpus, segments, conversations, ChatTemplate.from_folder(folder, prompt).asking) | {
            "device": str(device),
            "dtype": dtype_name,
            "processes": state.num_processes,
            "seconds": round(time.perf_counter() - started, 2),
        }
        layers = {i: LayerStats.from_sums(tensor.cpu().numpy()) for i, tensor in sums.items()}
        stats = Stats(
            layers, str(folder), checkpoint.fingerprint, str(pair), checkpoint.top_k, calibration,
            Routing.of(checkpoint),
        )  # fmt: skip
        if output is not None and state.is_main_process:
            stats.save(output)
        state.wait_for_everyone()  # the side files go when the output is there
        shutil.rmtree(side, ignore_errors=True)
        if output is not None and state.is_main_process:
            remove_all(output)
    return stats, where


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return PartialState().is_main_process


def _hash_of(work: list[Batch]) -> str:
    digest = hashlib.sha256()
    for batch in work:
        for tensor in (batch.ids, batch.mask, batch.response):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:32]


def in_memory_sums(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    batches: list[Batch],
    folder: Path,
    key: dict[str, Any],
    advance: Callable[[float], Any],
) -> dict[int, torch.Tensor]:
    """The sums of Observer, by layer; as prune.calibrate.stream.stream_sums, with the whole model in memory."""
    partial = Partial(folder / "sums", key)
    model = load_model(checkpoint.folder, device, dtype)
    with Observer(model, checkpoint, device) as observer, torch.inference_mode():
        done = observer.resume(partial)
        if done == 0:
            start_afresh(folder)
        advance(sum(int(batch.mask.sum()) for batch in batches[:done]))
        saved = time.monotonic()
        for position, batch in enumerate(batches[done:], done + 1):
            here = batch.to(device)
            observer.begin(here)
            model.base_model(input_ids=here.ids, attention_mask=here.mask, use_cache=False)
            advance(int(batch.mask.sum()))
            if time.monotonic() - saved >= SAVE_SECONDS:
                observer.require_numbers()
                observer.save(partial, position)
                saved = time.monotonic()
        observer.require_numbers()
    return observer.sums
