"""What a model is sent, and where it is stopped, told from its files without loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.onnx_folder import end_ids, read_json
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate, list_of
from runtime.text.special_tokens import looks_special, pattern_of, special_of
from runtime.text.tokenizer_file import load_tokenizer

_CONTROL, _UNKNOWN, _USER_DEFINED = 3, 2, 4  # tokenizer.ggml.token_type
_END_KEYS = ("eos", "eot", "eom")


@dataclass(frozen=True)
class Asked:
    """A segment's prompt, what the model should write after it, and what it is stopped at."""

    prompt: str
    end: str  # what the template writes after the translation
    stops: tuple[str, ...]
    asking: PromptTemplate
    switches: dict[str, Any]  # that the chat template reads

    def to_dict(self) -> dict[str, Any]:
        """For a program to read."""
        return {
            "prompt": self.prompt, "end": self.end, "stops": list(self.stops), "asked": self.asking.to_dict(),
            "switches": self.switches,
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """For people: how the model is asked, and where it ends."""
        told = [f"asked as: {self.asking.name}: {self.asking.user!r}"]
        if self.asking.repetition_penalty != 1:
            told.append(f"repetition penalty: {self.asking.repetition_penalty:g}")
        if self.switches:
            told.append("reasoning: " + ", ".join(f"{name}={value!r}" for name, value in self.switches.items()))
        told.append(f"after the translation: {self.end!r}")
        return [*told, "stopped at: " + (" ".join(self.stops) or "nothing: the model names no end of its turn")]


def read_asked(path: Path, pair: Pair, text: str, prompt: PromptTemplate | None = None) -> Asked:
    """What a GGUF file's, an ONNX folder's or a checkpoint's model is sent for ``text``.

    Raises:
        RequestError: there is no such model, or it has no tokenizer.
        WorkError: it is damaged, or its chat template cannot be rendered.
    """
    if not path.exists():
        raise RequestError(f"There is no model {path}.", next_command="slimmoe prompt models/default --pair en-de")
    template = ChatTemplate.of(path).asked(prompt)
    stated, special = (_of_gguf if path.suffix == ".gguf" else _of_folder)(path)
    read = {name: value for name, value in template.switches.items() if name in template.source}
    return Asked(
        template.prompt(pair, text), template.completion(pair, text, ""),
        tuple(dict.fromkeys([*template.ends_of_turn(special), *stated])), template.asking, read,
    )  # fmt: skip


def _of_gguf(path: Path) -> tuple[list[str], Any]:
    file = GgufFile(path)
    tokens, types = (list_of(file, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    numbers = [file.get(f"tokenizer.ggml.{key}_token_id") for key in _END_KEYS]
    stated = [str(tokens[number]) for number in numbers if isinstance(number, int) and 0 <= number < len(tokens)]
    marked = [
        str(token)
        for token, kind in zip(tokens, types, strict=False)
        if kind in (_CONTROL, _UNKNOWN) or (kind == _USER_DEFINED and looks_special(str(token)))
    ]
    return stated, pattern_of(marked)


def _of_folder(path: Path) -> tuple[list[str], Any]:
    folder = path.absolute().parent.parent if path.suffix == ".onnx" else path
    if not (folder / "tokenizer.json").exists():
        raise RequestError(f"{folder} has no tokenizer.json.")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    ids = end_ids(read_json(folder / "config.json"), read_json(folder / "generation_config.json"))
    return [text for each in ids if (text := tokenizer.id_to_token(each))], special_of(tokenizer)
