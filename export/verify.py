"""Verify that what was written computes what it should: a cut checkpoint, a GGUF file or an ONNX folder."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, read_conversations
from prune.model import load_model, masked
from prune.plan import Plan
from runtime.corpus import read_segments
from runtime.engines import open_engine
from runtime.errors import RequestError
from runtime.pairs import Pair

CUT_BAR = 1e-5  # largest logit difference, cut against masked
EXACT_BAR = 1e-4  # largest logit difference, unquantised artefact against transformers in float32
LOSS_BAR = 0.25  # most of the reference's information that a quantised artefact may lose
SEGMENTS = 24


@dataclass(frozen=True)
class Verification:
    """How far an artefact's logits are from the reference's, over all tokens of some conversations."""

    artefact: str
    against: str
    tokens: int
    largest_difference: float  # of any logit
    top1_agreement: float  # share of tokens with the same most likely next token
    divergence: float  # mean Kullback-Leibler divergence from the reference, nats per token
    information: float  # what the reference's predictions tell beyond their own average, nats per token
    bar: str
    passed: bool


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _compare(
    artefact: Path, against: Path, pairs: list[tuple[np.ndarray, np.ndarray]], exact: float | None
) -> Verification:
    """Judge ``pairs`` of (reference, artefact) logits [T, V].

    ``exact`` bounds the difference of any logit. Where it is None, weights were quantised, and the bar is on the
    divergence as a share of the reference's own information: the mean divergence of its predictions from their average
    (the mutual information of position and next token). A graph that computes something else loses most of it, whether
    the model is sure of itself or not.
    """
    largest = max(float(np.abs(a - b).max()) for a, b in pairs)
    tokens = sum(len(a) for a, _ in pairs)
    agreement = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs) / tokens
    divergence = negative_entropy = 0.0
    total: np.ndarray | float = 0.0
    for reference, other in pairs:
        log_p, log_q = _log_softmax(reference.astype(np.float64)), _log_softmax(other.astype(np.float64))
        p = np.exp(log_p)
        divergence += float((p * (log_p - log_q)).sum()) / tokens
        negative_entropy += float((p * log_p).sum()) / tokens
        total = total + p.sum(0)
    average = total / tokens
    information = negative_entropy - float((average * np.log(np.maximum(average, 1e-300))).sum())
    if exact is not None:
        passed, bar = largest <= exact, f"largest logit difference <= {exact:g}"
    else:
        passed, bar = divergence <= LOSS_BAR * information, f"divergence <= {LOSS_BAR:.0%} of {information:.2f} nats"
    return Verification(
        str(artefact), str(against), tokens, largest, round(agreement, 4), round(divergence, 6), round(information, 4),
        bar, passed,
    )  # fmt: skip


def _conversations(folder: Path, corpus: Path, pair: Pair) -> list[Conversation]:
    return read_conversations(folder, read_segments(corpus, pair)[:SEGMENTS], pair)


@torch.inference_mode()
def _logits(model: torch.nn.Module, conversation: Conversation) -> np.ndarray:
    return model(input_ids=torch.tensor([conversation.ids]), use_cache=False).logits[0].numpy()


def verify_cut(folder: Path, source: Path, corpus: Path, pair: Pair) -> Verification:
    """A cut checkpoint against its source with the same experts masked, both in float64 in plain transformers.

    In float32 the order of additions alone, which changes with the number of experts, comes near the bar.

    Raises:
        RequestError: ``folder`` carries no plan, or was fine-tuned since it was cut.
    """
    plan, checkpoint = Plan.load(folder / "slimmoe.json"), Checkpoint(source)
    if plan.fingerprint != checkpoint.fingerprint:
        raise RequestError(f"{folder} was cut from another model ({plan.model}), not from {source}.")
    conversations = _conversations(folder, corpus, pair)
    cpu = torch.device("cpu")
    small = load_model(folder, cpu, torch.float64)
    results = [_logits(small, conversation) for conversation in conversations]
    del small
    model = load_model(source, cpu, torch.float64)
    with masked(model, checkpoint, plan):
        references = [_logits(model, conversation) for conversation in conversations]
    return _compare(folder, source, list(zip(references, results, strict=True)), CUT_BAR)


def _is_exact(artefact: Path) -> bool:
    """Whether all weights are float32, so that only the order of additions may differ."""
    if artefact.suffix == ".gguf":
        from gguf import GGMLQuantizationType, GGUFReader

        return all(tensor.tensor_type == GGMLQuantizationType.F32 for tensor in GGUFReader(artefact).tensors)
    file = artefact if artefact.suffix == ".onnx" else next((artefact / "onnx").glob("*.onnx"))
    return file.name == "model.onnx"


def verify_artefact(artefact: Path, folder: Path, corpus: Path, pair: Pair) -> Verification:
    """A GGUF file or ONNX folder in its engine against the checkpoint it was made from, in float32 in transformers."""
    conversations = _conversations(folder, corpus, pair)
    bar = EXACT_BAR if _is_exact(artefact) else None
    with contextlib.closing(open_engine(artefact, exact=True)) as engine:
        results = [engine.logits(conversation.ids) for conversation in conversations]
    model = load_model(folder, torch.device("cpu"), torch.float32)
    references = [_logits(model, conversation) for conversation in conversations]
    return _compare(artefact, folder, list(zip(references, results, strict=True)), bar)


def verify(artefact: Path, against: Path, corpus: Path, pair: Pair) -> Verification:
    """Verify by what ``artefact`` is: a checkpoint folder, or an artefact of an engine."""
    if not artefact.exists():
        raise RequestError(f"There is no artefact {artefact}.")
    is_checkpoint = (artefact / "config.json").exists() and not (artefact / "onnx").is_dir()
    return (verify_cut if is_checkpoint else verify_artefact)(artefact, against, corpus, pair)
