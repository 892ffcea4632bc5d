"""llama.cpp's graph while it is evaluated: reading and overwriting its tensors from Python, by their names.

llama.cpp calls back before each node of the graph (is it wanted?) and, for those that are, once more when it has been
computed. The names are those of its source, ``<name>-<layer>``; an MoE layer's are, in order and each only where the
router has that step (n_expert E, top-k k, width H, tokens T; shapes as ``GraphTensor.read`` gives them):

- ``ffn_moe_logits``, ``ffn_moe_logits_biased``, ``ffn_moe_probs``, ``ffn_moe_probs_biased``  [1, 1, T, E]. Where the
  softmax comes after the selection (gpt-oss), ``ffn_moe_probs`` is the biased logits themselves.
- ``ffn_moe_topk`` [1, 1, T, k], int32, strided
- ``ffn_moe_weights`` [1, T, k, 1], ``ffn_moe_weights_softmax`` [1, T, k, 1], ``ffn_moe_weights_norm`` [1, 1, T, k],
  ``ffn_moe_weights_scaled`` [1, T, k, 1]: the last one there is the gate weight that is applied
- ``ffn_moe_down`` [1, T, k, H], ``ffn_moe_down_scaled`` or ``ffn_moe_down_biased``: the experts' outputs
- ``ffn_moe_weighted`` [1, T, k, H]: outputs times gate weights
"""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, Protocol

import numpy as np

from runtime.errors import WorkError
from runtime.llama_paths import GET_LIBRARY

ROUTER_STAGES = ("ffn_moe_logits", "ffn_moe_logits_biased", "ffn_moe_probs", "ffn_moe_probs_biased")
BEFORE = "ffn_inp"  # [1, 1, T, H]: the hidden states, before the norm and the experts
NORMED = "ffn_norm"  # the same after it
CHOSEN, WEIGHTED = "ffn_moe_topk", "ffn_moe_weighted"
# Stages of the gate weight and of the experts' outputs: the last one that a graph has is what it goes on with.
GATES = ("ffn_moe_weights", "ffn_moe_weights_softmax", "ffn_moe_weights_norm", "ffn_moe_weights_scaled")
OUTPUTS = ("ffn_moe_down", "ffn_moe_down_scaled", "ffn_moe_down_biased")
_UNSELECTABLE = -1e30  # finite, so that a bias may be added and the softmax's maximum subtracted
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_DTYPES = {0: np.float32, 1: np.float16, 24: np.int8, 25: np.int16, 26: np.int32, 27: np.int64, 28: np.float64}
_OBJECT_BYTES = 32  # ggml_tensor_overhead() counts ggml's object header too


class _Tensor(ctypes.Structure):
    """``struct ggml_tensor``; ``ggml_functions`` compares it with the library's before anything is read."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_init": (ctypes.c_void_p, [_InitParams]),
    "ggml_free": (None, [ctypes.c_void_p]),
    "ggml_new_tensor_2d": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]),
    "ggml_transpose": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]),
    "ggml_set_name": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    "ggml_nbytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "ggml_tensor_overhead": (ctypes.c_size_t, []),
    "ggml_backend_buffer_is_host": (ctypes.c_bool, [ctypes.c_void_p]),
    "ggml_backend_tensor_get": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]),
    "ggml_backend_tensor_set": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]),
}


@cache
def ggml_functions(library: Any) -> Any:
    """ggml's functions behind the binding ``library``, after a check that tensors are laid out as ``_Tensor`` says.

    Raises:
        WorkError: they are not: another version of llama.cpp.
    """
    ggml = library._lib  # libllama, through which the system finds ggml's symbols as well
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    context = ggml.ggml_init(_InitParams(1 << 16, None, False))
    try:
        plain = ggml.ggml_new_tensor_2d(context, 26, 5, 3)
        ggml.ggml_set_name(plain, b"plain-7")
        view = ggml.ggml_transpose(context, plain)
        a, b = _Tensor.from_address(plain), _Tensor.from_address(view)
        same = (
            ggml.ggml_tensor_overhead() - _OBJECT_BYTES == ctypes.sizeof(_Tensor) == 336
            and (a.type, a.name, a.view_src, a.op) == (26, b"plain-7", None, 0)
            and (list(a.ne), list(a.nb)) == ([5, 3, 1, 1], [4, 20, 60, 60])
            and (list(b.ne), list(b.nb)) == ([3, 5, 1, 1], [20, 4, 60, 60])
            and (b.view_src, b.src[0], b.view_offs, b.data) == (plain, plain, 0, a.data)
        )
    finally:
        ggml.ggml_free(context)
    if not same:
        raise WorkError("This llama.cpp is of another version: its graph cannot be read.", next_command=GET_LIBRARY)
    return ggml


class GraphTensor:
    """A tensor that has just been computed; it may be used until the watcher returns, and not after."""

    def __init__(self, ggml: Any, pointer: int, name: str, layer: int) -> None:
        self.name = name
        self.layer = layer  # -1: the graph's name has no number
        self._ggml, self._pointer, self._tensor = ggml, pointer, _Tensor.from_address(pointer)
        self._in_memory: bool = ggml.ggml_backend_buffer_is_host(self._tensor.buffer)

    def read(self) -> np.ndarray:
        """The values, always four axes, the outermost first: a strided view of the graph's memory, to be copied if kept.

        Where the tensor lies on a GPU it is a copy.

        Raises:
            WorkError: of a type that numpy does not have.
        """
        size = self._ggml.ggml_nbytes(self._pointer)
        return self._array((ctypes.c_char * size).from_address(self._tensor.data) if self._in_memory else self._copy())

    def write(self, values: Any) -> None:
        """Overwrite the tensor; what the graph computes from it follows. ``values`` broadcasts to the shape of ``read``."""
        if self._in_memory:
            self.read()[...] = values
            return
        data = self._copy()
        self._array(data)[...] = values
        self._ggml.ggml_backend_tensor_set(self._pointer, data, 0, len(data))

    def source(self) -> "GraphTensor | None":
        """What it was computed from first; None where that is nothing. Its memory may have been given to others since."""
        pointer = self._tensor.src[0]
        return GraphTensor(self._ggml, pointer, *_parse(_Tensor.from_address(pointer).name)) if pointer else None

    def _copy(self) -> Any:
        """The tensor's bytes, gaps between strides included."""
        data = ctypes.create_string_buffer(self._ggml.ggml_nbytes(self._pointer))
        self._ggml.ggml_backend_tensor_get(self._pointer, data, 0, len(data))
        return data

    def _array(self, data: Any) -> np.ndarray:
        tensor = self._tensor
        if tensor.type not in _DTYPES:
            raise WorkError(
                f"{self.name} of layer {self.layer} is of ggml's type {tensor.type}, which is not read here."
            )
        return np.ndarray(tuple(reversed(tensor.ne)), _DTYPES[tensor.type], data, strides=tuple(reversed(tensor.nb)))


class Watcher(Protocol):
    """What looks at a graph. Both methods may raise: the evaluation ends and its caller gets the exception."""

    def wants(self, name: str, layer: int) -> bool:
        """Whether ``see`` shall be called for this tensor. Asked for every node of every graph, so it must be quick."""
        ...

    def see(self, tensor: GraphTensor) -> bool:
        """Look at a tensor, or overwrite it; True: go on, False: the rest of the graph need not be computed."""
        ...


@cache
def _parse(name: bytes) -> tuple[str, int]:
    """``ffn_moe_topk-3`` is tensor ffn_moe_topk of layer 3; other names, `` (reshaped)`` twins among them, have none."""
    text = name.decode(errors="replace")
    stem, hyphen, number = text.rpartition("-")
    return (stem, int(number)) if hyphen and number.isascii() and number.isdigit() else (text, -1)


class GraphWatch:
    """The evaluation callback of one context: it lives as long as the context does, its watchers come and go.

    Nothing may be raised into C, so exceptions are kept until llama.cpp has returned. Ctrl-C and its like are
    noted by a handler instead of raised: raised before the callback's first line they would be lost.
    """

    def __init__(self, library: Any) -> None:
        self._ggml = ggml_functions(library)
        self.callback = library.ggml_backend_sched_eval_callback(self._evaluated)
        self._watcher: Watcher | None = None
        self._error: BaseException | None = None
        self._interrupted = 0

    @contextlib.contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Within it, ``watcher`` sees the graphs; the one before it comes back afterwards."""
        before, self._watcher = self._watcher, watcher
        try:
            yield
        finally:
            self._watcher = before

    def run(self, evaluate: Callable[[], int]) -> int:
        """What ``evaluate`` returns, which calls llama.cpp.

        Raises:
            Whatever the watcher raised; KeyboardInterrupt.
        """
        if self._watcher is None:
            return evaluate()
        self._error, self._interrupted = None, 0
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            found = {each: signal.getsignal(each) for each in _ENDING}
            handlers = {each: handler for each, handler in found.items() if callable(handler)}
        for each in handlers:
            signal.signal(each, self._note_interrupt)
        try:
            status = evaluate()
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        if self._interrupted:
            handlers[self._interrupted](self._interrupted, None)
            raise KeyboardInterrupt  # a handler that only notes the signal: the graph was not computed to its end
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return status

    def _note_interrupt(self, number: int, _: Any) -> None:
        self._interrupted = number

    def _evaluated(self, pointer: int, ask: bool, _: Any) -> bool:
        """As llama.cpp calls it. To stop it, a node is asked for and its result then answered with False."""
        if self._watcher is None:
            return not ask
        if self._error is not None or self._interrupted:
            return ask
        try:
            name, layer = _parse(_Tensor.from_address(pointer).name)
            if ask:
                return bool(self._watcher.wants(name, layer))
            return bool(self._watcher.see(GraphTensor(self._ggml, pointer, name, layer)))
        except BaseException as error:
            self._error = error
            return ask


class ExpertMask:
    """A watcher that makes experts unselectable: the model then computes what it would if they were cut out of it.

    Every stage of the router gets -1e30 in their columns: the logits, so that a softmax over all experts becomes one
    over the others; and what selection reads, since a selection bias could lift a probability of 0 above others.
    """

    def __init__(self, dropped: Mapping[int, Collection[int]]) -> None:
        self._dropped = {layer: sorted(experts) for layer, experts in dropped.items()}

    def wants(self, name: str, layer: int) -> bool:
        return name in ROUTER_STAGES and layer in self._dropped

    def see(self, tensor: GraphTensor) -> bool:
        values = tensor.read().copy()
        values[..., self._dropped[tensor.layer]] = _UNSELECTABLE
        tensor.write(values)
        return True


class Watched(Protocol):
    """An engine whose graphs can be watched."""

    def watch(self, watcher: Watcher) -> contextlib.AbstractContextManager[None]: ...


@contextlib.contextmanager
def masked(engine: Watched, dropped: Mapping[int, Collection[int]]) -> Iterator[None]:
    """Within it, ``engine`` (opened with ``watched``) never chooses the experts that ``dropped`` gives by layer.

    Top-k and groups stay the model's own: exact where the cut keeps them, and where each group keeps at least two.
    """
    with engine.watch(ExpertMask(dropped)):
        yield
