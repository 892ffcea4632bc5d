"""The llama.cpp engine: GGUF files through llama_cpp's ctypes layer, one sequence at a time or in batches."""

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines import llama_library
from runtime.engines.base import FIRST_ROOM, PLACES
from runtime.engines.cache_room import FIRST_CACHE, check_room, first_room, grown, places_for, scaled
from runtime.engines.decoding import Stepper, first_of_thoughts
from runtime.engines.devices import free_bytes
from runtime.engines.llama_batch import LlamaBatch, Row, fill
from runtime.engines.llama_graph import GraphWatch, Watcher
from runtime.engines.llama_library import reason
from runtime.engines.llama_load import load_model
from runtime.engines.llama_vocabulary import LlamaVocabulary
from runtime.engines.offload import Offload, placements
from runtime.engines.threads import Threads
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile, check_gguf
from runtime.machine import usable_cores
from runtime.text.prompts import ChatTemplate, named_tokens

BATCH = 512  # tokens that one call evaluates


class LlamaEngine(Stepper):
    """A GGUF file loaded by llama.cpp (see ``Engine``).

    Args:
        context: tokens of prompt and output together; None: as many as the model knows, with a cache that grows with the texts.
        mapped: leave the weights in the file, whatever their type; so it is anyway where they are larger than memory.
        watched: ``watch`` will be called.
        sequences: as many may ``evaluate`` get at once.
        overrides: integer metadata to use in the place of the file's.
        offload: what goes to a device; by default as much as a GPU has memory for.

    Raises:
        RequestError: there is no such device.
        WorkError: the library is missing, memory is, or the file is damaged or of an architecture that it does not know.
    """

    def __init__(
        self,
        artefact: Path,
        threads: int | None = None,
        context: int | None = None,
        exact: bool = False,
        *,
        mapped: bool = False,
        watched: bool = False,
        sequences: int = 1,
        overrides: Mapping[str, int] | None = None,
        offload: Offload | None = None,
        file: GgufFile | None = None,
    ) -> None:
        self._model = self._context = None
        self._is_open = False
        self._lib = lib = llama_library.library()
        self.threads = threads or usable_cores()
        self.thread_choice = Threads(self.threads, 1, "")
        self._watch = GraphWatch(lib) if watched else None  # its callback must live as long as the context
        self._params = self._context_params(exact, sequences)
        file = file or check_gguf(artefact)
        tokens = max(context or 0, (PLACES + 1) * FIRST_ROOM)  # of one sequence alone, or of a first batch
        for self.placement in placements(offload or Offload(), file, tokens, 4 if exact else 2):
            try:
                self._load(artefact, file, mapped, overrides or {}, context)
                break
            except WorkError:
                self.close()
                if not llama_library.lacked_memory():
                    raise
                failed = self.placement
        else:
            raise WorkError(f"{artefact} cannot be loaded with {failed}: {reason()}")
        self._vocab = vocabulary = LlamaVocabulary(lib, self._model, self._metadata("tokenizer.ggml.pre"))
        self._vocabulary = vocabulary.size
        self.pruned_for = self._metadata("slimmoe.pair")
        tokens = named_tokens(self._metadata, vocabulary.piece) | vocabulary.named_tokens()
        self.template = ChatTemplate.from_gguf(self._metadata, tokens)
        ends = (vocabulary.encode(end) for end in self.template.ends_of_turn(vocabulary.special))
        self._turn_ends = {ids[0] for ids in ends if len(ids) == 1}
        self.first_of_thoughts = first_of_thoughts(vocabulary.encode)

    def _load(
        self, artefact: Path, file: GgufFile, mapped: bool, overrides: Mapping[str, int], context: int | None
    ) -> None:
        """Load the model where ``placement`` has it, and start its first cache."""
        llama_library.errors.clear()
        llama_library.buffers.clear()
        device, self.device_free = self.placement.device, ()
        before = free_bytes(device.handle) if device else 0
        self._model = load_model(artefact, file, mapped, overrides, self.placement)
        self._is_open, self._users = True, 1  # who uses the model: this engine and its batches
        self.context = context or self._lib.llama_model_n_ctx_train(self._model) or FIRST_CACHE
        self.buffers: dict[str, int] = {}
        self.device_buffers: dict[str, int] = {}
        self._start(self.context if context else first_room(self.context))
        if device:
            self.device_free = before, free_bytes(device.handle)

    @property
    def name(self) -> str:
        """Its version, which only rows and records ask for."""
        from importlib.metadata import version

        return f"llama.cpp {version('llama_cpp_python')}"

    def _context_params(self, exact: bool, sequences: int) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_batch = params.n_ubatch = BATCH
        if sequences > 1:
            params.n_seq_max, params.kv_unified = sequences, True
        params.n_threads = params.n_threads_batch = self.threads
        if exact:
            params.type_k = params.type_v = self._lib.GGML_TYPE_F32
            params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if self._watch:
            params.cb_eval = self._watch.callback
        return params

    def _start(self, room: int) -> None:
        """Make the cache for ``room`` tokens, and all that belongs to it."""
        self._room, self._context = room, self._new_context(room)
        device = self.placement.device
        here, there = llama_library.buffers_of(device.name if device else None)
        self.buffers, self.device_buffers = self.buffers | here, self.device_buffers | there
        self._memory = self._lib.llama_get_memory(self._context)
        self._rows: dict[int, np.ndarray] = {}  # views of llama.cpp's logits, by address
        self._next_id = (ctypes.c_int32 * 1)()  # what a step's batch points to

    def _new_context(self, tokens: int, **changes: Any) -> Any:
        """A cache for so many tokens, with some parameters changed.

        Raises:
            WorkError: llama.cpp gives none.
        """
        params = type(self._params).from_buffer_copy(self._params)
        for name, value in {"n_ctx": tokens, **changes}.items():
            setattr(params, name, value)
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise WorkError(f"llama.cpp cannot start with a context of {tokens} tokens: {reason()}")
        return context

    def _cache_bytes(self, room: int) -> int:
        """In the machine's memory, of a cache for ``room`` tokens of one sequence."""
        return scaled(self.buffers.get("kv_cache_bytes", 0), self._room, room, not self.joins_sequences)

    def batch(self, places: int = PLACES, room: int = FIRST_ROOM) -> LlamaBatch:
        """Several sequences on the same weights; see ``Engine``."""
        room = min(room, self.context)
        places = places_for(places, room, self._cache_bytes(room))
        llama_library.errors.clear()
        # The kept prefix is a sequence, too.
        context = self._new_context((places + 1) * room, n_seq_max=places + 1, kv_unified=True)
        self._users += 1
        shares, size = self.joins_sequences, self._vocabulary
        return LlamaBatch(self._lib, context, places, room, size, BATCH, shares, self._check_status, self._release)

    def _metadata(self, key: str) -> str:
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_model_meta_val_str(self._model, key.encode(), buffer, size)
            if length < size:
                return buffer.value.decode() if length >= 0 else ""
            size = length + 1

    def encode(self, text: str) -> list[int]:
        return self._vocab.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._vocab.decode(token_ids)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._vocab.decode(token_ids, special=True)

    def _evaluate(self, batch: Any) -> None:
        decode = partial(self._lib.llama_decode, self._context, batch)
        self._check_status(self._watch.run(decode) if self._watch else decode())

    def _check_status(self, status: int) -> None:
        """What an evaluation returned.

        Raises:
            WorkError: it is not 0.
        """
        if status:
            raise WorkError(f"llama.cpp stopped with status {status}: {reason()}")

    def _batches(self, token_ids: Sequence[int]) -> Iterator[Any]:
        """Batches from an empty cache; each asks for the logits of its last token and is valid until the next."""
        llama_library.errors.clear()
        self._lib.llama_memory_clear(self._memory, False)
        for start in range(0, len(token_ids), BATCH):
            chunk = token_ids[start : start + BATCH]
            ids = (ctypes.c_int32 * len(chunk))(*chunk)  # the batch only points to it
            yield self._lib.llama_batch_get_one(ids, len(chunk))

    @property
    def joins_sequences(self) -> bool:
        """Whether a batch of several sequences is evaluated as one graph, in order: recurrent layers take them apart."""
        lib = self._lib
        return not (lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model))

    @property
    def where(self) -> str:
        return str(self.placement) if self.placement.device else ""

    @property
    def on_device(self) -> dict[str, Any]:
        return self.placement.row(self.device_free, self.device_buffers)

    def watch(self, watcher: Watcher) -> contextlib.AbstractContextManager[None]:
        """Within it, ``watcher`` sees every graph that is evaluated (runtime/engines/llama_graph.py)."""
        if self._watch is None:
            raise ValueError("the engine was not opened with watched=True")
        return self._watch.watch(watcher)

    def evaluate(self, sequences: Sequence[Sequence[int]]) -> None:
        """Evaluate whole sequences of at most BATCH tokens together, each from an empty cache, for a watcher to see.

        The graph's tokens are theirs in order, in every layer: logits of all are asked for, since the last layer leaves
        out tokens that have none.
        """
        llama_library.errors.clear()
        self._lib.llama_memory_clear(self._memory, False)
        rows = [Row(i, position, token, True) for i, ids in enumerate(sequences) for position, token in enumerate(ids)]
        if len(rows) > min(BATCH, self._room):
            raise ValueError(f"{len(rows)} tokens are more than {min(BATCH, self._room)}")
        batch = self._lib.llama_batch_init(len(rows), 0, 1)
        try:
            fill(batch, rows)
            self._evaluate(batch)
        finally:
            self._lib.llama_batch_free(batch)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        if len(token_ids) > self.context:
            raise RequestError(f"{len(token_ids)} tokens do not fit into a context of {self.context}.")
        self._reserve(len(token_ids))
        result = np.empty((len(token_ids), self._vocabulary), np.float32)
        for i, batch in enumerate(self._batches(token_ids)):
            wanted = (ctypes.c_int8 * batch.n_tokens)(*[1] * batch.n_tokens)
            batch.logits = wanted
            self._evaluate(batch)
            rows = self._lib.llama_get_logits(self._context)
            view = np.ctypeslib.as_array(rows, (batch.n_tokens, self._vocabulary))
            result[i * BATCH : i * BATCH + batch.n_tokens] = view
        return result

    def _last_logits(self) -> np.ndarray:
        row = self._lib.llama_get_logits_ith(self._context, -1)
        address = ctypes.c_void_p.from_buffer(row).value or 0
        view = self._rows.get(address)
        if view is None:  # making one takes longer than looking for its maximum
            view = self._rows[address] = np.ctypeslib.as_array(row, (self._vocabulary,))
        return view

    def _reserve(self, tokens: int) -> None:
        """Let the cache hold so many tokens, whatever is in it."""
        if tokens > self._room:
            room = grown(self._room, tokens, self.context)
            check_room(tokens, self._cache_bytes(room))
            self._lib.llama_free(self._context)
            self._context = None
            llama_library.buffers.clear()
            self._start(room)

    def prefill(self, token_ids: Sequence[int], room: int) -> np.ndarray:
        self._reserve(room)
        for batch in self._batches(token_ids):
            self._evaluate(batch)
        return self._last_logits()

    def step(self, token: int, length: int) -> np.ndarray:
        self._next_id[0] = token
        self._evaluate(self._lib.llama_batch_get_one(self._next_id, 1))
        return self._last_logits()

    def is_end(self, token: int) -> bool:
        return token in self._turn_ends or self._vocab.ends_sequence(token)

    def close(self) -> None:
        """Free the cache, and the model where no batch has it; twice does no harm."""
        if self._context:
            self._lib.llama_free(self._context)
        self._context = None
        if self._is_open:
            self._is_open = False
            self._release()

    def _release(self) -> None:
        """One user of the weights less; the last frees them."""
        self._users -= 1
        if not self._users:
            self._lib.llama_model_free(self._model)
            self._model = None
