"""The self-test that lies beside a graph: what it answers to a translation, for the engine to hold its own answer against.

It is computed with onnxruntime on the exporting machine, from the written files, but not by the kernels that an engine
uses: with the weights left in the file as they are, 4-bit products are computed in float32 from the dequantised weights,
so the self-test does not depend on this processor's integer kernels, and no more memory is needed than a mapped file.
That these answers are the model's own is what ``slimmoe verify`` shows, against transformers.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from runtime.engines.onnx_check import FORMAT, self_test_file
from runtime.engines.onnx_load import load_session, prefill
from runtime.errors import WorkError
from runtime.formats.files import new_file
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate

LENGTH, LIKELIEST = 16, 32  # tokens of the prompt, and logits kept for each
_SOURCE, _TARGET = "The file is open.", "Die Datei ist geöffnet."
# As shares of the spread of the logits. Measured on the default model: int8 activations move the median position by
# 0.007 (a random model's by 0.03), a wrong activation by 0.1, a wrong top-k by 0.2, nonsense by 1.
EXACT, QUANTISED = 1e-3, 0.08


def _prompt(folder: Path) -> list[int]:
    """The last tokens of a translation in the model's own chat template."""
    template, pair = ChatTemplate.from_folder(folder), Pair("en", "de")
    text = template.prompt(pair, _SOURCE) + template.completion(pair, _SOURCE, _TARGET)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids[-LENGTH:]


def write_self_test(graph: Path, folder: Path, exact: bool) -> None:
    """Write the self-test of ``graph``, beside it.

    Args:
        graph: a graph with its data file.
        folder: has its tokenizer and chat template.
        exact: all weights are float32, so that only the order of additions may differ elsewhere.

    Raises:
        WorkError: this onnxruntime cannot run the graph, what comes out is not finite, or the tokenizer is another's.
    """
    prompt, session = _prompt(folder), load_session(graph, threads=1, prepacked=False)
    vocabulary = next(value.shape[-1] for value in session.get_outputs() if value.name == "logits")
    if max(prompt) >= vocabulary:
        raise WorkError(f"The tokenizer has more tokens ({max(prompt)}) than the model's vocabulary ({vocabulary}).")
    logits = prefill(session, prompt)
    if not np.isfinite(logits).all():
        raise WorkError(f"onnxruntime {onnxruntime.__version__} computes logits that are not finite from {folder}.")
    tokens = np.argsort(-logits, axis=1, kind="stable")[:, :LIKELIEST]
    values = {
        "format": FORMAT,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "tolerance": EXACT if exact else QUANTISED,
        "prompt": prompt,
        "tokens": tokens.tolist(),
        "logits": [[float(f"{value:.6g}") for value in row] for row in np.take_along_axis(logits, tokens, 1)],
        "spread": [float(f"{value:.6g}") for value in logits.std(1)],
    }
    with new_file(self_test_file(graph)) as temporary:
        temporary.write_text(json.dumps(values) + "\n", encoding="utf-8")
