"""Verify that what was written computes what it should: a cut checkpoint, a GGUF file or an ONNX folder.

Both models get the same text through their own chat templates and tokenizers, and every logit is compared; of a model with
fewer tokens, the logits of those that stay, on text that is in them. What is found is a record with its signature, for
``verify.json``.
"""

import contextlib
import hashlib
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from export.comparison import Comparison, Numbers, judge
from export.gguf_weights import byte_mismatch, router_mismatch
from export.model_runner import ModelRunner, run_artefact, run_checkpoint, run_masked_gguf
from export.verification import Verification, content_hash
from prune.checkpoint import Checkpoint
from prune.conversations import Conversation
from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.rewrite.shape import check_plan, groups_after
from prune.vocabulary.selection import kept_of
from runtime.engines.offload import ON_CPU, Offload
from runtime.errors import RequestError
from runtime.formats.files import scratch_folder
from runtime.formats.gguf_file import GgufFile
from runtime.formats.onnx_folder import graph_file
from runtime.formats.provenance import Provenance, gguf_provenance, read_provenance
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate

# The largest logit difference over the spread of the reference's logits. Measured reasons: docs/verification.md.
CUT_BAR = 1e-5  # cut against masked, in float64
SINGLE_BAR = 1e-4  # the same of models that transformers computes in float32 in part
EXACT_BAR = 2e-4  # unquantised artefact against its reference, in float32
SEGMENTS = 24


@dataclass(frozen=True)
class _Text:
    """What the models are compared on."""

    corpus: Path
    pair: Pair
    prompt: PromptTemplate  # the artefact's own, by which the other is asked as well

    @cached_property
    def segments(self) -> list[tuple[str, str]]:
        return read_segments(self.corpus, self.pair)[:SEGMENTS]


@dataclass(frozen=True)
class _Compared:
    """What ``_compare`` found: the engines' names, the numbers or why there are none, and conversations left out."""

    engine: str
    against_engine: str
    numbers: Numbers | str
    in_other_tokens: int = 0
    rounds: bool = False  # one of them


def _paired(
    found: list[Conversation], expected: list[Conversation], kept: list[int] | None
) -> tuple[list[tuple[int, Conversation]], str]:
    """Those of ``expected`` that both have, with their places in ``found``; and why the two do not agree, or nothing.

    With ``kept``, ids of the one are mapped to the other's, and conversations with tokens that went are left out.
    """
    numbers = {old: new for new, old in enumerate(kept or [])}

    def mapped(conversation: Conversation) -> Conversation | None:
        if kept is None:
            return conversation
        ids = [numbers.get(old, -1) for old in conversation.ids]
        return None if -1 in ids else Conversation(ids, conversation.prompt)

    # Not by their places: one that is too long for one of the tokenizers moves all that follow.
    wanted = [(each, old) for old in expected if (each := mapped(old))]
    pairs = [(found.index(new), old) for new, old in wanted if new in found]
    wrong = max(len(wanted) - len(pairs), len(found) - len(pairs) if kept is None else 0)
    if wrong:
        names = f"{wrong} of {max(len(found), len(expected))} conversations"
        return pairs, f"its tokenizer or chat template gives other token ids in {names}"
    return pairs, "" if pairs else "no conversation of this text is in tokens that stay alone"


def _compare(
    run: contextlib.AbstractContextManager[ModelRunner],
    reference: contextlib.AbstractContextManager[ModelRunner],
    text: _Text,
    kept: list[int] | None,
) -> _Compared:
    """One model is in memory at a time."""
    segments, comparison = text.segments, Comparison()
    with scratch_folder(Path(tempfile.gettempdir()) / "slimmoe-verify") as folder:
        files = [folder / f"{i}.npy" for i in range(len(segments))]
        with run as model:
            conversations = model.conversations(segments, text.pair, text.prompt)
            engine, rounds = model.engine, model.rounds
            for conversation, file in zip(conversations, files, strict=False):
                np.save(file, model.logits(conversation.ids))
        with reference as model:
            expected = model.conversations(segments, text.pair, text.prompt)
            pairs, reason = _paired(conversations, expected, kept)
            if reason:
                return _Compared(engine, model.engine, reason)
            for place, conversation in pairs:
                logits, found = model.logits(conversation.ids), np.load(files[place])
                if kept and kept[-1] >= logits.shape[1]:
                    return _Compared(engine, model.engine, f"it was cut from more than {logits.shape[1]} tokens")
                logits = logits[:, kept] if kept else logits
                if logits.shape != found.shape:
                    reason = f"it has {found.shape[1]} tokens, and not {logits.shape[1]}"
                elif not np.isfinite(found).all():
                    reason = "some of its logits are no numbers"
                elif not np.isfinite(logits).all():
                    reason = "some of the other's logits are no numbers"
                if reason:
                    return _Compared(engine, model.engine, reason)
                comparison.add(logits, found, conversations[place].ids)
            left_out, rounds = len(expected) - len(pairs), rounds or model.rounds
            return _Compared(engine, model.engine, comparison.numbers(), left_out, rounds)


def _verify(
    artefact: Path,
    against: Path,
    runs: tuple[contextlib.AbstractContextManager[ModelRunner], contextlib.AbstractContextManager[ModelRunner]],
    exact: float | None,
    text: _Text,
    fingerprint: str,
    plan: Plan | None = None,
    reason: str = "",
) -> Verification:
    found = _compare(*runs, text, kept_of(artefact, against))
    bar, numbers = "the same token ids", None
    if isinstance(found.numbers, str):
        reason = "; ".join(filter(None, (reason, found.numbers)))
    else:
        numbers = found.numbers
        passed, bar = judge(numbers, None if found.rounds else exact)
        reason = "; ".join(filter(None, (reason, "" if passed else f"the bar is {bar}")))
    lines = "\n".join(f"{a}\t{b}" for a, b in text.segments)
    return Verification(
        artefact=str(artefact),
        artefact_sha256=content_hash(artefact),
        against=str(against),
        against_sha256=content_hash(against),
        fingerprint=fingerprint,
        plan=plan.hash if plan else None,
        pair=str(text.pair),
        corpus=str(text.corpus),
        corpus_sha256=hashlib.sha256(lines.encode()).hexdigest(),
        segments=len(text.segments),
        in_other_tokens=found.in_other_tokens,
        engine=found.engine,
        against_engine=found.against_engine,
        numbers=numbers,
        bar=bar,
        reason=reason,
    )


def verify_cut(folder: Path, source: Path, text: _Text) -> Verification:
    """A cut checkpoint against its source with the same experts masked, both in float64 in plain transformers.

    In float32 the order of additions alone, which changes with the number of experts, comes near the bar. Where tokens alone
    were cut, none is masked.

    Raises:
        RequestError: ``folder`` carries no plan, or was fine-tuned since it was cut.
    """
    about, before = (read_provenance(each) or Provenance() for each in (folder, source))
    tokens_alone = about.hash == before.hash and about.vocabulary != before.vocabulary
    plan, checkpoint = None if tokens_alone else Plan.of_checkpoint(folder), Checkpoint(source)
    if about.recoveries != (before.recoveries if tokens_alone else ()):
        raise RequestError(f"{folder} was fine-tuned since it was cut, so it is no longer what {source} is.")
    if (plan.fingerprint if plan else Checkpoint(folder).fingerprint) != checkpoint.fingerprint:
        raise RequestError(f"{folder} was cut from another model ({about.model}), not from {source}.")
    runs = run_checkpoint(folder, "float64"), run_checkpoint(source, "float64", plan)
    bar = SINGLE_BAR if checkpoint.family.single_precision else CUT_BAR
    return _verify(folder, source, runs, bar, text, checkpoint.fingerprint, plan)


def _is_exact(artefact: Path) -> bool:
    """Whether all weights are float32, so that only the order of additions may differ."""
    if artefact.suffix == ".gguf":
        return all(tensor.type.name == "F32" for tensor in GgufFile(artefact).tensors.values())
    return graph_file(artefact).name == "model.onnx"


def verify_artefact(artefact: Path, folder: Path, text: _Text, offload: Offload | None) -> Verification:
    """A GGUF file or ONNX folder in its engine against the checkpoint it was made from, in float32 in transformers."""
    from export.gguf.convert import inexactness

    checkpoint = Checkpoint(folder)
    nearly = artefact.suffix == ".gguf" and inexactness(checkpoint)
    runs = run_artefact(artefact, offload), run_checkpoint(folder, "float32")
    bar = EXACT_BAR if _is_exact(artefact) and not nearly else None
    reason = router_mismatch(GgufModel(artefact), checkpoint) if artefact.suffix == ".gguf" else ""
    return _verify(artefact, folder, runs, bar, text, checkpoint.fingerprint, reason=reason)


def verify_gguf(artefact: Path, source: Path, text: _Text, plan: Plan | None, offload: Offload | None) -> Verification:
    """A GGUF file against another one, both in llama.cpp: a type of fewer bits against one of more, or, with a plan, a
    cut file against its source with the same experts masked, which the processor computes. Neither torch nor a checkpoint
    is needed.

    Raises:
        RequestError: the files have not the same experts and there is no plan, or it is not the one of the cut; the
            plan lowers a number that ``source`` gives by layer.
    """
    small, model = GgufModel(artefact), GgufModel(source)
    if plan is None and small.moe_layers != model.moe_layers:
        raise RequestError(
            f"{artefact} has other experts than {source}: the plan that tells which ones stayed is needed.",
            next_command=f"slimmoe verify {artefact} --against {source} --plan plan.json",
        )
    if plan is None:
        reason, reference = router_mismatch(small, model), run_artefact(source, ON_CPU)
    else:
        check_plan(model, plan)
        provenance = gguf_provenance(artefact, small.file.get)
        if provenance and provenance.recoveries:
            raise RequestError(
                f"{artefact} was fine-tuned since it was cut, so it is no longer what {source} is.",
                next_command=f"slimmoe verify {artefact} --against DIR   (the recovered checkpoint)",
            )
        cut_by = provenance.hash if provenance else ""
        if cut_by not in (None, plan.hash):
            raise RequestError(f"{artefact} was cut by the plan {cut_by}, and this one is {plan.hash}.")
        dropped = {layer.layer: sorted({*range(layer.experts)} - {*layer.keep}) for layer in plan.layers}
        numbers = {model.key("expert_used_count"): plan.top_k} if plan.top_k < model.top_k else {}
        if groups_after(model, plan) != model.groups:
            numbers[model.key("expert_group_count")] = 0
        if by_layer := [key for key in numbers if model.file.metadata[key].count is not None]:
            raise RequestError(
                f"{source} gives {by_layer[0]} by layer, in whose place llama.cpp takes no other number: its experts "
                "cannot be masked as this plan asks for.",
                next_command=f"slimmoe verify {artefact} --against DIR   (a checkpoint cut by the same plan)",
            )
        reason, reference = (
            byte_mismatch(small, model, plan, kept_of(artefact, source)),
            run_masked_gguf(source, dropped, numbers),
        )
    exact = EXACT_BAR if _is_exact(artefact) and _is_exact(source) else None
    run = run_artefact(artefact, offload)
    return _verify(artefact, source, (run, reference), exact, text, model.fingerprint, plan, reason)


def verify(
    artefact: Path,
    against: Path,
    corpus: Path,
    pair: Pair,
    plan: Path | None = None,
    offload: Offload | None = None,
) -> Verification:
    """Verify by what ``artefact`` is (a checkpoint folder, or an artefact of an engine) and what it is held against.

    Args:
        against: a checkpoint folder, or a GGUF file for a GGUF file.
        plan: by which experts of the GGUF file ``against`` are masked; a cut checkpoint carries its own.
        offload: what of ``artefact`` goes to a device; default: as ``open_engine`` chooses.
    """
    if not artefact.exists():
        raise RequestError(f"There is no artefact {artefact}.")
    text = _Text(corpus, pair, ChatTemplate.of(artefact).asking)
    if against.suffix == ".gguf":
        if artefact.suffix != ".gguf":
            raise RequestError(f"{artefact} is no GGUF file, and only one can be verified against {against}.")
        return verify_gguf(artefact, against, text, Plan.load(plan) if plan else None, offload)
    if plan is not None:
        raise RequestError("A plan is needed only where a GGUF file is verified against the GGUF file it was cut from.")
    is_checkpoint = (artefact / "config.json").exists() and not (artefact / "onnx").is_dir()
    return verify_cut(artefact, against, text) if is_checkpoint else verify_artefact(artefact, against, text, offload)
