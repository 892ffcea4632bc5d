"""Greedy decoding, the same for every engine: where an answer ends, and what of it is thought and not answer."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from runtime.engines.base import Generation, PromptTooLong
from runtime.text.prompts import ChatTemplate
from runtime.text.thinking import MOST, Thought, ThoughtWatch, thoughts


class Stepper(Protocol):
    """What decoding needs of an engine."""

    context: int
    cancelled: bool
    template: ChatTemplate
    first_of_thoughts: frozenset[int]  # ids of tokens that the mark of a thought may begin with

    def encode(self, text: str) -> list[int]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def show(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens written out."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        ...

    def prefill(self, token_ids: Sequence[int]) -> np.ndarray:
        """Logits [vocabulary] after a new sequence, valid until the next call."""
        ...

    def step(self, token: int, length: int) -> np.ndarray:
        """Logits [vocabulary] after one more token, with which the sequence has ``length``."""
        ...


def _chooser(penalty: float, prompt_ids: Sequence[int], written: list[int]) -> Callable[[np.ndarray], int]:
    """The most likely token, by logits that are lowered for tokens which came before (Keskar et al. 2019, CTRL)."""
    if penalty == 1:
        return lambda logits: int(logits.argmax())

    def choose(logits: np.ndarray) -> int:
        seen, lowered = np.unique([*prompt_ids, *written]), logits.copy()
        before = lowered[seen]
        lowered[seen] = np.where(before > 0, before / penalty, before * penalty)
        return int(lowered.argmax())

    return choose


class _Answer:
    """An answer as it is written: its tokens, and the sequence in the engine's cache that they are part of."""

    def __init__(self, engine: Stepper, prompt_ids: Sequence[int], penalty: float) -> None:
        self._engine = engine
        self.written: list[int] = []
        self._choose = _chooser(penalty, prompt_ids, self.written)
        self._length = len(prompt_ids)
        self.token = self._choose(engine.prefill(prompt_ids))

    @property
    def has_room(self) -> bool:
        return self._length < self._engine.context and not self._engine.cancelled

    def go_on(self, token: int) -> None:
        """Put a token into the sequence, and choose the next one."""
        self._length += 1
        self.token = self._choose(self._engine.step(token, self._length))

    def close(self, thought: Thought) -> None:
        """Write the end of a thought for the model, as far as there is room."""
        for token in self._engine.encode(thought.close) if thought.close else ():
            if self.has_room:
                self.go_on(token)


def first_of_thoughts(encode: Callable[[str], list[int]]) -> frozenset[int]:
    """Ids of tokens that the mark of a thought may begin with."""
    return frozenset(ids[0] for each in thoughts() if (ids := encode(each.open)))


def decode_greedily(
    engine: Stepper, prompt_ids: Sequence[int], limit: int, stop: bool = True, source: str = ""
) -> Generation:
    """Greedy decoding of at most ``limit`` tokens, or of what the context has room for.

    A thought that the model begins is closed at once, and is no part of the answer; of a model that begins more than
    MOST of them nothing more is asked.

    Args:
        stop: at an end of turn; otherwise the tokens are written on whatever they are, thoughts too.
        source: what is translated: marks of thoughts that it has itself are text.

    Raises:
        PromptTooLong: the prompt alone fills the context.
    """
    if not 0 < len(prompt_ids) < engine.context:
        raise PromptTooLong(len(prompt_ids), engine.context)
    limit = min(limit, engine.context - len(prompt_ids))
    watch = ThoughtWatch(engine.show, engine.first_of_thoughts, source) if stop else None
    started = time.perf_counter()
    answer = _Answer(engine, prompt_ids, engine.template.asking.repetition_penalty if stop else 1)
    prefilled = time.perf_counter()
    written, finished = answer.written, False
    while len(written) < limit and answer.has_room:
        token = answer.token
        if finished := stop and engine.is_end(token):
            break
        written.append(token)
        thought = watch.after(written) if watch else None
        if thought and watch and watch.begun > MOST:
            break
        answer.go_on(token)
        if thought:
            answer.close(thought)
    else:
        finished = stop and engine.is_end(answer.token)
    decoded = time.perf_counter()
    return Generation(
        token_ids=tuple(written),
        text=engine.decode(written),
        finished=finished,
        prompt_tokens=len(prompt_ids),
        prefill_seconds=prefilled - started,
        decode_seconds=decoded - prefilled,
    )
