"""Calls that the command and the API share."""

from pathlib import Path

from prune.plan.plan import Plan


def prune_any(model: Path, plan: Plan, output: Path | str, ragged: bool = False) -> Path:
    """Cut a checkpoint folder, or a GGUF file with a Modelfile beside it where the plan is of one pair."""
    if model.suffix == ".gguf":
        from export.gguf.modelfile import add_for_cut
        from prune.rewrite.gguf import cut_gguf

        path = cut_gguf(model, plan, output)
        add_for_cut(model, path, plan.pair)
        return path
    from prune.rewrite.checkpoint import prune

    return prune(model, plan, Path(output), ragged)
