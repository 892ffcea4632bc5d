"""The one place where a segment becomes a prompt: calibration, SFT, evaluation and translation all come here."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from runtime.errors import WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.model_folder import own_file
from runtime.formats.onnx_folder import read_json
from runtime.formats.provenance import read_provenance
from runtime.text.chat_template import LONGEST, Message, render
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import DEFAULT, PromptTemplate, find_prompt_template
from runtime.text.special_tokens import PromptText, join_parts, special_of
from runtime.text.thinking import close_thought, is_empty_thought, switches

# For models without a chat template: the instruction, and the answer on the next line.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{{ '\n' if message['role'] == 'user' else eos_token }}"
    "{% endfor %}"
)
# Stand for a segment, its translation and a next segment while a template is rendered.
_TEXT, _ANSWER, _NEXT = "qxjztextqxjz", "qxjzanswerqxjz", "qxjznextqxjz"
_PROBE = f"{_TEXT} \"'\\ü\n<b>&amp;{{{{x}}}}</b> {_TEXT}"  # what a template may escape
_GGUF_TOKENS = {
    "bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "seperator": "sep_token", "padding": "pad_token",
}  # fmt: skip


def named_tokens(get: Callable[[str], Any], piece: Callable[[int], str]) -> dict[str, str]:
    """The special tokens that a GGUF file's metadata names; ``piece`` is the text of a token id."""
    numbers = {name: get(f"tokenizer.ggml.{key}_token_id") for key, name in _GGUF_TOKENS.items()}
    return {name: piece(int(number)) for name, number in numbers.items() if str(number).isdecimal()}


def list_of(file: GgufFile, key: str) -> list[Any]:
    """An array of a GGUF file's metadata; empty where there is none.

    Raises:
        WorkError: it is something else.
    """
    found = file.get(key) or []
    if not isinstance(found, list):
        raise WorkError(f"{file.parts[0]} is damaged: {key} is no list.")
    return found


def instruction(pair: Pair, segment: str) -> str:
    """The user's message that asks a model for a translation of ``segment`` where nothing is known of it."""
    return DEFAULT.fill(DEFAULT.user, pair, segment)


@dataclass(frozen=True)
class _Conversation:
    """A rendered conversation: what stands around the segment (more than once in few), and after the translation."""

    prompt: tuple[str, ...]
    end: str
    verbatim: bool  # a segment comes out as it is, so that nothing has to be rendered for another one


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template (Jinja, as Hugging Face folders and GGUF files carry it), and how the model is asked.

    ``special_tokens`` are those with a name, which templates read: ``{"eos_token": "</s>"}``.
    """

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict, hash=False)
    asking: PromptTemplate = DEFAULT

    @classmethod
    def from_folder(cls, folder: Path, asking: PromptTemplate | None = None) -> "ChatTemplate":
        """Read what a Hugging Face folder or an ONNX folder has.

        Args:
            asking: default: what the folder's ``slimmoe.json`` says, else what is known of such a model.

        Raises:
            WorkError: the template, a config or ``slimmoe.json`` is damaged.
        """
        config, legacy = read_json(folder / "tokenizer_config.json"), read_json(folder / "special_tokens_map.json")
        source = _own_template(folder) or config.get("chat_template")
        source = source or read_json(folder / "chat_template.json").get("chat_template")
        if isinstance(source, list):  # several named templates
            named = {item.get("name"): item.get("template") for item in source if isinstance(item, dict)}
            source = named.get("default", next(iter(named.values()), None)) or 0
        if source is not None and not isinstance(source, str):
            raise WorkError(f"The chat template of {folder} is damaged: it is no text.")
        tokens = {}
        for name, value in (legacy | config).items():
            text = value.get("content") if isinstance(value, dict) else value
            if re.fullmatch(r"(bos|eos|unk|sep|pad|cls|mask)_token", name) and isinstance(text, str):
                tokens[name] = text
        source = source or PLAIN_TEMPLATE
        return cls(source, tokens, asking or _asking_of(folder, source))

    @classmethod
    def from_gguf(cls, get: Callable[[str], Any], special_tokens: Mapping[str, str]) -> "ChatTemplate":
        """From a GGUF file's metadata.

        Args:
            get: the value of a key; nothing or an empty text where there is none.

        Raises:
            WorkError: the template or ``slimmoe.prompt`` is damaged.
        """
        source, kept = get("tokenizer.chat_template") or PLAIN_TEMPLATE, get("slimmoe.prompt")
        if not isinstance(source, str):
            raise WorkError("The chat template of the GGUF file is damaged: it is no text.")
        keys = ("general.name", "general.basename", "general.base_model.0.name")
        names = [str(name) for key in keys if (name := get(key))]
        asking = _kept(kept, "slimmoe.prompt") if kept else find_prompt_template(names, source)
        return cls(source, {name: text for name, text in special_tokens.items() if text}, asking)

    @classmethod
    def from_gguf_file(cls, file: GgufFile) -> "ChatTemplate":
        """Of a GGUF file, from its header alone."""
        tokens = list_of(file, "tokenizer.ggml.tokens")

        def piece(number: int) -> str:
            return str(tokens[number]) if 0 <= number < len(tokens) else ""

        return cls.from_gguf(file.get, named_tokens(file.get, piece))

    @classmethod
    def of(cls, path: Path) -> "ChatTemplate":
        """Of whatever has one: a GGUF file, an ONNX folder or a graph in it, a checkpoint's folder.

        Raises:
            RequestError, WorkError: there is no such file, or it is damaged.
        """
        if path.suffix == ".gguf":
            return cls.from_gguf_file(GgufFile(path))
        return cls.from_folder(path.absolute().parent.parent if path.suffix == ".onnx" else path)

    def asked(self, asking: PromptTemplate | None) -> "ChatTemplate":
        """The same, asked otherwise; None: as it is."""
        return replace(self, asking=asking) if asking else self

    @property
    def bos_token(self) -> str:
        return self.special_tokens.get("bos_token", "")

    @property
    def eos_token(self) -> str:
        return self.special_tokens.get("eos_token", "")

    @cached_property
    def switches(self) -> dict[str, Any]:
        """What the template is told so that it asks for no reasoning."""
        return switches(self.source)

    def messages(self, pair: Pair, segment: str) -> list[Message]:
        """The conversation that asks for a translation, without its answer."""
        asking, content = self.asking, self.asking.fill(self.asking.user, pair, segment)
        if asking.typed:
            part = {"type": "text", "source_lang_code": pair.source, "target_lang_code": pair.target, "text": content}
            return [{"role": "user", "content": [part]}]
        system = [{"role": "system", "content": asking.fill(asking.system, pair, segment)}] if asking.system else []
        return [*system, {"role": "user", "content": content}]

    def render(self, messages: list[Message], add_generation_prompt: bool = False) -> str:
        """What transformers renders with the same special tokens and switches.

        Raises:
            WorkError: the template refuses the conversation.
        """
        return render(self.source, messages, add_generation_prompt, {**self.special_tokens, **self.switches})

    def prompt(self, pair: Pair, segment: str) -> PromptText:
        """Everything up to where the model starts to write its translation, with the answer's channel opened.

        Raises:
            WorkError: the chat template cannot be rendered, or leaves out what it is given.
        """
        found, segment = _conversation(self, pair), segment.strip()
        if found.verbatim:
            return join_parts(found.prompt, segment)
        text, _ = _around_answer(self, pair, segment)
        return PromptText(text, [slice(len(found.prompt[0]), len(text) - len(found.prompt[-1]))])

    def completion(self, pair: Pair, segment: str, translation: str) -> PromptText:
        """What the model should write after ``prompt``: the translation and the end of its turn."""
        return join_parts(("", _conversation(self, pair).end), translation)

    def after_answers(self) -> tuple[str, ...]:
        """What the template writes after an answer: at the end of a conversation, and before a next turn."""
        pair, found = Pair("en", "de"), []
        asked, answer = self.messages(pair, _TEXT), {"role": "assistant", "content": _ANSWER}
        following = [each for each in self.messages(pair, _NEXT) if each["role"] != "system"]
        for messages in ([*asked, answer], [*asked, answer, *following]):
            try:
                found.append(self.render(messages).partition(_ANSWER)[2].partition(_NEXT)[0])
            except WorkError:  # it refuses an answer, or a second turn
                continue
        return tuple(dict.fromkeys(found))

    def ends_of_turn(self, special: re.Pattern[str] | None) -> tuple[str, ...]:
        """Special tokens that end an answer: the first after it in the template's own conversations, and ``eos_token``.

        Args:
            special: finds the special tokens of the vocabulary.
        """
        firsts = [special.search(text) for text in self.after_answers()] if special else []
        found = [*(each[0] for each in firsts if each), self.eos_token]
        return tuple(dict.fromkeys(end for end in found if end))


def turn_end_ids(template: ChatTemplate, tokenizer: Any) -> list[int]:
    """Ids of the template's ends of turn in a ``tokenizers.Tokenizer``."""
    ids = (tokenizer.token_to_id(end) for end in template.ends_of_turn(special_of(tokenizer)))
    return [each for each in ids if each is not None]


def _around_answer(template: ChatTemplate, pair: Pair, segment: str) -> tuple[str, str]:
    """What stands before and after a translation, found by rendering the conversation, and the request for it.

    The whole conversation decides where the answer begins, since it is what the model was trained on: it opens the
    answer's channel where the request alone does not (gpt-oss), and has no thought that the request alone would open
    (DeepSeek-R1). Only where the request alone closes an empty thought, which templates leave out of what was said
    before (Gemma 4), it stays: that is how they say that there is to be no thought.
    """
    asking = template.asking
    head = asking.fill(asking.answer, pair, segment)
    if asking.raw:
        return asking.fill(asking.user, pair, segment) + head, template.eos_token
    messages = template.messages(pair, segment)
    asked = template.render(messages, add_generation_prompt=True)
    try:
        whole = template.render([*messages, {"role": "assistant", "content": head + _ANSWER}])
    except WorkError:
        whole = ""
    if head + _ANSWER not in whole:  # a template for requests alone
        whole = asked + head + _ANSWER
    before, _, end = whole.partition(head + _ANSWER)
    if asked.startswith(before) and is_empty_thought(asked[len(before) :]):
        before = asked
    before += close_thought(before)  # an answer within a thought would be none
    return before + head, end if end.strip() else end + template.eos_token


@cache
def _conversation(template: ChatTemplate, pair: Pair) -> _Conversation:
    """The parts around every segment.

    Raises:
        WorkError: the chat template cannot be rendered, or leaves out what it is given.
    """
    before, end = _around_answer(template, pair, _TEXT)
    parts = tuple(before.split(_TEXT))
    if len(parts) < 2:
        raise WorkError("The model's chat template leaves out the text that it is given.")
    probe, _ = _around_answer(template, pair, _PROBE)
    return _Conversation(parts, end, verbatim=probe == _PROBE.join(parts))


def _kept(prompt: str | Mapping[str, Any], where: str) -> PromptTemplate:
    """As a file of ours has it.

    Raises:
        WorkError: it is damaged.
    """
    try:
        return PromptTemplate.from_dict(json.loads(prompt) if isinstance(prompt, str) else prompt)
    except (ValueError, AttributeError) as error:
        raise WorkError(f"{where} is damaged: its prompt's {error}.") from None


def _own_template(folder: Path) -> str | None:
    """The chat template that a folder has in a file of its own."""
    path = own_file(folder, "chat_template.jinja")
    if path is None:
        return None
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        raise WorkError(f"{path} is damaged: {error}.") from None


def _asking_of(folder: Path, source: str) -> PromptTemplate:
    provenance = read_provenance(folder)
    if provenance and provenance.prompt:
        return _kept(provenance.prompt, str(folder / "slimmoe.json"))
    names = [folder.absolute().name, folder.resolve().parent.parent.name]  # of the hub's cache: models--org--name
    names += [str(read_json(folder / "config.json").get("_name_or_path", "")), provenance.model if provenance else ""]
    return find_prompt_template(names, source)
