"""ONNX folders on onnxruntime: greedy decoding in place, with neither torch nor transformers.

The key-value cache is allocated for the whole sequence and bound as both past and present, so no step copies it. The mask
has the cache's length while decoding: what is not written yet counts as padding on the right.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines.base import FIRST_ROOM, PLACES, Batch
from runtime.engines.cache_room import check_room, first_room, grown, places_for, scaled
from runtime.engines.decoding import Stepper, first_of_thoughts
from runtime.engines.devices import Device
from runtime.engines.onnx_batch import OnnxBatch
from runtime.engines.onnx_check import run_self_test
from runtime.engines.onnx_device import SingleBatch, device_cache
from runtime.engines.onnx_load import STATES, cache_shapes, empty_cache, failed_run, load_session, prefill, present_name
from runtime.engines.threads import Threads
from runtime.errors import RequestError, WorkError
from runtime.formats.onnx_folder import end_ids, graph_file, longest_text, read_json
from runtime.formats.provenance import read_provenance
from runtime.machine import usable_cores
from runtime.text.prompts import ChatTemplate, turn_end_ids
from runtime.text.special_tokens import encode_pieces, special_of, take_apart
from runtime.text.tokenizer_file import load_tokenizer


class OnnxEngine(Stepper):
    """An ONNX folder, or one graph in its ``onnx/``; see ``runtime.engines.Engine``."""

    def __init__(
        self,
        artefact: Path,
        threads: int | None = None,
        context: int | None = None,
        device: Device | None = None,
    ) -> None:
        """Load the graph.

        Args:
            context: tokens of prompt and output together; None: as many as the model knows, with a cache that grows.
            device: that computes beside the processor (runtime/engines/onnx_device.py).

        Raises:
            RequestError: there is no graph, or no tokenizer beside it.
            WorkError: a file is damaged, the graph is not of our kind or fails its self-test, or onnxruntime is missing.
        """
        path = graph_file(Path(artefact))
        folder = path.absolute().parent.parent
        if not (folder / "tokenizer.json").exists():
            sentence = f"{folder} has no tokenizer.json: not an ONNX folder."
            raise RequestError(sentence, next_command="slimmoe onnx DIR -o DIR")
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise WorkError(f"The ONNX engine needs {error.name}.", next_command=f"pip install {error.name}") from None
        self.name = f"onnxruntime {ort.__version__}"
        self.threads = threads or usable_cores()
        self.thread_choice = Threads(self.threads, 1, "")
        self.template = ChatTemplate.from_folder(folder)
        provenance = read_provenance(folder)
        self.pruned_for = provenance.pair if provenance else ""
        config = read_json(folder / "config.json")
        stated = end_ids(config, read_json(folder / "generation_config.json"))
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._special = special_of(self._tokenizer)
        self.ends = frozenset([*stated, *turn_end_ids(self.template, self._tokenizer)])
        self.first_of_thoughts = first_of_thoughts(self._encode)
        self._device = device
        self._session: Any = load_session(path, self.threads, device=device)
        inputs = [value.name for value in self._session.get_inputs()]
        past = [name for name in inputs if name.startswith(("past_key_values.", *STATES))]
        unknown = set(inputs) - {"input_ids", "attention_mask", *past}
        optional = [value.name for value in self._session.get_overridable_initializers()]
        if unknown or not past or "num_logits_to_keep" not in optional:
            sentence = f"{path} has other inputs than this engine knows: {', '.join(inputs)}."
            raise WorkError(sentence, next_command="pip install -U slimmoe")
        if device and any(name.startswith(STATES) for name in past):
            sentence = f"{path} has layers that keep a state, which are computed on the processor only."
            raise RequestError(sentence, next_command="the same with --device cpu")
        widths = [value.shape[-1] for value in self._session.get_outputs() if value.name == "logits" and value.shape]
        if not widths or not isinstance(widths[0], int):
            raise WorkError(f"{path} has no logits of a known width.", next_command=f"slimmoe onnx DIR -o {folder}")
        self._vocabulary = widths[0]
        self.context = min(context or sys.maxsize, longest_text(config))
        weights = sum(file.stat().st_size for file in (path, *path.parent.glob(f"{path.name}_data*")))
        self.buffers = {"weights_bytes": weights}
        self.on_device: dict[str, Any] = {}
        self.where = ""
        if device:
            self.where = (
                f"{device.name} ({device.description}, {device.kind}) computes what it has operators for: asked for"
            )
        self._start(first_room(self.context) if context is None else self.context)
        run_self_test(path, self)

    def _start(self, room: int) -> None:
        """Make the cache for ``room`` tokens, and the other arrays that the graph reads and writes in place."""
        self._room = room
        self._mask = np.zeros((1, room), np.int64)
        self._token = np.zeros((1, 1), np.int64)
        self._one = np.ones(1, np.int64)
        self._logits = np.zeros((1, 1, self._vocabulary), np.float32)
        self._binding: Any = self._session.io_binding()
        if self._device:
            shapes = cache_shapes(self._session, room)
            self._cache = device_cache(self._device, shapes)
            for name, values in self._cache.items():
                self._binding.bind_ortvalue_input(name, values)
                self._binding.bind_ortvalue_output(present_name(name), values)
            size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes.values())
            place = {"device": self._device.name, "backend": self._device.backend}
            self.on_device = {**place, "device_kv_cache_bytes": size}
        else:
            self._cache = empty_cache(self._session, room)
            for name, values in self._cache.items():
                self._bind(name, values)
                self._bind_output(present_name(name), values)
            size = sum(values.nbytes for values in self._cache.values())
            self.buffers = self.buffers | {"kv_cache_bytes": size}
        self._kv_cache_bytes = size
        self._bind("num_logits_to_keep", self._one)
        self._bind_output("logits", self._logits)

    def _cache_bytes(self, room: int) -> int:
        """Of a cache for ``room`` tokens of one sequence."""
        return scaled(self._kv_cache_bytes, self._room, room, any(name.startswith(STATES) for name in self._cache))

    def batch(self, places: int = PLACES, room: int = FIRST_ROOM) -> Batch:
        """Several sequences on the same session, on a device one at a time; see ``Engine``."""
        room = min(room, self.context)
        if self._device:
            return SingleBatch(self, room)
        return OnnxBatch(self._session, self._vocabulary, places_for(places, room, self._cache_bytes(room)), room)

    def encode(self, text: str) -> list[int]:
        return encode_pieces(take_apart(text, self._special), self._encode)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def show(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def is_end(self, token: int) -> bool:
        return token in self.ends

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        if len(token_ids) > self.context:
            raise RequestError(f"{len(token_ids)} tokens do not fit into a context of {self.context}.")
        return prefill(self._session, list(token_ids))

    def _bind(self, name: str, values: np.ndarray) -> None:
        """Let the graph read ``values`` in place; they must be contiguous and live until it has run."""
        self._binding.bind_input(name, "cpu", 0, values.dtype, values.shape, values.ctypes.data)

    def _bind_output(self, name: str, values: np.ndarray) -> None:
        self._binding.bind_output(name, "cpu", 0, values.dtype, values.shape, values.ctypes.data)

    def prefill(self, token_ids: Sequence[int], room: int) -> np.ndarray:
        if room > self._room:
            larger = grown(self._room, room, self.context)
            if not self._device:
                check_room(room, self._cache_bytes(larger))
            self._start(larger)
        for name, values in self._cache.items():
            if name.startswith(STATES):  # no mask hides what is left in it
                values[:] = 0
        prompt = np.array([token_ids], np.int64)
        length = prompt.shape[1]
        self._mask[:, :length], self._mask[:, length:] = 1, 0
        self._bind("input_ids", prompt)
        self._bind("attention_mask", self._mask[:, :length])
        logits = self._run()
        # From here on every step has the same inputs: bound once, and changed in place.
        self._bind("input_ids", self._token)
        self._bind("attention_mask", self._mask)
        return logits

    def step(self, token: int, length: int) -> np.ndarray:
        self._token[0, 0] = token
        self._mask[0, length - 1] = 1
        return self._run()

    def _run(self) -> np.ndarray:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise failed_run(error) from None
        return self._logits[0, 0]

    def decoded_logits(self, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
        """Logits [N, vocabulary] of the N tokens ``after``, each in a step of its own in the engine's own cache."""
        self.prefill(before, len(before) + len(after))
        rows = []
        for length, token in enumerate(after, len(before) + 1):
            rows.append(self.step(token, length).copy())
        return np.array(rows)

    def close(self) -> None:
        """Free the cache, and the session where no batch has it; twice does no harm."""
        self._binding = self._session = None
        self._cache = {}
