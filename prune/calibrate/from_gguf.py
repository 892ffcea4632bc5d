"""Calibration of a GGUF file by llama.cpp: the same statistics with neither torch nor a checkpoint.

The weights stay in the file and are mapped, so it may be larger than memory; every batch then reads it once. A long run
keeps a side file beside its output and goes on from there when the same command is given again.
"""

import contextlib
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from prune.calibrate.observe_gguf import GgufObserver, Listing
from prune.calibrate.resume import SAVE_SECONDS, Partial, kept_to_go_on, remove_all, side_folder, start_afresh
from prune.calibrate.stats import LayerStats, Routing, Stats
from prune.conversations import LONGEST, Conversation, about_text, make_conversations
from prune.gguf_model import GgufModel
from runtime.engines.llama import BATCH, LlamaEngine
from runtime.engines.offload import Offload
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate

SEQUENCES = 64  # conversations that one batch may hold


def calibrate_gguf(
    path: Path,
    pair: Pair,
    corpus: Path,
    limit: int | None = None,
    output: Path | None = None,
    quiet: bool = False,
    threads: int | None = None,
    prompt: PromptTemplate | None = None,
    offload: Offload | None = None,
) -> Stats:
    """Statistics of a GGUF model on a corpus.

    Args:
        limit: stop after this many tokens; None: the whole corpus.
        output: where to write the statistics. The run then resumes. None: nothing is written, nothing resumes.
        prompt: how the model is asked; default: as the file says, or as is known of such a model.
        offload: what goes to a device; default: as much as a GPU has memory for.

    Raises:
        RequestError: an unreadable corpus, not a GGUF file of a mixture of experts, or one that cannot be observed.
        WorkError: llama.cpp is missing or does not load the file; damaged weights.
    """
    started = time.perf_counter()
    path = Path(path)
    model, segments = GgufModel(path), read_segments(corpus, pair)
    moe_layers = model.moe_layers
    options = {"mapped": True, "watched": True, "sequences": SEQUENCES, "offload": offload}
    engine = LlamaEngine(path, threads, max(BATCH, LONGEST), True, **options)
    with contextlib.closing(engine):
        engine.template = engine.template.asked(prompt)
        conversations = make_conversations(
            engine.template, lambda texts: [engine.encode(t) for t in texts], segments, pair, limit=limit
        )
        listing = Listing()
        with engine.watch(listing):
            engine.evaluate([conversations[0].ids[:1]])
        scale = float(model.file.get(model.key("residual_scale")) or 1)
        observer = GgufObserver(moe_layers, listing.names, scale, listing.misnamed, model.gate_scales())
        work = list(_batches(conversations, SEQUENCES if engine.joins_sequences else 1))
        key = {"files": _identity(model), "work": _hash_of(work), "engine": engine.name}
        with tempfile.TemporaryDirectory() as scratch:
            side = side_folder(output or Path(scratch) / "stats", 0)
            total = sum(len(conversation.ids) for conversation in conversations)
            progress = tqdm(total=total, desc="calibrate", unit="tok", unit_scale=True, disable=quiet or None)
            with kept_to_go_on(side), progress as bar:
                _run(engine, observer, work, side, key, bar.update)
            calibration = about_text(corpus, segments, conversations, engine.template.asking) | {
                "engine": engine.name,
                "device": "gpu" if engine.placement.on_gpu else "cpu",
                "dtype": _weights_type(model),
                "processes": 1,
                "seconds": round(time.perf_counter() - started, 2),
            }
            layers = {i: LayerStats.from_sums(sums) for i, sums in observer.sums.items()}
            routing = Routing.of(model)
            stats = Stats(layers, str(path), model.fingerprint, str(pair), model.top_k, calibration, routing)
            if output is not None:
                stats.save(output)
                remove_all(output)
    return stats


def _run(
    engine: LlamaEngine,
    observer: GgufObserver,
    work: list[list[Conversation]],
    side: Path,
    key: dict[str, Any],
    advance: Callable[[float], Any],
) -> None:
    """Fill the observer's sums, going on from the folder of side files where it holds this very run's."""
    partial = Partial(side / "sums", key)
    done = observer.resume(partial)
    if done == 0:
        start_afresh(side)
    advance(sum(len(conversation.ids) for batch in work[:done] for conversation in batch))
    saved = time.monotonic()
    with engine.watch(observer):
        for position, batch in enumerate(work[done:], done + 1):
            observer.begin(np.concatenate([np.arange(len(c.ids)) >= c.prompt for c in batch]).astype(np.int64))
            engine.evaluate([c.ids for c in batch])
            advance(sum(len(c.ids) for c in batch))
            if time.monotonic() - saved >= SAVE_SECONDS:
                observer.require_numbers()
                partial.save(position, observer.sums)
                saved = time.monotonic()
    observer.require_numbers()


def _batches(conversations: list[Conversation], most: int) -> Iterator[list[Conversation]]:
    """As many whole conversations together, in order, as have BATCH tokens, and not more than ``most``."""
    batch, tokens = [], 0
    for conversation in conversations:
        if batch and (tokens + len(conversation.ids) > BATCH or len(batch) == most):
            yield batch
            batch, tokens = [], 0
        batch.append(conversation)
        tokens += len(conversation.ids)
    if batch:
        yield batch


def _identity(model: GgufModel) -> list[Any]:
    """What tells these files from others of the same routers, such as other types of the same model."""
    found = [(part.resolve(), part.stat()) for part in model.file.parts]
    return [[str(part), about.st_size, about.st_mtime_ns] for part, about in found]


def _weights_type(model: GgufModel) -> str:
    """The type of most of the weights' bytes."""
    sizes: Counter[str] = Counter()
    for tensor in model.file.tensors.values():
        sizes[tensor.type.name] += tensor.stop - tensor.start
    return sizes.most_common(1)[0][0]


def _hash_of(work: list[list[Conversation]]) -> str:
    plain = [[[conversation.prompt, *conversation.ids] for conversation in batch] for batch in work]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:32]
