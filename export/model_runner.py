"""A model to be verified, or to verify against: its token ids and its logits, whatever runs it."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from prune.conversations import Conversation, make_conversations, read_conversations
from prune.plan.plan import Plan
from runtime.engines import Offload, open_engine
from runtime.errors import RequestError
from runtime.machine import usable_cores
from runtime.text.corpus import Segments
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate


class ModelRunner(Protocol):
    """A model that can be run."""

    engine: str  # name, version and how it computes
    rounds: bool  # products of float32 too, as kernels of a GPU may: then no bar of single logits holds

    def conversations(self, segments: Segments, pair: Pair, prompt: PromptTemplate) -> list[Conversation]:
        """By the model's own chat template and tokenizer, asked by ``prompt``."""
        ...

    def logits(self, token_ids: list[int]) -> np.ndarray:
        """Logits [T, vocabulary]."""
        ...


class _CheckpointRunner:
    """The model is loaded for the first logits: token ids need none."""

    rounds = False

    def __init__(self, folder: Path, dtype_name: str, plan: Plan | None) -> None:
        import transformers

        self.engine = f"transformers {transformers.__version__}, {dtype_name}"
        self._folder, self._dtype_name, self._plan, self._model = folder, dtype_name, plan, None
        self._stack = contextlib.ExitStack()

    def conversations(self, segments: Segments, pair: Pair, prompt: PromptTemplate) -> list[Conversation]:
        return read_conversations(self._folder, segments, pair, prompt=prompt)

    def logits(self, token_ids: list[int]) -> np.ndarray:
        import torch

        from prune.checkpoint import Checkpoint
        from prune.device import lacks_memory
        from prune.loading import load_model
        from prune.rewrite.masked import masked

        if self._model is None:
            device, dtype = torch.device("cpu"), getattr(torch, self._dtype_name)
            checkpoint = Checkpoint(self._folder)
            if why := lacks_memory(checkpoint, device, dtype):
                raise RequestError(
                    f"{self._folder} cannot be run in {self._dtype_name}: {why}.",
                    next_command="make export ... VERIFY=no   (or a GGUF file against another one: slimmoe verify --help)",
                )
            self._model = load_model(self._folder, device, dtype)
            if self._plan:
                self._stack.enter_context(masked(self._model, checkpoint, self._plan))
        with torch.inference_mode():
            return self._model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].numpy()

    def close(self) -> None:
        self._stack.close()
        self._model = None


@contextlib.contextmanager
def run_checkpoint(folder: Path, dtype_name: str, plan: Plan | None = None) -> Iterator[ModelRunner]:
    """A Hugging Face folder in plain transformers; with a plan, as if it were cut by it (prune.loading.masked).

    The model is in memory from its first logits until the context ends.

    Raises:
        RequestError: at the first logits, where the memory lacks that it takes.
    """
    with contextlib.closing(_CheckpointRunner(folder, dtype_name, plan)) as run:
        yield run


class _EngineRunner:
    def __init__(self, engine) -> None:
        self.engine = f"{engine.name}, float32 KV cache" + (f", on {engine.where}" if engine.where else "")
        self.rounds = engine.on_device.get("backend") not in (None, "RPC")
        self._engine = engine

    def conversations(self, segments: Segments, pair: Pair, prompt: PromptTemplate) -> list[Conversation]:
        template = self._engine.template.asked(prompt)
        return make_conversations(template, lambda texts: [self._engine.encode(text) for text in texts], segments, pair)

    def logits(self, token_ids: list[int]) -> np.ndarray:
        return self._engine.logits(token_ids)


@contextlib.contextmanager
def run_artefact(artefact: Path, offload: Offload | None = None) -> Iterator[ModelRunner]:
    """A GGUF file or ONNX folder in the engine that runs it, exactly: float32 KV cache, no flash attention.

    With as many threads whatever else the machine does, since logits of ONNX depend on it.
    """
    with contextlib.closing(open_engine(artefact, usable_cores(), exact=True, offload=offload)) as engine:
        yield _EngineRunner(engine)


@contextlib.contextmanager
def run_masked_gguf(
    path: Path, dropped: Mapping[int, Collection[int]], numbers: dict[str, int]
) -> Iterator[ModelRunner]:
    """A GGUF file whose dropped experts cannot be chosen; ``numbers`` stand in the place of its metadata's."""
    from runtime.engines.llama import LlamaEngine
    from runtime.engines.llama_graph import masked
    from runtime.engines.offload import ON_CPU

    engine = LlamaEngine(path, exact=True, watched=True, overrides=numbers, offload=ON_CPU)
    with contextlib.closing(engine), masked(engine, dropped):
        yield _EngineRunner(engine)
