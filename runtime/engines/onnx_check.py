"""The self-test on load: whether this onnxruntime, on this processor, answers as the exporter's did.

Beside each graph lies ``<graph>_test.json``: a prompt, and for each of its positions the logits of the tokens that are
most likely there. The engine computes them anew, through the very kernels, cache and threads that it will translate
with: a prefill of the first half, and the rest token by token.

How far it is off is the root mean square of the differences at one position, as a share of the standard deviation of
all logits there; the median over positions counts, since a router that is nearly undecided may choose another expert
for a token on another processor. What that finds, and what it cannot find: docs/peers.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, TypedDict

import numpy as np

from runtime.errors import WorkError
from runtime.formats.json_object import read_object
from runtime.formats.typed_json import Within, mismatch

FORMAT = "slimmoe-self-test/1"
_TokenId = Annotated[int, Within(0, 1 << 31)]


def self_test_file(graph: Path) -> Path:
    """Where the self-test of a graph lies."""
    return graph.with_name(f"{graph.name}_test.json")


class _Fields(TypedDict):
    format: str
    runtime: str
    tolerance: float
    prompt: list[_TokenId]
    tokens: list[list[_TokenId]]
    logits: list[list[float]]
    spread: list[float]


@dataclass(frozen=True)
class SelfTest:
    """What a graph answers.

    ``logits`` [T, K] (float32) are those of ``tokens`` [T, K] after each of the T tokens of ``prompt``, ``spread`` [T]
    is the standard deviation of all logits there, and ``tolerance`` the largest deviation that passes.
    """

    runtime: str  # what computed it: "onnxruntime 1.32.0"
    tolerance: float
    prompt: list[int]
    tokens: np.ndarray
    logits: np.ndarray
    spread: np.ndarray

    @classmethod
    def load(cls, path: Path) -> "SelfTest":
        """Read a self-test.

        Raises:
            WorkError: it is damaged.
        """
        try:
            values = read_object(path)
            if why := mismatch(values, _Fields, "it"):
                raise ValueError(why)
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            for name, dtype in (("tokens", np.int64), ("logits", np.float32), ("spread", np.float32)):
                values[name] = np.array(values[name], dtype)
            test = cls(**values)
            lengths = {len(each) for each in (test.prompt, test.tokens, test.spread)}
            if test.tokens.shape != test.logits.shape or len(lengths) != 1:
                raise ValueError("lengths differ")
            if not (test.spread > 0).all():
                raise ValueError("a spread is not above 0")
        except WorkError as error:
            raise WorkError(error.sentence, next_command=f"rm {path}   (the graph then loads unchecked)") from None
        except (ValueError, TypeError) as error:
            raise WorkError(
                f"{path} is not a self-test ({error}).", next_command=f"rm {path}   (the graph then loads unchecked)"
            ) from None
        return test

    def deviation(self, first: int, rows: np.ndarray) -> float:
        """Of logits [N, vocabulary] from position ``first`` on: the median deviation, as a share of the spread."""
        places = slice(first, first + len(rows))
        chosen = np.take_along_axis(rows, self.tokens[places], 1)
        difference = chosen.astype(np.float64) - self.logits[places]  # float32 does not hold the square of 1e38
        found = np.sqrt((difference**2).mean(1)) / self.spread[places]
        if np.isnan(found).any():
            return float("nan")
        found.sort()  # np.median would load numpy.ma, a twentieth of a start
        return float(found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


class Tested(Protocol):
    """What a self-test needs of an engine."""

    name: str
    context: int
    where: str

    def logits(self, token_ids: Sequence[int]) -> np.ndarray: ...

    def decoded_logits(self, before: Sequence[int], after: Sequence[int]) -> np.ndarray: ...


def run_self_test(path: Path, engine: Tested) -> None:
    """Hold a loaded graph against its self-test; one without a self-test passes.

    Raises:
        WorkError: it answers otherwise, or the self-test is damaged.
    """
    if not self_test_file(path).exists():
        return
    test = SelfTest.load(self_test_file(path))
    prompt = test.prompt[: engine.context]
    half = len(prompt) // 2
    before, after = prompt[:half], prompt[half:]
    try:
        found = test.deviation(0, engine.logits(before)), test.deviation(half, engine.decoded_logits(before, after))
    except IndexError:
        found = float("nan"), float("nan")  # the vocabulary is another one
    if all(each <= test.tolerance for each in found):  # false for NaN
        return
    sentence = (
        f"{engine.name} answers otherwise with {path} than {test.runtime} did when it was written: its logits are off "
        f"by {max(found):.2g} of their spread"
    )
    if engine.where:
        sentence = f"{sentence} ({test.tolerance:g} is allowed): {engine.where.split()[0]} computes it wrongly."
        raise WorkError(sentence, next_command="the same with --device cpu")
    if engine.name != test.runtime:
        remedy = f"pip install {test.runtime.replace(' ', '==')}"
        raise WorkError(f"{sentence} ({test.tolerance:g} is allowed).", next_command=remedy)
    raise WorkError(
        f"{sentence} ({test.tolerance:g} is allowed): its data file is damaged, onnxruntime is wrong on this CPU, or the model's "
        "answers hang on how this CPU rounds, as with random weights.",
        next_command=f"rm {path}* && slimmoe onnx DIR -o {path.parent.parent}",
    )
