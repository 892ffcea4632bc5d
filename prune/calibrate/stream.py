"""Calibration of models larger than memory: one decoder layer's weights at a time, hidden states on disk.

Any decoder of transformers streams as it is. The model is built without weights, and its own forward runs for every
layer and batch, so that masks, position embeddings and whatever else a layer is given are right by construction; the
layers before the current one pass through, the current one gets its true input from disk, and then the pass is over.
"""

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging

from prune.architecture import class_of, config_of
from prune.batches import Batch
from prune.calibrate.observe import ROW_BYTES, Observer, experts_replaced
from prune.calibrate.one_by_one import FileExperts, Place, one_by_one, place_of_experts, renamed
from prune.calibrate.resume import Partial, start_afresh
from prune.checkpoint import Checkpoint
from prune.loading import STORED, LazyTensor, read_tensor, refusals_are_sentences
from runtime.errors import WorkError
from runtime.formats.files import new_file, require_space

FILES_FACTOR = 4  # as much of expert outputs at once
_M_MMAP_THRESHOLD = -3  # of mallopt, see malloc.h


class _Reached(Exception):
    """Ends a forward pass where we have what we want."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden


class LayerwiseModel:
    """A checkpoint as a model without weights, whose layers are loaded, run and freed one by one.

    Args:
        place: of the experts; ``prune.calibrate.one_by_one`` must compute those that are not in ``dtype`` in memory.

    ``files``: experts of the layer that are not in memory, by their module.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, place: Place = "computing"
    ) -> None:
        logging.disable_progress_bar()
        self.checkpoint, self.device, self.dtype, self.place = checkpoint, device, dtype, place
        self.files: dict[torch.nn.Module, FileExperts] = {}
        with refusals_are_sentences(checkpoint.folder), init_empty_weights(include_buffers=False):
            config = config_of(checkpoint)
            self.model: Any = class_of(checkpoint, config)._from_config(config, dtype=dtype).eval()
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        first = next(iter(checkpoint.moe_layers))
        self._prefix = checkpoint.module("experts", first).split(f".{first}.")[0]
        self.layers: Any = self.model.get_submodule(self._prefix)
        self._renamed = renamed(self.model, [*checkpoint.floats])
        self._names, self._outside = self._tensors_by_layer()
        self._at, self._hidden = -1, torch.empty(0)
        for i, layer in enumerate(self.layers):
            layer.forward = partial(self._layer_forward, i, layer.forward)

    def _tensors_by_layer(self) -> tuple[dict[int, list[str]], list[str]]:
        """Names in the checkpoint by layer, and of what the decoder has outside its layers."""
        decoder = self._prefix.rpartition(".")[0]
        inside: dict[int, list[str]] = {i: [] for i in range(len(self.layers))}
        outside = []
        for name, (target, _) in self._renamed.items():
            if target.startswith(f"{self._prefix}."):
                layer = int(target[len(self._prefix) + 1 :].split(".")[0])
                if layer in inside:  # some checkpoints carry further layers that transformers leaves out
                    inside[layer].append(name)
            elif target.startswith(f"{decoder}."):
                outside.append(name)
        return inside, outside

    def _load(self, names: list[str], as_stored: list[str]) -> None:
        """Load tensors by transformers' own rules; modules in ``as_stored`` keep the type of the largest of them."""
        checkpoint = self.checkpoint
        tensors = {name: checkpoint.floats[name] for name in names}
        stored = STORED[max(tensors.values(), key=lambda tensor: math.prod(tensor.shape)).dtype]
        state = {
            name: LazyTensor(checkpoint, name) if tensor.format else read_tensor(checkpoint, name)
            for name, tensor in tensors.items()
        }
        settings = LoadStateDictConfig(
            device_map={"": self.device},  # type: ignore[dict-item]
            dtype=self.dtype,
            dtype_plan=self.model._get_dtype_plan(self.dtype) | {f"{module}.*": stored for module in as_stored},
            weight_mapping=get_model_conversion_mapping(self.model),  # type: ignore[arg-type]
        )
        found, _ = convert_and_load_state_dict_in_model(self.model, state, settings)
        if found.conversion_errors or found.mismatched_keys:
            bad = [*found.conversion_errors, *(key for key, *_ in found.mismatched_keys)][0]
            raise WorkError(f"{self.checkpoint.folder}: {bad} does not have the shape that config.json says.")

    def _require(self, module: torch.nn.Module, name: str) -> None:
        elsewhere = {key for experts in self.files.values() for key in experts.parameters}
        missing = [
            key
            for key, parameter in module.named_parameters()
            if parameter.is_meta and f"{name}.{key}" not in elsewhere
        ]
        if missing:
            raise WorkError(f"{self.checkpoint.folder} is incomplete: it has no {name}.{missing[0]}.")

    def load_layer(self, i: int) -> None:
        """Read a layer's weights. Experts are merged in the type they are stored in, which halves the peak for bf16."""
        experts = [self.checkpoint.module("experts", i)] if i in self.checkpoint.moe_layers else []
        names = self._names[i]
        if self.place == "files" and experts:
            files = FileExperts(self.checkpoint, self.model, i, {name: self._renamed[name] for name in names})
            self.files[self.model.get_submodule(*experts)] = files
            names = [name for name in names if name not in files.tensors]
        self._load(names, experts)
        self._require(self.layers[i], f"{self._prefix}.{i}")
        for name in experts if self.place == "computing" else []:
            self.model.get_submodule(name).to(self.dtype)

    def free_layer(self, i: int) -> None:
        self.files.clear()
        self.layers[i].to("meta")

    def embed(self, batches: list[Batch]) -> Iterator[torch.Tensor]:
        """What the first layer is given for each batch, [B, T, H]. The embedding is read in place, row by row."""
        embedding = self.model.get_input_embeddings()
        path = next(name for name, module in self.model.named_modules() if module is embedding)
        self._load(self._outside, [path])
        self._require(embedding, path)
        hook = embedding.register_forward_hook(lambda module, args, output: output.to(self.dtype))
        for batch in batches:
            yield self.run(-1, batch, torch.empty(0))
        hook.remove()
        embedding.to("meta")

    def skip_embedding(self, width: int) -> None:
        """From now on hidden states come from disk; only their shape matters to the model's forward."""
        embedding = self.model.get_input_embeddings()
        embedding.forward = lambda ids: torch.zeros((*ids.shape, width), dtype=self.dtype, device=ids.device)

    def run(self, i: int, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """Layer ``i`` on its input ``hidden`` [B, T, H]; for -1, what the first layer is given."""
        self._at, self._hidden = i, hidden
        try:
            self.model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        except _Reached as reached:
            return reached.hidden
        raise AssertionError(f"layer {i} was not called")

    def _layer_forward(self, i: int, original: Callable, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if i < self._at:
            return hidden_states
        if self._at < 0:
            raise _Reached(hidden_states)
        output = original(self._hidden, *args, **kwargs)
        raise _Reached(output[0] if isinstance(output, tuple) else output)


def stream_sums(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    batches: list[Batch],
    folder: Path,
    key: dict[str, Any],
    advance: Callable[[float], Any],
) -> dict[int, torch.Tensor]:
    """The sums of Observer, by layer, with hidden states kept in ``folder``; goes on at the layer where a run stopped.

    Args:
        key: of prune.calibrate.resume.Partial.
        advance: told after each batch how many tokens' worth of the whole work is done.

    Raises:
        RequestError, WorkError: see LayerwiseModel; a weight that is not a number.
    """
    _give_freed_memory_back()
    # Experts that take all tokens at once cannot be computed one by one.
    place = "computing" if checkpoint.family.modules.scaled_inputs else place_of_experts(checkpoint, device, dtype)
    model = LayerwiseModel(checkpoint, device, dtype, place)
    partial_sums, count = Partial(folder / "sums", key), len(model.layers)
    width = checkpoint.config.get("hidden_size") or model.model.get_input_embeddings().embedding_dim
    shapes = [(*batch.ids.shape, width) for batch in batches]
    size = sum(int(np.prod(shape)) for shape in shapes) * dtype.itemsize
    tokens = [int(batch.mask.sum()) / count for batch in batches]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as reader, torch.inference_mode():
        if place != "computing":
            stack.enter_context(experts_replaced(model.model, partial(one_by_one, model.files)))
        # Experts that are read each time they are needed are needed less often by more tokens at once.
        rows = ROW_BYTES * (FILES_FACTOR if place == "files" else 1)
        observer = stack.enter_context(Observer(model.model, checkpoint, device, rows))
        start = observer.resume(partial_sums)
        advance(start * sum(tokens))
        if start == 0:
            start_afresh(folder)
            require_space(folder, 2 * size)
            with new_file(_hidden_file(folder, 0)) as path, path.open("wb") as file:
                for hidden in model.embed([batch.to(device) for batch in batches]):
                    _write(file, hidden)
        model.skip_embedding(width)
        ready = {start: reader.submit(model.load_layer, start)} if start < count else {}
        for i in range(start, count):
            if i in ready:
                ready.pop(i).result()
            else:
                model.load_layer(i)
            if i + 1 < count and place == "computing":
                ready[i + 1] = reader.submit(model.load_layer, i + 1)
            with (
                _hidden_file(folder, i).open("rb") as source,
                new_file(_hidden_file(folder, i + 1)) as path,
                path.open("wb") as target,
            ):
                for batch, shape, share in zip(batches, shapes, tokens, strict=True):
                    here = batch.to(device)
                    observer.begin(here)
                    hidden = model.run(i, here, _read(source, shape, dtype).to(device))
                    _write(target, hidden)
                    advance(share)
            model.free_layer(i)
            observer.require_numbers()
            observer.save(partial_sums, i + 1)
            _hidden_file(folder, i).unlink()
    return observer.sums


def _give_freed_memory_back() -> None:
    """Ask glibc to return every freed block over 1 MB at once.

    Left to itself it keeps blocks of up to 32 MB for reuse; between the layers' tensors these grow to more than a layer.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library has no such habit
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _hidden_file(folder: Path, layer: int) -> Path:
    """The inputs of a layer: the batches' [B, T, H] one after the other, nothing else."""
    return folder / f"hidden-{layer}"


def _write(file: Any, hidden: torch.Tensor) -> None:
    hidden.cpu().contiguous().view(torch.uint8).numpy().tofile(file)


def _read(file: Any, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    values = np.fromfile(file, np.uint8, int(np.prod(shape)) * dtype.itemsize)
    return torch.from_numpy(values).view(dtype).view(shape)
