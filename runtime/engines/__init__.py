"""Engines run an artefact on the device. Two of them, one interface; what is built on top never asks which."""

from pathlib import Path

from runtime.engines.base import Engine, Generation
from runtime.errors import RequestError

__all__ = ["Engine", "Generation", "open_engine"]


def open_engine(artefact: Path, threads: int | None = None, context: int = 1024, exact: bool = False) -> Engine:
    """Load a GGUF file or an ONNX folder with the engine that runs it.

    Args:
        artefact: ``*.gguf``, an ONNX folder, or one ``*.onnx`` file inside such a folder's ``onnx/``.
        threads: default: the cores this process may use.
        context: tokens of prompt and output together that one sequence may have.
        exact: for comparisons: float32 KV cache and no flash attention.

    Raises:
        RequestError: there is no such artefact, or it is of neither kind.
        WorkError: it is damaged, or the engine's library is missing.
    """
    artefact = Path(artefact)
    if not artefact.exists():
        raise RequestError(f"There is no artefact {artefact}.", next_command="make export PAIR=en-de RATIO=0.75")
    if artefact.suffix == ".gguf":
        from runtime.engines.llama import LlamaEngine

        return LlamaEngine(artefact, threads, context, exact)
    if artefact.suffix == ".onnx" or (artefact / "onnx").is_dir():
        from runtime.engines.onnx import OnnxEngine

        return OnnxEngine(artefact, threads, context)
    raise RequestError(
        f"{artefact} is neither a .gguf file nor an ONNX folder.", next_command="slimmoe gguf DIR -o FILE.gguf"
    )
