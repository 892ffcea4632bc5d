"""The models of a server: each is opened when it is first needed, and the one unused for longest is closed for another."""

import contextlib
import ctypes
import gc
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from runtime.engines import Engine, Offload, open_engine
from runtime.engines.scheduler import Scheduler
from runtime.errors import RequestError
from runtime.formats.artefact import describe, files_of, find_artefact
from runtime.text.languages import base_language, find_language
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.alternatives import tries_of
from runtime.translate.checked import CheckedTranslator
from runtime.translate.glossary import Glossary
from runtime.translate.paragraphs import room
from runtime.translate.segments import SegmentTranslator
from slimmoe.server.asked import Refused

_LOG = logging.getLogger("slimmoe.server")
_SPELT = {"pb": "pt-BR", "zt": "zh-Hant"}  # LibreTranslate's own, beside those that everybody knows
WAIT = 60.0  # seconds for a busy model to make room for another


def model_path(word: str) -> Path:
    """The artefact that a word of the command names, a path or a stored name.

    Raises:
        RequestError: there is none.
    """
    return find_artefact(Path(word))


def language_of(text: str) -> str | None:
    """The code of a language as any client may spell it; None where there is none."""
    return find_language(_SPELT.get(text.strip().lower(), text))


@dataclass(frozen=True)
class Model:
    """A model that can be opened.

    Attributes:
        cut: the share of its experts that were cut, 0 to 1.
        size: bytes of its files.
    """

    name: str
    path: Path
    pairs: tuple[Pair, ...]
    kind: str
    cut: float
    size: int


def find_models(words: Sequence[str], pairs: Sequence[Pair]) -> list[Model]:
    """The models that the command names; ``pairs`` are those of models that name none.

    Raises:
        RequestError: one is not there, or no pair is known of it.
    """
    found: list[Model] = []
    for word in words:
        path = model_path(word)
        if not path.exists():
            raise RequestError(f"There is no artefact {path}.", next_command="ls")
        told = describe(path)
        known = told["provenance"].get("pair", "")
        own = tuple(parse_pair(each) for each in known.split(" + ")) if known else tuple(pairs)
        if not own:
            raise RequestError(
                f"{path} names no language pair: say which it translates.",
                next_command=f"slimmoe serve {word} --pair en-de --pair de-en",
            )
        stem = path.stem if path.suffix == ".gguf" else path.name
        if path.suffix != ".gguf" and path.name.startswith("onnx"):  # of a run, whose own folder says more
            stem = f"{path.absolute().parent.name}-{stem}"
        same = sum(each.name == stem or each.name.startswith(f"{stem}-") for each in found)
        size = sum(each.stat().st_size for each in files_of(path))
        cut = float(told["provenance"].get("ratio", 0))
        found.append(Model(f"{stem}-{same + 1}" if same else stem, path, own, told["type"], cut, size))
    return found


class Opened:
    """A model that is loaded, whose batches all requests share."""

    def __init__(self, model: Model, threads: int | None, offload: Offload | None = None) -> None:
        self.engine: Engine = open_engine(model.path, threads, offload=offload)
        self.scheduler = Scheduler(self.engine)
        self.users = 0
        self.segments = cache(lambda pair: SegmentTranslator(self.engine, pair, self.scheduler))
        self.limit = cache(lambda pair: room(self.engine, pair))

    def translator(self, pair: Pair, glossary: Glossary | None, rank: int = 0) -> CheckedTranslator:
        """What translates sentences; with a ``rank`` above 0 as an alternative."""
        return CheckedTranslator(self.segments(pair), tries_of(self.engine, pair, glossary, rank))

    def close(self) -> None:
        self.scheduler.close()
        self.engine.close()


class Models:
    """The models of a server, by name.

    Args:
        memory: bytes that the process may have for another model to be opened beside those that are; None: any.
        offload: what of GGUF files goes to a device; default: as ``open_engine`` chooses.

    Raises:
        RequestError: one is larger than that.
    """

    def __init__(
        self,
        models: Iterable[Model],
        threads: int | None = None,
        memory: int | None = None,
        offload: Offload | None = None,
    ) -> None:
        self.all = {each.name: each for each in models}
        self._threads, self._memory, self._offload = threads, memory, offload
        self._changed = threading.Condition()
        self._opened: dict[str, Opened] = {}  # the one unused for longest first
        self._opening: set[str] = set()
        for each in self.all.values():
            if memory is not None and each.size > memory:
                raise RequestError(
                    f"{each.path} has {each.size / 1e6:.0f} MB, more than --memory.",
                    next_command="the same with more memory, or a smaller model: slimmoe fit",
                )

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, each once, in the order of the models."""
        return list(dict.fromkeys(pair for model in self.all.values() for pair in model.pairs))

    @property
    def opened(self) -> list[str]:
        """Names of those that are loaded."""
        with self._changed:
            return list(self._opened)

    def named(self, name: str) -> list[Model]:
        """The model of a name, all without one.

        Raises:
            Refused: there is none.
        """
        if name and name not in self.all:
            raise Refused(404, f"There is no model {name[:80]!r}; there are {', '.join(self.all)}.")
        return [self.all[name]] if name else list(self.all.values())

    def choose(self, source: str, target: str, name: str = "") -> tuple[Model, Pair]:
        """The model and its pair for two codes; where it has no such variant, another one of the same language.

        Raises:
            Refused: there is none.
        """
        models = self.named(name)
        known = [language_of(code) for code in (source, target)]
        for code, asked, own in zip(known, (source, target), ("source", "target")):
            served = {getattr(pair, own) for model in models for pair in model.pairs}
            if code is None or base_language(code) not in map(base_language, served):
                raise Refused(400, f"{asked[:40]} is not supported")
        asked = Pair(known[0] or "", known[1] or "")
        for like in (lambda pair: pair == asked, lambda pair: pair.base == asked.base):
            for model in models:
                for pair in filter(like, model.pairs):
                    return model, pair
        raise Refused(
            400, f"{asked.target_name} ({target}) is not available as a target language from {asked.source_name}"
        )

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Opened]:
        """A model, loaded, for as long as the block runs.

        Raises:
            Refused: others are in use, and there is no memory for it beside them.
            WorkError: it is damaged.
        """
        opened = self._enter(self.all[name])
        try:
            yield opened
        finally:
            with self._changed:
                opened.users -= 1
                self._changed.notify_all()

    def _enter(self, model: Model) -> Opened:
        with self._changed:
            while model.name not in self._opened:
                if model.name not in self._opening and self._has_room(model):
                    self._opening.add(model.name)
                    break
                if not self._changed.wait(WAIT):
                    raise Refused(429, "All models that fit into memory are busy.", 30)
            else:
                opened = self._opened[model.name] = self._opened.pop(model.name)
                opened.users += 1
                return opened
        try:
            opened = Opened(model, self._threads, self._offload)
        except BaseException:
            with self._changed:
                self._opening.discard(model.name)
                self._changed.notify_all()
            raise
        with self._changed:
            self._opening.discard(model.name)
            self._opened[model.name] = opened
            opened.users += 1
            self._changed.notify_all()
        _LOG.info("opened %s, %.0f MB", model.name, model.size / 1e6)
        return opened

    def _has_room(self, model: Model) -> bool:
        """Whether it may be opened now; those that nobody uses are closed until it may."""
        while self._memory is not None and (self._opened or self._opening):
            if psutil.Process().memory_info().rss + model.size <= self._memory:
                break
            idle = next((name for name, opened in self._opened.items() if not opened.users), None)
            if idle is None:
                return False
            self._opened.pop(idle).close()
            _give_back()
            _LOG.info("closed %s", idle)
        return True

    def close(self) -> None:
        """Close all."""
        with self._changed:
            opened, self._opened = list(self._opened.values()), {}
        for each in opened:
            each.close()


def _give_back() -> None:
    """Give freed memory back to the system, which the C library keeps otherwise."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
