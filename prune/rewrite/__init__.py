"""Pruning itself: a model is written again without the experts that a plan drops, and without the tokens that go."""

from pathlib import Path

from prune.plan.plan import Plan
from prune.rewrite.checkpoint import prune_checkpoint
from prune.rewrite.gguf import prune_gguf
from prune.vocabulary.selection import Selection
from runtime.errors import RequestError


def prune(
    source: Path,
    plan: Plan | None,
    output: Path | str,
    ragged: bool = False,
    text_only: bool = False,
    vocabulary: Selection | None = None,
) -> Path:
    """Write a checkpoint folder or a GGUF file without the experts that ``plan`` drops; returns what is written.

    All else stays byte for byte, and the types of all tensors stay. A plan with different counts by layer is padded to
    the largest with experts that are never chosen.

    Args:
        plan: None keeps all experts, for ``vocabulary`` alone.
        output: a new folder for a checkpoint; for a GGUF file a file name, or a folder (one that is there, or a name with a
            slash at its end) for a file that is named by the source, the pair and the share that is cut.
        ragged: do not pad: write each layer with its own count, for ONNX and ``prune.loading.load_model`` alone.
        text_only: leave vision and audio parts of a checkpoint out: a causal language model is written.
        vocabulary: the tokens that stay; None: as ``plan`` says, or all.

    Raises:
        RequestError: there is no such model, the plan does not fit it, ``output`` holds something already, or the embedding
            is stored in a way in which no tokens can be cut.
        WorkError: the source is damaged or holds tensors that no rule describes, or the disk is full.
    """
    source = Path(source)
    if vocabulary is None and plan and plan.vocabulary:
        vocabulary = Selection.from_dict(plan.vocabulary)
    if source.is_dir() or (source.suffix != ".gguf" and not source.exists()):
        return prune_checkpoint(source, plan, Path(output), ragged, text_only, vocabulary)
    if ragged or text_only:
        option = "has one count of experts for all layers: --ragged" if ragged else "holds no other part: --text-only"
        raise RequestError(
            f"{source} is a GGUF file, which {option} is for checkpoints.",
            next_command=f"slimmoe prune {source} --plan plan.json -o FILE.gguf",
        )
    return prune_gguf(source, plan, output, vocabulary)
