"""LoRA adapters: a folder of one is merged with its base model, since only a whole model can be calibrated and cut."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_folder, require_space
from runtime.formats.json_object import read_object
from runtime.formats.quantised import plain_config

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MERGED = "merged_adapter.json"  # in the merged folder: of what it was made
_log = logging.getLogger(__name__)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter, beside a model or alone."""
    config, weights = (folder / CONFIG).exists(), (folder / WEIGHTS).exists()
    return config and (weights or not (folder / "config.json").exists())


def merged_model(adapter: Path, output: Path) -> Path:
    """The base of an adapter with the adapter merged into its weights, as the checkpoint folder ``output``.

    A folder that is there already is taken if it was made of the same adapter and base.

    Raises:
        RequestError: not LoRA, its base is not at hand or does not fit into memory, or ``output`` is something else.
        WorkError: the adapter is damaged or incomplete, or has parts that the base has no place for.
    """
    config = read_object(adapter / CONFIG)
    if config.get("peft_type") != "LORA":
        raise RequestError(
            f"{adapter} is an adapter of the kind {config.get('peft_type')}; only LoRA is merged: merge it with PEFT first."
        )
    if not (adapter / WEIGHTS).exists():
        raise WorkError(f"{adapter} is incomplete: it has {CONFIG}, and no {WEIGHTS}.")
    base = _base(adapter, config)
    made_of = {"base": str(base), "sha256": hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()}
    if (output / _MERGED).exists() and read_object(output / _MERGED) == made_of:
        return output
    _log.warning(f"{adapter} is a LoRA adapter: it is merged with {base} into {output}.")
    _merge(adapter, base, output, made_of)
    return output


def _base(adapter: Path, config: dict[str, Any]) -> Path:
    """The folder of the base model that the adapter's config names, which may lie in Hugging Face's cache."""
    name = str(config.get("base_model_name_or_path") or "")
    for path in (adapter / name, Path(name)):
        if name and (path / "config.json").exists():
            return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # whatever the reason: it is not at hand
        raise RequestError(
            f"{adapter} is a LoRA adapter, and its base model {name or '(not named)'} is not at hand.",
            next_command=f"hf download {name or 'BASE'}   (then the same command again)",
        ) from None


def _merge(adapter: Path, base: Path, output: Path, made_of: dict[str, str]) -> None:
    import torch
    from peft import PeftModel
    from safetensors import safe_open

    from prune.checkpoint import Checkpoint
    from prune.device import lacks_memory
    from prune.loading import load_model
    from prune.rewrite.checkpoint import side_files

    checkpoint, device = Checkpoint(base), torch.device("cpu")
    if why := lacks_memory(checkpoint, device, torch.float32):
        raise RequestError(f"{adapter} cannot be merged with {base} here: {why}.")
    dtype = getattr(torch, str(checkpoint.config.get("dtype", checkpoint.config.get("torch_dtype", "bfloat16"))))
    require_space(output, checkpoint.weights * dtype.itemsize)
    try:
        model: Any = PeftModel.from_pretrained(load_model(base, device, torch.float32), str(adapter))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WorkError(
            f"{adapter} does not fit {base} in this version of transformers ({str(error).splitlines()[0][:200]})."
        ) from None
    with safe_open(adapter / WEIGHTS, "pt") as file:
        stored = set(file.keys())
    there = {name.replace(".default", "") for name in model.state_dict()}
    if lost := sorted(name for name in stored if name not in there):
        raise WorkError(f"{adapter} has {len(lost)} tensors that {base} has no place for: {', '.join(lost[:3])}.")
    merged = model.merge_and_unload()
    with new_folder(output) as temporary:
        merged.to(dtype).save_pretrained(temporary, max_shard_size="2GB")
        for path in side_files(base):
            shutil.copyfile(path, temporary / path.name)
        (temporary / "config.json").write_text(json.dumps(plain_config(checkpoint.config), indent=2) + "\n", "utf-8")
        (temporary / _MERGED).write_text(json.dumps(made_of) + "\n", encoding="utf-8")
