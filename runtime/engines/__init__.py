"""Engines run an artefact on the device. Two of them, one interface; what is built on top never asks which."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.errors import RequestError
from runtime.prompts import ChatTemplate


@dataclass(frozen=True)
class Generation:
    """One greedy generation; ``seconds`` are wall-clock, without loading and tokenisation."""

    token_ids: tuple[int, ...]  # what was written, without the end-of-sequence token
    text: str
    finished: bool  # an end-of-sequence token came within the limit
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float


def usable_cores() -> int:
    """Cores that this process may use, which is fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine(Protocol):
    """An artefact loaded for inference, one sequence at a time."""

    name: str  # "llama.cpp 0.3.36", "onnxruntime 1.32.0"
    threads: int
    template: ChatTemplate
    buffers: dict[str, int]  # bytes of weights_bytes, kv_cache_bytes and compute_bytes; those that the engine knows
    pruned_for: str  # the pair, or "en-de + de-en"; empty where no expert was cut

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens in the text are recognised, none are added."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        ...

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Logits [T, vocabulary] (float32) of one sequence from an empty cache."""
        ...

    def generate(self, prompt_ids: Sequence[int], limit: int, stop: bool = True) -> Generation:
        """Greedy decoding of at most ``limit`` tokens; ``stop=False`` writes on after an end of sequence."""
        ...

    def close(self) -> None: ...


def open_engine(artefact: Path, threads: int | None = None, context: int = 1024, exact: bool = False) -> Engine:
    """Load a GGUF file or an ONNX folder with the engine that runs it.

    Args:
        artefact: ``*.gguf``, an ONNX folder, or one ``*.onnx`` file inside such a folder's ``onnx/``.
        threads: default: the cores this process may use.
        context: tokens of prompt and output together that one sequence may have.
        exact: for comparisons: float32 KV cache and no flash attention.

    Raises:
        RequestError: there is no such artefact, or it is of neither kind.
        WorkError: it is damaged, or the engine's library is missing.
    """
    artefact = Path(artefact)
    if not artefact.exists():
        raise RequestError(f"There is no artefact {artefact}.", next_command="make export PAIR=en-de RATIO=0.75")
    if artefact.suffix == ".gguf":
        from runtime.engines.llama import LlamaEngine

        return LlamaEngine(artefact, threads, context, exact)
    if artefact.suffix == ".onnx" or (artefact / "onnx").is_dir():
        from runtime.engines.onnx import OnnxEngine

        return OnnxEngine(artefact, threads, context)
    raise RequestError(
        f"{artefact} is neither a .gguf file nor an ONNX folder.", next_command="slimmoe gguf DIR -o FILE.gguf"
    )
