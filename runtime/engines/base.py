"""What every engine offers, and what one generation is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runtime.engines.threads import Threads
from runtime.errors import RequestError
from runtime.text.prompts import ChatTemplate


@dataclass(frozen=True)
class Generation:
    """One greedy generation; ``seconds`` are wall-clock, without loading and tokenisation."""

    token_ids: tuple[int, ...]  # what was written, without the end of the turn and without thoughts
    text: str
    finished: bool  # an end of the turn came within the limit
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float


class PromptTooLong(RequestError):
    """A prompt fills the context, so that there is no room to write after it."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(f"The prompt has {tokens} tokens and the context {context}: split the text.")


class Engine(Protocol):
    """An artefact loaded for inference, one sequence at a time."""

    name: str  # "llama.cpp 0.3.36", "onnxruntime 1.32.0"
    threads: int
    context: int  # tokens of prompt and output together
    thread_choice: Threads  # the same with the reason, and how many twins are faster than one engine for many texts
    cancelled: bool  # set it from another thread, and ``generate`` ends at its next token
    template: ChatTemplate
    buffers: dict[str, int]  # bytes of weights_bytes, kv_cache_bytes and compute_bytes; those that the engine knows
    pruned_for: str  # the pair, or "en-de + de-en"; empty where no expert was cut

    def encode(self, text: str) -> list[int]:
        """Token ids; none are added. Special tokens are recognised, save in what of a ``PromptText`` is the user's."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        ...

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Logits [T, vocabulary] (float32) of one sequence from an empty cache."""
        ...

    def generate(self, prompt_ids: Sequence[int], limit: int, stop: bool = True, source: str = "") -> Generation:
        """Greedy decoding of at most ``limit`` tokens (runtime/engines/decoding.py).

        ``stop=False`` writes on after an end of turn; ``source`` is what is translated.

        Raises:
            PromptTooLong: the prompt alone fills the context.
        """
        ...

    def twin(self) -> "Engine":
        """Another engine on the same weights, with a cache of its own, to be used by another thread.

        Closing it frees what is its own; the weights go with the last.
        """
        ...

    def close(self) -> None:
        """Free the cache, and the weights where no twin has them; twice does no harm."""
        ...
