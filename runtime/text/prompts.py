"""The one place where a segment becomes a prompt: calibration, SFT, evaluation and translation all come here."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.errors import WorkError
from runtime.text.pairs import Pair

# For models without a chat template: the instruction, and the answer on the next line.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{{ '\n' if message['role'] == 'user' else eos_token }}"
    "{% endfor %}"
)


def instruction(pair: Pair, segment: str) -> str:
    """The user's message that asks for a translation of ``segment``."""
    return f"Translate into {pair.target_name}:\n{segment}"


@cache
def _compile(source: str) -> Template:
    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template (Jinja, as Hugging Face folders and GGUF files carry it) and its special tokens."""

    source: str
    bos_token: str = ""
    eos_token: str = ""

    @classmethod
    def from_folder(cls, folder: Path) -> "ChatTemplate":
        """Read ``chat_template.jinja`` or ``tokenizer_config.json`` of a Hugging Face folder."""
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        separate = folder / "chat_template.jinja"
        source = separate.read_text(encoding="utf-8") if separate.exists() else config.get("chat_template")
        if isinstance(source, list):  # several named templates
            source = next((item["template"] for item in source if item["name"] == "default"), source[0]["template"])

        def token(name: str) -> str:
            value = config.get(name) or ""
            return value["content"] if isinstance(value, dict) else value

        return cls(source or PLAIN_TEMPLATE, token("bos_token"), token("eos_token"))

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        try:
            return _compile(self.source).render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
        except TemplateError as error:
            raise WorkError(f"The model's chat template cannot be rendered: {error}.") from error

    def prompt(self, pair: Pair, segment: str) -> str:
        """Everything up to where the model starts to write its translation."""
        return self._render([{"role": "user", "content": instruction(pair, segment)}], add_generation_prompt=True)

    def completion(self, pair: Pair, segment: str, translation: str) -> str:
        """What the model should write after ``prompt``: the translation and the end of its turn."""
        messages = [
            {"role": "user", "content": instruction(pair, segment)},
            {"role": "assistant", "content": translation},
        ]
        whole = self._render(messages, add_generation_prompt=False)
        _, found, end = whole.rpartition(translation)
        return translation + (end.rstrip("\n") if found and end.strip() else self.eos_token)
