"""What a path that a user gives is: each kind of model lies on disk in a way of its own."""

from pathlib import Path
from typing import Literal

from runtime.formats.model_folder import CONFIG

Kind = Literal["gguf", "onnx", "checkpoint", "adapter", "safetensors", "file", "folder", "nothing"]
_GGUF_MAGIC = b"GGUF"


def kind_of(path: Path) -> Kind:
    """``folder`` and ``file`` are others than the kinds with a name; ``adapter`` is a LoRA without its base."""
    if path.is_dir():
        if (path / "onnx").is_dir():
            return "onnx"
        if (path / CONFIG).exists():
            return "checkpoint"
        return "adapter" if (path / "adapter_config.json").exists() else "folder"
    if path.suffix == ".gguf":
        return "gguf"
    if not path.exists():
        return "nothing"
    if path.suffix in (".onnx", ".safetensors"):
        return "onnx" if path.suffix == ".onnx" else "safetensors"
    return "gguf" if path.is_file() and _starts_with(path, _GGUF_MAGIC) else "file"


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def snapshot_of(folder: Path) -> Path:
    """The folder itself, or of a repository in Hugging Face's cache (``models--organisation--name``) its snapshot.

    The one that ``refs/main`` names, or the newest.
    """
    snapshots = folder / "snapshots"
    if not folder.name.startswith("models--") or not snapshots.is_dir():
        return folder
    main = folder / "refs" / "main"
    if main.is_file() and main.stat().st_size < 256:
        named = snapshots / main.read_text(encoding="utf-8", errors="replace").strip()
        if named.parent == snapshots and named.is_dir():
            return named
    found = sorted((each for each in snapshots.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)
    return found[-1] if found else folder
