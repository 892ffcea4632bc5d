"""What the doctor found, and how it is told."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.errors import SlimmoeError
from runtime.formats.artefact import pair_of
from runtime.formats.kinds import Kind
from runtime.formats.model_folder import own_file
from runtime.text.pairs import Pair, planned_pair
from runtime.text.prompts import PLAIN_TEMPLATE, ChatTemplate

SEGMENT = "The file could not be opened."
_NAMES = {
    "checkpoint": "Hugging Face checkpoint", "gguf": "GGUF file", "onnx": "ONNX folder", "adapter": "LoRA adapter",
    "safetensors": "file of a checkpoint", "file": "file", "folder": "folder", "nothing": "nothing",
}  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        stored: bytes of weights by how they are stored.
        quantisation: of a checkpoint that says one; empty where it does not.
        prompt: as it is sent for a segment of ``pair``.
        writable: by format the types that can be written, a sentence where there are none.
        memory: bytes that stages take, about; ``left`` is what there is here.
        problems: why something will not work, with what to do where that is known.
        commands: what to type, the first one first.
    """

    model: str
    kind: Kind
    bytes: int = 0
    family: str = ""
    layout: str = ""
    stored: dict[str, int] = field(default_factory=dict)
    quantisation: str = ""
    tokenizer: str = ""
    template: str = ""
    pair: str = ""
    prompt: str = ""
    writable: dict[str, str] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return not self.problems

    def lines(self) -> Iterator[tuple[str, str]]:
        """A name and a text each, for people."""
        yield "model", f"{self.model} ({_NAMES[self.kind]}{f', {_size(self.bytes)}' if self.bytes else ''})"
        if self.family:
            yield "family", f"{self.family}: {self.layout}"
        if self.stored:
            shares = ", ".join(f"{name} {_size(size)}" for name, size in self.stored.items())
            yield "stored", shares + (f"; {self.quantisation}" if self.quantisation else "")
        if self.tokenizer:
            yield "tokenizer", self.tokenizer
        if self.prompt:
            yield "template", self.template
            yield "prompt", f"{self.prompt!r} ({self.pair})"
        for format, types in self.writable.items():
            yield f"to {format}", types
        if self.memory:
            sizes = (f"{name} {_size(size)}" for name, size in self.memory.items() if name != "left")
            yield "memory", f"{', '.join(sizes)}; {_size(self.memory['left'])} are left here"
        for problem in self.problems:
            yield "problem", problem
        for command in self.commands[:1]:
            yield "next", command


def _size(count: float) -> str:
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 100e9 else f"{count / 1e9:.0f} GB"


class Notes:
    """Facts that are collected whatever goes wrong with one of them."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.problems: list[str] = []

    @contextlib.contextmanager
    def problem_if_refused(self) -> Iterator[None]:
        try:
            yield
        except SlimmoeError as error:
            told = error.sentence if error.next_command is None else f"{error.sentence} Next: {error.next_command}"
            if told not in self.problems:
                self.problems.append(told)

    def note(self, **found: Callable[[], Any]) -> None:
        """Each fact by the function that finds it."""
        for name, find in found.items():
            with self.problem_if_refused():
                self.facts[name] = find()


def asked_pair(path: Path, pair: Pair) -> Pair:
    return planned_pair(pair_of(path)) or pair


def note_prompt(notes: Notes, template: ChatTemplate, where: str, pair: Pair) -> None:
    """Render it, and the answer after it: calibration and recovery need both."""
    notes.note(prompt=lambda: template.prompt(pair, SEGMENT), completion=lambda: template.completion(pair, "a", "b"))
    notes.facts.pop("completion", None)
    plain = template.source == PLAIN_TEMPLATE
    notes.facts |= {"template": "none: the instruction as plain text" if plain else where, "pair": str(pair)}


def template_of(folder: Path) -> tuple[ChatTemplate, str]:
    name = "chat_template.jinja" if own_file(folder, "chat_template.jinja") else "tokenizer_config.json"
    return ChatTemplate.from_folder(folder), name


def _millions(count: int) -> str:
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"


def layout_text(layers: int, experts: Sequence[int], top_k: int, weights: int) -> str:
    counts = sorted({*experts})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{layers} layers, {len(experts)} of them with {each} experts, top-{top_k}; {_millions(weights)} weights"
