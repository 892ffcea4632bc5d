"""The self-test that lies beside a graph: what it answers to a translation, for the engine to hold its own answer against.

It is computed with onnxruntime on the exporting machine, from the written files, but not by the kernels that an engine
uses: with the weights left in the file as they are, 4-bit products are computed in float32 from the dequantised weights,
so the self-test does not depend on this processor's integer kernels, and no more memory is needed than a mapped file.
How far the engine's own kernels, which round activations to 8 bits, are off depends on the model. It is measured here
where memory has room for the weights, and a few times as much is allowed.
That these answers are the model's own is what ``slimmoe verify`` shows, against transformers.
"""

import json
import logging
from pathlib import Path

import numpy as np
import onnxruntime

from runtime.engines.onnx_check import FORMAT, SelfTest, self_test_file
from runtime.engines.onnx_load import load_session, prefill
from runtime.errors import WorkError
from runtime.formats.artefact import files_of
from runtime.formats.files import new_file
from runtime.machine import memory_left
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from runtime.text.tokenizer_file import load_tokenizer

_ROOM = 2.5  # memory that a session takes beside what it maps, per byte of its files
_log = logging.getLogger(__name__)
LENGTH, LIKELIEST = 16, 32  # tokens of the prompt, and logits kept for each
_SOURCE, _TARGET = "The file is open.", "Die Datei ist geöffnet."
# As shares of the spread of the logits. Measured on the default model: int8 activations move the median position by
# 0.007 (a random model's by 0.03), a wrong activation by 0.1, a wrong top-k by 0.2, nonsense by 1.
EXACT, QUANTISED = 1e-3, 0.08
ALLOWED = 3.0  # times what the engine's kernels are off here, where that is more than QUANTISED
MOST = 0.7  # of which nonsense is well above


def _prompt(folder: Path) -> list[int]:
    """The last tokens of a translation in the model's own chat template."""
    template, pair = ChatTemplate.from_folder(folder), Pair("en", "de")
    text = template.prompt(pair, _SOURCE) + template.completion(pair, _SOURCE, _TARGET)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return tokenizer.encode(text, add_special_tokens=False).ids[-LENGTH:]


def _off(test: SelfTest, logits: np.ndarray) -> float:
    """How far the logits [T, vocabulary] of the prompt are off, in the half where they are further."""
    half = len(logits) // 2
    return max(test.deviation(0, logits[:half]), test.deviation(half, logits[half:]))


def write_self_test(graph: Path, folder: Path, exact: bool) -> None:
    """Write the self-test of ``graph``, beside it.

    Args:
        graph: a graph with its data file.
        folder: has its tokenizer and chat template.
        exact: all weights are float32, so that only the order of additions may differ elsewhere.

    A model whose answers hang so much on rounding that no bar tells it from nonsense, as some of random weights do, gets no
    self-test, and that is told.

    Raises:
        WorkError: this onnxruntime cannot run the graph, what comes out is not finite, or the tokenizer is another's.
    """
    prompt, session = _prompt(folder), load_session(graph, threads=1, prepacked=False)
    vocabulary = next(value.shape[-1] for value in session.get_outputs() if value.name == "logits")
    if max(prompt) >= vocabulary:
        raise WorkError(f"The tokenizer has the id {max(prompt)}, and the model's vocabulary {vocabulary} tokens.")
    logits = prefill(session, prompt)
    if not np.isfinite(logits).all():
        raise WorkError(f"onnxruntime {onnxruntime.__version__} computes logits that are not finite from {folder}.")
    tokens = np.argsort(-logits, axis=1, kind="stable")[:, :LIKELIEST]
    del session
    runtime, answers = f"onnxruntime {onnxruntime.__version__}", np.take_along_axis(logits, tokens, 1)
    tolerance = EXACT if exact else QUANTISED
    if not exact and sum(file.stat().st_size for file in files_of(graph)) * _ROOM < memory_left():
        test = SelfTest(runtime, tolerance, prompt, tokens, answers, logits.std(1))
        found = ALLOWED * _off(test, prefill(load_session(graph, threads=1), prompt))
        if found > ALLOWED * MOST:
            _log.warning(f"{graph.name} gets no self-test: its answers hang on how activations are rounded.")
            return
        tolerance = float(f"{min(max(tolerance, found), MOST):.2g}")
    values = {
        "format": FORMAT,
        "runtime": runtime,
        "tolerance": tolerance,
        "prompt": prompt,
        "tokens": tokens.tolist(),
        "logits": [[float(f"{value:.6g}") for value in row] for row in answers],
        "spread": [float(f"{value:.6g}") for value in logits.std(1)],
    }
    with new_file(self_test_file(graph)) as temporary:
        temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")
