"""A Modelfile for Ollama beside a GGUF file, so that a user types a sentence and nothing else.

Ollama writes its templates in Go's language, models in Jinja. For one turn no translation between them is needed: the
prompt of a placeholder sentence is rendered, and Go's variable put in the placeholder's place.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.files import new_file
from runtime.formats.gguf_file import GgufFile
from runtime.formats.json_object import read_object
from runtime.text.pairs import Pair, planned_pair
from runtime.text.prompt_templates import PromptTemplate
from runtime.text.prompts import ChatTemplate

_log = logging.getLogger(__name__)
_BEGINS = "# ollama create NAME -f "  # by which an older one is known
_PLACEHOLDER = "qxjzplaceholderqxjz"
# What would open an action in Go, end the Modelfile's quotes, or be dropped by an editor.
_SPECIAL = re.compile(r'\{\{|"""|"\Z|\r')
_ESCAPED = {"{{": r'{{ "\x7b\x7b" }}', '"""': r'{{ "\x22\x22\x22" }}', '"': r'{{ "\x22" }}', "\r": r'{{ "\r" }}'}
_CONTEXT = 2048  # tokens of sentence and translation that Ollama reserves memory for


def _quoted(text: str) -> str:
    """A Modelfile's parameter. Its quotes have no escapes; three of them may hold single ones."""
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def go_template(prompt: str, bos_token: str = "") -> str:
    """The Go template that yields ``prompt`` with the sentence in the placeholder's place.

    Args:
        bos_token: what the runner puts before every prompt by itself, and which is therefore left out.

    Raises:
        WorkError: the model's chat template changes or repeats what it is given.
    """
    before, found, after = prompt.partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise WorkError("The model's chat template does not repeat the text once and as it is: no Modelfile for it.")
    if bos_token:
        before = before.removeprefix(bos_token)

    def literal(text: str) -> str:
        return _SPECIAL.sub(lambda match: _ESCAPED[match[0]], text)

    return literal(before) + "{{ .Prompt }}" + literal(after)


def _stops(template: ChatTemplate, pair: Pair) -> list[str]:
    """Texts that end an answer: the end of the turn, and the end of the sequence."""
    end = template.completion(pair, _PLACEHOLDER, _PLACEHOLDER).removeprefix(_PLACEHOLDER).strip()
    return [stop for stop in dict.fromkeys((end, template.eos_token)) if stop]


def _setting(folder: Path, name: str, default: Any) -> Any:
    path = folder / "generation_config.json"
    config = read_object(path) if path.exists() else {}
    return config.get(name) or default


def add_modelfile(gguf: Path, text: Callable[[], str]) -> None:
    """Write ``text()`` as the Modelfile beside a GGUF file; a warning where the chat template allows none."""
    try:
        content = text()
    except WorkError as error:
        _log.warning(error.sentence)
        return
    path = gguf.with_suffix(".Modelfile")
    if path.exists() and not path.read_bytes().startswith(_BEGINS.encode()):
        _log.warning(f"{path} is not one that slimmoe wrote, and is kept as it is.")
        return
    with new_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


def modelfile(
    file: str, folder: Path, pair: Pair, context: int, bos: bool, prompt: PromptTemplate | None = None
) -> str:
    """Text of the Modelfile for the GGUF file of the name ``file``.

    Args:
        folder: the checkpoint, for its chat template and what it says of generation.
        context: the most tokens that the model was made for.
        bos: whether llama.cpp puts the beginning-of-sequence token before every prompt by itself.
        prompt: how the model is asked; default: as the folder says, or as is known of such a model.

    Raises:
        WorkError: the chat template cannot be rendered, or not be written as one of Go's.
    """
    penalty = _setting(folder, "repetition_penalty", 1)
    return _write(file, ChatTemplate.from_folder(folder, prompt), pair, context, bos, penalty)


def modelfile_of(source: GgufFile, file: str, pair: Pair) -> str:
    """The same for a GGUF file, from the metadata of ``source``, which it was cut from.

    Raises:
        WorkError: as above, or the file brings no chat template.
    """
    if not isinstance(source.get("tokenizer.chat_template"), str):
        raise WorkError(f"{source.parts[0]} brings no chat template: no Modelfile for it.")
    context = source.get(f"{source.architecture}.context_length", _CONTEXT)
    template = ChatTemplate.from_gguf_file(source)
    return _write(file, template, pair, context, bool(source.get("tokenizer.ggml.add_bos_token", False)), 1)


def add_for_cut(source: Path, output: Path, pair: str) -> None:
    """Write the Modelfile beside ``output``, a GGUF file cut from ``source`` for ``pair``; none where that is several."""
    if one := planned_pair(pair):
        add_modelfile(output, lambda: modelfile_of(GgufFile(source), output.name, one))


def _write(file: str, template: ChatTemplate, pair: Pair, context: int, bos: bool, penalty: float) -> str:
    text = go_template(template.prompt(pair, _PLACEHOLDER), template.bos_token if bos else "")
    lines = [
        f'{_BEGINS}{file.removesuffix(".gguf")}.Modelfile, then ollama run NAME "a sentence"',
        f"# It translates from {pair.source_name} into {pair.target_name}.",
        f"FROM ./{file}",
        f'TEMPLATE """{text}"""',
        "PARAMETER temperature 0",
        f"PARAMETER repeat_penalty {template.asking.repetition_penalty if penalty == 1 else penalty:g}",
        f"PARAMETER num_ctx {min(context, _CONTEXT)}",
        *(f"PARAMETER stop {_quoted(stop)}" for stop in _stops(template, pair)),
    ]
    return "\n".join(lines) + "\n"
