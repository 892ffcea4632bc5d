"""Greedy decoding, the same for every engine: where an answer ends, and what of it is thought and not answer."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

import numpy as np

from runtime.engines.base import Generation, PromptTooLong, Request, Writer
from runtime.text.repetition import is_looping
from runtime.text.thinking import MOST, Thought, ThoughtWatch, thoughts

LOOP_EVERY = 8  # tokens between two looks for a loop
_MARKS = 64  # tokens that the marks of MOST thoughts may take in the sequence, beside what is written
# What a generation in progress is: it gives token ids to put into the sequence, the prompt first, and is sent the logits
# [vocabulary] after the last of them.
Steps = Generator[Sequence[int], np.ndarray, Generation]


class Stepper(Writer, Protocol):
    """An engine that evaluates one sequence alone, and so can generate."""

    def prefill(self, token_ids: Sequence[int], room: int) -> np.ndarray:
        """Logits [vocabulary] after a new sequence that will have ``room`` tokens, valid until the next call."""
        ...

    def step(self, token: int, length: int) -> np.ndarray:
        """Logits [vocabulary] after one more token, with which the sequence has ``length``."""
        ...

    def generate(self, prompt_ids: Sequence[int], limit: int, stop: bool = True, source: str = "") -> Generation:
        """See ``Engine``."""
        request = Request(prompt_ids, limit, stop, source)
        steps = decoding(self, request)
        length = len(next(steps))
        logits = self.prefill(prompt_ids, room_for(request, self.context))
        while True:
            try:
                (token,) = steps.send(logits)
            except StopIteration as end:
                return end.value
            length += 1
            logits = self.step(token, length)


def lowering(
    penalty: float, no_repeat: int, prompt_ids: Sequence[int], written: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Logits [vocabulary] with those lowered of tokens which came before (Keskar et al. 2019, CTRL).

    Those that would make ``no_repeat`` tokens come a second time in what is written are out; 0: none.
    """
    if penalty == 1 and not no_repeat:
        return lambda logits: logits

    def lower(logits: np.ndarray) -> np.ndarray:
        lowered = logits.copy()
        if penalty != 1:
            seen = np.unique([*prompt_ids, *written])
            before = lowered[seen]
            lowered[seen] = np.where(before > 0, before / penalty, before * penalty)
        if no_repeat and len(written) >= no_repeat:
            last = written[len(written) - no_repeat + 1 :]
            followed = range(len(written) - no_repeat + 1)
            lowered[[written[i + no_repeat - 1] for i in followed if written[i : i + no_repeat - 1] == last]] = -np.inf
        return lowered

    return lower


class _Answer:
    """An answer as it is written: its tokens, and the sequence in the engine's cache that they are part of."""

    def __init__(self, engine: Writer, request: Request, penalty: float, room: int) -> None:
        self._engine, self._room = engine, room
        self.written = list(request.begun)
        self._given = request.given
        self._lower = lowering(penalty, request.no_repeat, request.prompt_ids, self.written)
        self._watched, self._rank = list(request.watched), request.rank
        self._length = len(self._given)
        self.token = 0  # the next one
        self.margin: tuple[float, ...] = ()  # of the watched ones beside it
        self.margins: list[tuple[float, ...] | None] = [None] * len(request.begun)

    def _choose(self, logits: np.ndarray) -> None:
        self.token = int(self._lower(logits).argmax())
        if self._watched:
            self.margin = tuple((logits[self._watched] - logits.max()).tolist())

    def begin(self) -> Generator[Sequence[int], np.ndarray]:
        logits = yield self._given
        self._choose(logits)
        if self._rank:
            self.token = ranked(self._engine, logits, self._rank)

    def write(self) -> int:
        """Take the next token into the answer."""
        self.written.append(self.token)
        self.margins.append(self.margin)
        return self.token

    @property
    def has_room(self) -> bool:
        return self._length < self._room

    def go_on(self, token: int) -> Generator[Sequence[int], np.ndarray]:
        """Put a token into the sequence, and choose the next one."""
        self._length += 1
        self._choose((yield (token,)))

    def close(self, thought: Thought) -> Generator[Sequence[int], np.ndarray]:
        """Write the end of a thought for the model, as far as there is room."""
        for token in self._engine.encode(thought.close) if thought.close else ():
            if self.has_room:
                yield from self.go_on(token)


def ranked(engine: Writer, logits: np.ndarray, rank: int) -> int:
    """The likeliest token (0), the second (1) and so on, ends of the turn left out."""
    likely = logits.argsort()[::-1]
    return int([token for token in likely[: rank + 20] if not engine.is_end(token)][rank])


def first_of_thoughts(encode: Callable[[str], list[int]]) -> frozenset[int]:
    """Ids of tokens that the mark of a thought may begin with."""
    return frozenset(ids[0] for each in thoughts() if (ids := encode(each.open)))


def room_for(request: Request, context: int) -> int:
    """Tokens of cache that a generation may fill, the marks of closed thoughts among them.

    Raises:
        PromptTooLong: what is given fills the context.
    """
    given = len(request.given)
    if not 0 < given < context:
        raise PromptTooLong(given, context)
    return min(max(len(request.prompt_ids) + request.limit, given) + _MARKS, context)


def decoding(engine: Writer, request: Request) -> Steps:
    """One greedy generation.

    A thought that the model begins is closed at once, and is no part of the answer; of a model that begins more than
    MOST of them nothing more is asked.

    Raises:
        PromptTooLong: what is given fills the context.
    """
    prompt_ids, stop, on_token, until_loop = request.prompt_ids, request.stop, request.on_token, request.until_loop
    room = room_for(request, engine.context)
    limit = min(request.limit, engine.context - len(prompt_ids))
    watch = ThoughtWatch(engine.show, engine.first_of_thoughts, request.source) if stop else None
    started, told = time.perf_counter(), 0
    penalty = engine.template.asking.repetition_penalty if stop else 1
    answer = _Answer(engine, request, penalty, room)
    yield from answer.begin()
    prefilled = time.perf_counter()
    written, finished = answer.written, False
    while len(written) < limit and answer.has_room:
        if finished := stop and engine.is_end(answer.token):
            break
        token = answer.write()
        thought = watch.after(written) if watch else None
        if on_token and not (watch and watch.undecided):
            for each in written[told:]:
                on_token(each)
            told = len(written)
        if thought and watch and watch.begun > MOST:
            break
        if until_loop and len(written) % LOOP_EVERY == 0 and is_looping(engine.decode(written), request.source):
            break
        yield from answer.go_on(token)
        if thought:
            yield from answer.close(thought)
    else:
        finished = stop and engine.is_end(answer.token)
    if on_token:
        for each in written[told:]:
            on_token(each)
    decoded = time.perf_counter()
    return Generation(
        token_ids=tuple(written),
        text=engine.decode(written),
        finished=finished,
        prompt_tokens=len(prompt_ids),
        prefill_seconds=prefilled - started,
        decode_seconds=decoded - prefilled,
        margins=(*answer.margins, answer.margin) if request.watched else (),
    )
