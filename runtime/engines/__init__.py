"""Engines run an artefact on the device. Two of them, one interface; what is built on top never asks which."""

from dataclasses import replace
from pathlib import Path

from runtime.engines.base import Engine, Generation, NoRoom, PromptTooLong, Request
from runtime.engines.offload import Offload
from runtime.engines.threads import Threads, active_bytes, default_threads
from runtime.errors import RequestError
from runtime.formats.gguf_file import check_gguf
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
        offload: where it is computed. By default as much of a GGUF file as a GPU has memory for goes there; an ONNX folder
            stays on the processor.

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
    # Read once: a large vocabulary takes a while to pass.
    file = check_gguf(artefact) if artefact.suffix == ".gguf" else None
    chosen = Threads(threads, 1, "as asked for") if threads else default_threads(active_bytes(artefact, file))
    if file:
        from runtime.engines.llama import LlamaEngine

        engine = LlamaEngine(artefact, chosen.count, context, exact, offload=offload, file=file)
        if engine.placement.device:
            chosen = replace(chosen, workers=1)
    else:
        from runtime.engines.onnx import OnnxEngine

        device = None
        if offload and (offload.gpu_layers != "auto" or offload.cpu_experts != "auto"):
            raise RequestError(
                f"{artefact} is for ONNX Runtime, which cannot split a model by layers.",
                next_command="the same without --gpu-layers and --cpu-experts, or with a GGUF file",
            )
        if offload and offload.device.lower() not in ("auto", "cpu"):  # never by itself: it has run on no card yet
            from runtime.engines.onnx_device import find_onnx_device

            device = find_onnx_device(offload.device)
            chosen = replace(chosen, workers=1)
        engine = OnnxEngine(artefact, chosen.count, context, device)
    engine.thread_choice = chosen
    engine.template = engine.template.asked(prompt)
    return engine
