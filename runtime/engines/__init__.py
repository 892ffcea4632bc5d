"""Engines run an artefact on the device. Two of them, one interface; what is built on top never asks which."""

from dataclasses import replace
from pathlib import Path

from runtime.engines.base import Engine, Generation, NoRoom, PromptTooLong, Request
from runtime.engines.offload import Offload
from runtime.engines.threads import Threads, active_bytes, default_threads
from runtime.errors import RequestError
from runtime.text.prompt_templates import PromptTemplate

__all__ = ["Engine", "Generation", "NoRoom", "Offload", "PromptTooLong", "Request", "open_engine"]


def open_engine(
    artefact: Path,
    threads: int | None = None,
    context: int | None = None,
    exact: bool = False,
    prompt: PromptTemplate | None = None,
    offload: Offload | None = None,
) -> Engine:
    """Load a GGUF file or an ONNX folder with the engine that runs it.

    Args:
        artefact: ``*.gguf``, an ONNX folder, or one ``*.onnx`` file inside such a folder's ``onnx/``.
        threads: of one batch. By default chosen by what is free and what is faster, and with it how many batches are
            decoded side by side (``Engine.thread_choice``).
        context: tokens of prompt and output together that one sequence may have; default: as many as the model knows, with
            caches that grow with the texts.
        exact: for comparisons: float32 KV cache and no flash attention.
        prompt: how the model is asked; default: as the artefact says, or as is known of such a model.
        offload: what of a GGUF file goes to a GPU; default: as much as one has memory for.

    Raises:
        RequestError: there is no such artefact, it is of neither kind, or there is no such device for it.
        WorkError: it is damaged, or the engine's library is missing.
    """
    artefact = Path(artefact)
    if not artefact.exists():
        raise RequestError(f"There is no artefact {artefact}.", next_command="make export PAIR=en-de RATIO=0.75")
    if artefact.suffix != ".gguf" and artefact.suffix != ".onnx" and not (artefact / "onnx").is_dir():
        raise RequestError(
            f"{artefact} is neither a .gguf file nor an ONNX folder.", next_command="slimmoe gguf DIR -o FILE.gguf"
        )
    chosen = Threads(threads, 1, "as asked for") if threads else default_threads(active_bytes(artefact))
    if artefact.suffix == ".gguf":
        from runtime.engines.llama import LlamaEngine

        engine = LlamaEngine(artefact, chosen.count, context, exact, offload=offload)
        if engine.placement.device:
            chosen = replace(chosen, workers=1)
    else:
        from runtime.engines.onnx import OnnxEngine

        if offload and (offload.device.lower() not in ("auto", "cpu") or offload.gpu_layers not in ("auto", 0)):
            raise RequestError(
                f"{artefact} is for ONNX Runtime, which computes on the processor here.",
                next_command="the same with --device cpu, or with a GGUF file",
            )

        engine = OnnxEngine(artefact, chosen.count, context)
    engine.thread_choice = chosen
    engine.template = engine.template.asked(prompt)
    return engine
