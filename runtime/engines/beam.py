"""Beam search: of the continuations of several partial answers the likeliest go on, as sequences of one batch.

Answers are compared by their mean log-probability per token, the end among them, so that short ones have no advantage: the
length normalisation of Jean et al. 2015, which is alpha = 1 in Wu et al. 2016, equation 14, without its constant.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runtime.engines.base import FIRST_ROOM, Batch, Engine, Feed, Generation, Request
from runtime.engines.cache_room import grown
from runtime.engines.decoding import lowering, ranked, room_for
from runtime.errors import RequestError


@dataclass(frozen=True)
class _Beam:
    """A partial answer, and the place of its sequence."""

    written: tuple[int, ...]
    score: float  # sum of the tokens' log-probabilities
    place: int

    @property
    def mean(self) -> float:
        return self.score / max(len(self.written), 1)


class BeamSearch:
    """Searches on one engine, one after the other, with a batch of its own. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batch: Batch | None = None

    def close(self) -> None:
        """Free the cache; twice does no harm."""
        if self._batch:
            self._batch.close()
        self._batch = None

    def _batch_for(self, width: int, room: int) -> Batch:
        if self._batch is None or self._batch.room < room or self._batch.places < width:
            self.close()
            self._batch = self._engine.batch(width, grown(FIRST_ROOM, room, self._engine.context))
        if self._batch.places < width:
            places = self._batch.places
            self.close()
            raise RequestError(f"There is room for {places} of {width} beams.", next_command=f"--beam {places}")
        return self._batch

    def run(self, request: Request, is_cancelled: Callable[[], bool] = lambda: False) -> Generation:
        """The best answer of ``request.beam`` beams; no beam begins a thought. ``on_token`` is told all at the end.

        Raises:
            PromptTooLong: what is given fills the context.
            RequestError: memory is short for so many beams.
            WorkError: the engine failed.
        """
        engine, started = self._engine, time.perf_counter()
        limit = min(request.limit, engine.context - len(request.prompt_ids))
        batch = self._batch_for(request.beam, room_for(request, engine.context))
        try:
            beams = [_Beam(request.begun, 0.0, 0)]
            rows = batch.evaluate([Feed(0, request.given, request.prefix)])
            prefilled = time.perf_counter()
            if request.rank:
                first = ranked(engine, rows[0], request.rank)
                beams = [
                    _Beam((*request.begun, first), float(self._log_probabilities(request, beams[0], rows[0])[first]), 0)
                ]
                rows = batch.evaluate([Feed(0, (first,))])
            ended: list[_Beam] = []
            while beams and len(beams[0].written) < limit and not is_cancelled():
                going = self._step(request, batch, beams, rows, ended)
                best = max((each.mean for each in going), default=-np.inf)
                if len(ended) >= request.beam and best <= sorted(each.mean for each in ended)[-request.beam]:
                    break
                beams = going
                if beams:
                    rows = batch.evaluate([Feed(each.place, each.written[-1:]) for each in beams])
        except Exception:
            self.close()
            raise
        for place in range(batch.places):
            batch.free(place)
        chosen = max(ended or beams, key=lambda each: each.mean)
        written = chosen.written[:-1] if ended else chosen.written
        if tell := request.on_token:
            for token in written:
                tell(token)
        seconds = prefilled - started, time.perf_counter() - prefilled
        return Generation(written, engine.decode(written), bool(ended), len(request.prompt_ids), *seconds)

    def _step(
        self, request: Request, batch: Batch, beams: list[_Beam], rows: list[np.ndarray], ended: list[_Beam]
    ) -> list[_Beam]:
        """The beams that go on, each in its place; those that come to an end join ``ended``."""
        found: list[tuple[float, int, int]] = []
        for number, (beam, logits) in enumerate(zip(beams, rows)):
            scores = beam.score + self._log_probabilities(request, beam, logits)
            likely = np.argpartition(scores, -2 * request.beam)[-2 * request.beam :]
            found += [(float(scores[token]), number, int(token)) for token in likely]
        found.sort(key=lambda each: -each[0])
        chosen: list[tuple[float, int, int]] = []
        for rank, (score, number, token) in enumerate(found):
            if request.stop and self._engine.is_end(token):
                if rank < request.beam:
                    ended.append(_Beam((*beams[number].written, token), score, -1))
            elif len(chosen) < request.beam:
                chosen.append((score, number, token))
        free = {*range(request.beam)} - {beams[number].place for _, number, _ in chosen}
        for beam in beams:
            if beam.place in free:
                batch.free(beam.place)
        going, taken = list[_Beam](), set[int]()
        for score, number, token in chosen:
            place = beams[number].place
            if place in taken:
                batch.copy(place, place := free.pop())
            taken.add(place)
            going.append(_Beam((*beams[number].written, token), score, place))
        return going

    def _log_probabilities(self, request: Request, beam: _Beam, logits: np.ndarray) -> np.ndarray:
        """Of each token after a beam [vocabulary]."""
        penalty = self._engine.template.asking.repetition_penalty if request.stop else 1
        lowered = lowering(penalty, request.no_repeat, request.prompt_ids, beam.written)(logits).astype(np.float64)
        if request.stop:
            lowered[[*self._engine.first_of_thoughts]] = -np.inf
        lowered -= lowered.max()
        return lowered - np.log(np.exp(lowered).sum())
