"""Loading a graph, and in one sentence why that failed: a damaged file is not the same as an old onnxruntime.

onnxruntime tells failures apart by the wording of its messages alone, so the wording is read here and nowhere else.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.engines.devices import Device
from runtime.errors import WorkError
from runtime.formats.model_folder import own_file

_TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}
PRODUCER = "slimmoe"  # as the graph names it
STATES = ("past_conv.", "past_recurrent.")  # of layers that keep a state instead of keys and values
_QMOE = "ORT_QMOE_CPU_QNBIT_GEMM"
_UPGRADE = "pip install -U onnxruntime"
_AGAIN = "slimmoe onnx DIR -o DIR   (export it again)"
_SPIN = "50"  # microseconds that a thread spins for work before it sleeps: as fast as the default of 47 ms and more, and fair

# What onnxruntime says where the graph asks for more than this version of it has.
_LACKS = (
    r"(?P<op>\S+)\(-?\d+\) is not a registered function",
    r"No Op registered for (?P<op>\S+)",
    r"Could not find an implementation for (?P<op>[^\s(]+)",
    r"Unrecognized attribute: (?P<what>\S+) for operator (?P<op>\S+)",
)


def ending(message: object) -> str:
    """The end of what onnxruntime says, in one line: what went wrong stands there."""
    return " ".join(str(message).split())[-200:]


def _refusal(path: Path, message: str, version: str) -> WorkError:
    """The sentence for what onnxruntime said about ``path``."""
    anew = f"rm {path}* && slimmoe onnx DIR -o {path.parent.parent}"
    if found := re.search(r'External data path does not exist: "?([^"\n]+)', message):
        return WorkError(f"{found[1]}, the weights of {path}, is missing.", next_command=anew)
    if found := re.search(r"offset: (\d+) size to read: (\d+) given file_length: (\d+)", message):
        needed, there = int(found[1]) + int(found[2]), int(found[3])
        sentence = f"The data file of {path} is cut short: {there} bytes are there, at least {needed} are needed."
        return WorkError(sentence, next_command=anew)
    if "Protobuf parsing failed" in message or "No graph was found" in message:
        return WorkError(f"{path} is damaged or cut short.", next_command=anew)
    if found := re.search(r"(?:Opset|Unsupported model IR version:?) (\d+)", message):
        kind = "opset" if found[0].startswith("Opset") else "IR version"
        sentence = f"{path} has the ONNX {kind} {found[1]}, which onnxruntime {version} is too old for."
        return WorkError(sentence, next_command=_UPGRADE)
    for pattern in _LACKS:
        if found := re.search(pattern, message):
            what = found.groupdict().get("what")
            lacking = f"operator {found['op']}" + (f" with '{what}'" if what else "")
            sentence = f"onnxruntime {version} lacks the {lacking}, which {path} uses."
            return WorkError(sentence, next_command=_UPGRADE)
    return WorkError(
        f"onnxruntime {version} cannot run {path} ({ending(message)}).", next_command=f"{_UPGRADE}   (or: {anew})"
    )


def failed_run(error: Exception) -> WorkError:
    """The sentence for a graph that loads, and fails when it computes."""
    return WorkError(
        f"The graph cannot be run ({ending(error)}).", next_command="slimmoe onnx DIR -o DIR   (export it again)"
    )


@contextlib.contextmanager
def _int8_activations() -> Iterator[None]:
    """Let QMoE kernels that are created meanwhile compute with int8 activations, twice as fast as with float32.

    QMoE has an attribute for it, which MatMulNBits has had for long; but onnxruntime 1.30 refuses a graph in which QMoE
    carries it, and that is the one in transformers.js. So it is the environment variable; who has set it is obeyed.
    """
    unset = _QMOE not in os.environ
    os.environ.setdefault(_QMOE, "int8")
    try:
        yield
    finally:
        if unset:
            del os.environ[_QMOE]


def load_session(path: Path, threads: int, prepacked: bool = True, device: Device | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` of a graph that slimmoe wrote.

    Args:
        device: computes what it has operators for; the processor the rest.
        prepacked: rearrange the weights in memory for the fastest kernels. Without, they stay in the mapped file, and
            the kernels are others: those for 4-bit weights then compute in float32 throughout.

    Raises:
        WorkError: the graph or its data file is damaged or missing, is newer than this onnxruntime or not of our kind.
    """
    import onnxruntime as ort

    for each in (path, *path.parent.glob(f"{path.name}_data*")):  # a pipe would be waited for
        own_file(each.absolute().parent, each.name)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN)
    options.log_severity_level = 4  # failures come as exceptions
    if not prepacked:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if device:
        options.add_provider_for_devices([device.handle], {})
    providers = None if device else ["CPUExecutionProvider"]  # devices and names of providers exclude each other
    try:
        with _int8_activations():
            # The fallback prints, and tries the same again.
            session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
        producer = session.get_modelmeta().producer_name
        for each in (*session.get_inputs(), *session.get_outputs(), *session.get_overridable_initializers()):
            _ = each.name, each.shape  # text in a damaged graph may be none
    except Exception as error:
        refusal = _refusal(path, str(error), ort.__version__)
        if device and _UPGRADE in (refusal.next_command or ""):  # no fault of the file's that is known
            load_session(path, threads, prepacked=False)  # what the processor refuses too is told of the file
            sentence = f"{device.name} cannot run {path} ({ending(error)})."
            refusal = WorkError(sentence, next_command="the same with --device cpu")
        raise refusal from None
    if producer != PRODUCER:
        sentence = f"{path} was written by {producer or 'another program'}; this engine runs graphs of slimmoe only."
        raise WorkError(sentence, next_command="slimmoe onnx DIR -o DIR")
    return session


def present_name(past: str) -> str:
    """The output that is the next value of an input which carries state."""
    return past.replace("past_key_values", "present").replace("past_", "present_")


def cache_shapes(session: Any, context: int, sequences: int = 1) -> dict[str, tuple[list[int], np.dtype]]:
    """Of every input that carries the state of some sequences, each with room for ``context`` tokens: shape and type.

    Raises:
        WorkError: the graph has sizes of another kind.
    """
    sizes: dict[Any, int] = {"batch_size": sequences, "past": context}
    past = [value for value in session.get_inputs() if value.name.startswith("past_")]
    unknown = {
        "one without a name" if size is None else str(size)
        for each in past
        for size in each.shape
        if size not in sizes and not (isinstance(size, int) and size >= 0)
    } | {each.type for each in past if each.type not in _TYPES}
    if unknown:
        raise WorkError(
            f"The graph has sizes or types that this engine does not know ({', '.join(sorted(unknown))}): another version "
            "wrote it.",
            next_command=_AGAIN,
        )
    return {
        each.name: ([sizes[size] if isinstance(size, str) else size for size in each.shape], _TYPES[each.type])
        for each in past
    }


def empty_cache(session: Any, context: int, sequences: int = 1) -> dict[str, np.ndarray]:
    """Zeros of these shapes.

    Raises:
        WorkError: the graph has sizes of another kind, or larger than any memory.
    """
    shapes = cache_shapes(session, context, sequences)
    try:
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()}
    except (ValueError, MemoryError):
        raise WorkError("The graph's cache is larger than any memory: it is damaged.", next_command=_AGAIN) from None


def prefill(session: Any, token_ids: list[int]) -> np.ndarray:
    """Logits [T, vocabulary] (float32) of one sequence from an empty cache.

    Raises:
        WorkError: the graph fails.
    """
    ids = np.array([token_ids], np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)} | empty_cache(session, 0)
    try:
        return np.asarray(session.run(["logits"], feeds)[0])[0]
    except Exception as error:  # onnxruntime has a class for each of its codes
        raise failed_run(error) from None
