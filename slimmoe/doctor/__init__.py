"""What will work with a model, told from its headers, config, chat template and tokenizer alone, in seconds."""

from pathlib import Path

from runtime.errors import RequestError
from runtime.formats.artefact import find_artefact
from runtime.formats.kinds import Kind, kind_of
from runtime.formats.store import stored_folder
from runtime.machine import memory_left
from runtime.text.pairs import Pair
from slimmoe.doctor.diagnosis import Diagnosis, Notes

RATIO = 0.75  # of the cut that memory is told for, the default of ``slimmoe export``


def diagnose(model: str, pair: Pair, ratio: float = RATIO) -> Diagnosis:
    """Read what tells how a model will fare; no weights, and nothing is run.

    Args:
        model: a folder, a GGUF file, the folder of a run, a stored model's name, or a Hugging Face id whose files are
            in the cache.
        pair: for the prompt, where the model was not cut for another.
        ratio: of the cut whose memory is told.

    Raises:
        RequestError: there is no such model here.
    """
    from prune.hub import resolve_model

    path = Path(model)
    if not path.exists() and stored_folder(model):
        path = find_artefact(path)
    elif not path.exists() and path.suffix != ".gguf":
        path = resolve_model(model, local=True)
    elif path.is_dir():
        path = resolve_model(model)
    kind, notes = kind_of(path), Notes()
    if kind == "folder":
        with notes.problem_if_refused():
            path = find_artefact(path)
            kind = kind_of(path)
    if kind in ("gguf", "onnx"):
        from slimmoe.doctor.artefacts import read_gguf, read_onnx

        if kind == "gguf":
            read_gguf(path, pair, ratio, notes)
        else:
            read_onnx(path, pair, notes)
    elif kind == "checkpoint":
        from slimmoe.doctor.checkpoint import read_checkpoint

        read_checkpoint(path, pair, ratio, notes)
    elif not notes.problems:
        with notes.problem_if_refused():
            _refuse(path, kind)
    if notes.facts.get("memory"):
        notes.facts["memory"]["left"] = memory_left()
    if notes.problems:
        notes.facts.pop("commands", None)
    return Diagnosis(str(path), kind, problems=tuple(notes.problems), **notes.facts)


def _refuse(path: Path, kind: Kind) -> None:
    if kind == "adapter":
        raise RequestError(
            f"{path} is a LoRA adapter without its base model: merge the two, and take what comes out.",
            next_command="peft's merge_and_unload, then save_pretrained",
        )
    if kind == "safetensors":
        raise RequestError(f"{path} is one file of a checkpoint.", next_command=f"slimmoe doctor {path.parent}")
    raise RequestError(f"{path} is no model that slimmoe reads.", next_command="slimmoe doctor models/default")
