"""What every engine offers, and what one generation is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runtime.engines.threads import Threads
from runtime.errors import RequestError
from runtime.text.prompts import ChatTemplate

PLACES = 16  # sequences in a batch: twice as many gain a tenth more, and take twice the memory (docs/threads.md)
FIRST_ROOM = 256  # tokens that the cache of a batch holds of each sequence until a longer one comes

OnToken = Callable[[int], object]


@dataclass(frozen=True)
class Request:
    """A prompt, and how its generation goes.

    Attributes:
        limit: tokens to write at most, or what the context has room for.
        stop: at an end of turn; otherwise the tokens are written on whatever they are, thoughts too.
        source: what is translated: marks of thoughts that it has itself are text.
        prefix: first tokens that many prompts share, as those of an instruction: a batch computes their part of the cache
            once.
        on_token: is called with each token of the answer as soon as it is sure to be one, by the thread that decodes: what
            takes long there holds up all others of a batch.
        until_loop: end, unfinished, where the answer loops and ``source`` does not: it would loop to its end.
        no_repeat: so many tokens in a row never come twice in the answer; 0: they may.
        begun: tokens that the answer begins with; they count as written.
        watched: tokens of which is told how near they were to being written; see ``Generation.margins``.
        rank: the answer begins with the likeliest token (0), the second (1) and so on, ends of the turn left out.
        beam: partial answers that are followed at a time (runtime/engines/beam.py); 1: greedy. More look for no loops, and
            give no margins.
    """

    prompt_ids: Sequence[int]
    limit: int
    stop: bool = True
    source: str = ""
    prefix: tuple[int, ...] = ()
    on_token: OnToken | None = None
    until_loop: bool = False
    no_repeat: int = 0
    begun: tuple[int, ...] = ()
    watched: tuple[int, ...] = ()
    rank: int = 0
    beam: int = 1

    @property
    def given(self) -> tuple[int, ...]:
        """The tokens that the sequence begins with."""
        return (*self.prompt_ids, *self.begun)


@dataclass(frozen=True)
class Generation:
    """One generation; ``seconds`` are wall-clock, without loading and tokenisation, in a batch those of all its steps."""

    token_ids: tuple[int, ...]  # what was written, without the end of the turn and without thoughts
    text: str
    finished: bool  # an end of the turn came within the limit
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float
    # Before each token, and before the end: the logit of each watched token less the greatest of all, at most 0. None where
    # the token was given.
    margins: tuple[tuple[float, ...] | None, ...] = ()


class PromptTooLong(RequestError):
    """A prompt fills the context, so that there is no room to write after it."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(f"The prompt has {tokens} tokens and the context {context}: split the text.")


class NoRoom(RequestError):
    """A text's cache does not fit into the memory that is left."""

    def __init__(self, tokens: int, needed: int, left: int) -> None:
        super().__init__(
            f"A text of {tokens} tokens needs {needed / 1e6:.0f} MB of cache, and {left / 1e6:.0f} MB of memory are left: "
            "split the text."
        )


@dataclass(frozen=True)
class Feed:
    """The next tokens of the sequence in a place; a place that is free begins a new one with them.

    ``prefix`` are first tokens that this new sequence shares with others: their part of the cache is computed once.
    """

    place: int
    tokens: Sequence[int]
    prefix: tuple[int, ...] = ()

    @property
    def shared(self) -> int:
        """How many first tokens of a new sequence are the prefix; at least one is left to be evaluated."""
        length = len(self.prefix)
        return length if length < len(self.tokens) and tuple(self.tokens[:length]) == self.prefix else 0


class Batch(Protocol):
    """Sequences in one cache, each in a place of its own, evaluated together. For one thread; closed before its engine."""

    places: int
    room: int  # tokens that each sequence may have

    def evaluate(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """Logits [vocabulary] after the last token of each feed, valid until the next call.

        Every sequence under way is fed one token; new ones begin with any number.

        Raises:
            WorkError: the engine fails; the batch is then of no more use.
        """
        ...

    def free(self, place: int) -> None:
        """End the sequence in a place."""
        ...

    def copy(self, place: int, other: int) -> None:
        """Begin a sequence in a free place, with all the tokens of the one in ``place``."""
        ...

    def close(self) -> None:
        """Free the cache."""
        ...


class Writer(Protocol):
    """What decoding needs to know of an engine."""

    context: int  # tokens that prompt and output may have together: what was asked for, else the model's own limit
    template: ChatTemplate
    first_of_thoughts: frozenset[int]  # ids of tokens that the mark of a thought may begin with

    def encode(self, text: str) -> list[int]:
        """Token ids; none are added. Special tokens are recognised, save in what of a ``PromptText`` is the user's."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        ...

    def show(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens written out."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        ...


class Engine(Writer, Protocol):
    """An artefact loaded for inference."""

    threads: int
    thread_choice: Threads  # the same with the reason, and how many batches in threads of their own are faster than one
    buffers: dict[str, int]  # weights_bytes, kv_cache_bytes, compute_bytes in the machine's memory, as far as known
    pruned_for: str  # the pair, or "en-de + de-en"; empty where no expert was cut

    @property
    def name(self) -> str:
        """The runtime and its version: ``llama.cpp 0.3.36``, ``onnxruntime 1.32.0``."""
        ...

    @property
    def on_device(self) -> dict[str, Any]:
        """Keys of a bench row about a device and what lies there; empty: the processor computes all."""
        ...

    @property
    def where(self) -> str:
        """The device, what it has of the model, and why; empty: the processor computes all."""
        ...

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Logits [T, vocabulary] (float32) of one sequence from an empty cache."""
        ...

    def generate(self, prompt_ids: Sequence[int], limit: int, stop: bool = True, source: str = "") -> Generation:
        """Greedy decoding of at most ``limit`` tokens, one sequence alone; see ``Request``.

        Many at a time, each to be cancelled, go through a ``Scheduler`` (runtime/engines/scheduler.py).

        Raises:
            PromptTooLong: the prompt alone fills the context.
            NoRoom: its cache does not fit into memory.
        """
        ...

    def batch(self, places: int = PLACES, room: int = FIRST_ROOM) -> Batch:
        """A batch on the same weights with a cache of its own; it has fewer places where memory is short.

        Raises:
            NoRoom: not even one sequence fits.
        """
        ...

    def close(self) -> None:
        """Free the cache, and the weights where no batch uses them; twice does no harm."""
        ...
