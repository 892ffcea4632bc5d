"""A model that stays loaded and translates for as many callers as there are, from any thread."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from runtime.errors import RequestError
from slimmoe.api_device import AnyGlossary, AnyPair, AnyPath, AnyPrompt, as_glossary, as_pair, open_engine


class Translator:
    """A loaded model and a pair; texts of all callers, from any thread, are decoded in the same batches.

    Args:
        artefact: a GGUF file, an ONNX folder, the folder of a run, or the name of a stored model.
        pair: default: the one that the model was cut for.
        threads: of one batch; default: by the model's size and by what is free.
        exact: one text in each batch: its translation is then the same whatever is translated beside it.
        glossary: terms to translate in one way only.
        beam: partial translations that are followed of each text; 1: greedy.
        prompt: how the model is asked, a text with ``{text}`` or a file; default: as the artefact says.
        device: where, ``auto``, ``cpu`` or a name that ``slimmoe devices`` prints (docs/gpu.md).

    Raises:
        RequestError: no such artefact or device, or no pair is given and none is known.
        WorkError: it is damaged, or the engine's library is missing.
    """

    def __init__(
        self,
        artefact: AnyPath,
        pair: AnyPair | None = None,
        *,
        threads: int | None = None,
        exact: bool = False,
        prompt: AnyPrompt | None = None,
        glossary: AnyGlossary | None = None,
        beam: int = 1,
        device: str = "auto",
    ) -> None:
        from runtime.engines.scheduler import Scheduler
        from runtime.translate.checked import CheckedTranslator
        from runtime.translate.remedies import Remedies
        from runtime.translate.segments import SegmentTranslator, known_pair

        self._engine = open_engine(Path(artefact), threads, prompt=prompt, device=device)
        try:
            self.pair = as_pair(pair) if pair is not None else known_pair(self._engine)
            self._scheduler = Scheduler(self._engine, places=1 if exact else None)
            self._segments = SegmentTranslator(self._engine, self.pair, self._scheduler, exact, beam)
            self._checked = CheckedTranslator(
                self._segments, Remedies(self._engine, self.pair, as_glossary(glossary, self.pair))
            )
        except BaseException:
            self._engine.close()
            raise

    def translate(self, texts: Iterable[str]) -> Iterator[str]:
        """Translations in order, each as soon as it and those before it are done, in the white space of their sources.

        Empty text, or one too long for the model, is empty; the latter with a warning. One that fails is tried again, as
        ``slimmoe.translate`` does. ``texts``, of one sentence or so each, are read in another thread, a few ahead.
        """
        from runtime.translate.checked import in_places

        return in_places(self._checked.translate(texts))

    def stream(self, text: str) -> Iterator[str]:
        """Pieces of one translation as they are written, the first try; who stops reading cancels it.

        Raises:
            RequestError: the text is too long for the model.
            WorkError: the engine failed.
        """
        from runtime.translate.segments import Try

        pieces: SimpleQueue[str | None] = SimpleQueue()
        pending, told = self._segments.submit(Try(text), pieces.put), ""
        if pending.generating:
            pending.generating.add_done_callback(lambda _: pieces.put(None))
            try:
                while (piece := pieces.get()) is not None:
                    told += piece
                    yield piece
            finally:
                pending.generating.cancel()
        done = pending.result()
        if done.refused:
            raise RequestError(done.refused)
        if done.text.startswith(told) and done.text != told:  # the end of what waited for more
            yield done.text[len(told) :]

    def close(self) -> None:
        """End what is under way, and free the model; twice does no harm."""
        self._scheduler.close()
        self._engine.close()

    def __enter__(self) -> "Translator":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
