"""How a model is asked to translate: the words around a segment, before the model's chat template puts its marks there.

What a model's card asks for is data, ``data/prompts.toml``, found by the model's name or chat template. ``--prompt`` says
something else. Either is kept in the statistics, the plan, ``slimmoe.json`` and the GGUF file, so that whatever comes
after asks the same.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.text.languages import FLORES
from runtime.text.pairs import Pair

DATA = Path(__file__).parent / "data" / "prompts.toml"
FIELDS = ("text", "source_name", "target_name", "source_code", "target_code", "source_flores", "target_flores")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_EXAMPLE = "--prompt 'Translate from {source_name} into {target_name}: {text}'"
_TYPES = {
    "name": str,
    "user": str,
    "system": str,
    "typed": bool,
    "raw": bool,
    "answer": str,
    "repetition_penalty": float,
}


@dataclass(frozen=True)
class PromptTemplate:
    """The words of a request, with ``{text}`` and other FIELDS in them; see data/prompts.toml for the attributes.

    ``name`` is the entry's there; ``own`` where the user gave it.
    """

    user: str
    name: str = "own"
    system: str = ""
    typed: bool = False
    raw: bool = False
    answer: str = ""
    repetition_penalty: float = 1.0

    def fill(self, template: str, pair: Pair, text: str) -> str:
        """One of the attributes with its fields filled in."""
        known = {
            "text": text, "source_name": pair.source_name, "target_name": pair.target_name,
            "source_code": pair.source, "target_code": pair.target,
            "source_flores": (FLORES[pair.source] or (pair.source,))[-1],
            "target_flores": (FLORES[pair.target] or (pair.target,))[-1],
        }  # fmt: skip
        return _FIELD.sub(lambda field: known.get(field[1], field[0]), template)

    def to_dict(self) -> dict[str, Any]:
        """For files: what differs from the plainest."""
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name == "name" or value != usual[name]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PromptTemplate":
        """The inverse; keys that are not known are left out.

        Raises:
            ValueError: no user's message with {text}, or a value of another type; the text is a sentence's end.
        """
        known = {name: value for name, value in data.items() if name in _TYPES}
        for name, value in known.items():
            if not isinstance(value, _TYPES[name]) and not (_TYPES[name] is float and isinstance(value, int)):
                raise ValueError(f"{name} is not {_TYPES[name].__name__}")
        if "{text}" not in known.get("user", ""):
            raise ValueError("user has no {text}")
        used = _FIELD.findall(known["user"] + known.get("system", "") + known.get("answer", ""))
        if unknown := [field for field in used if field not in FIELDS]:
            raise ValueError(f"{{{unknown[0]}}} is none of {', '.join(f'{{{field}}}' for field in FIELDS)}")
        if not known.get("repetition_penalty", 1) > 0:
            raise ValueError("repetition_penalty is not above 0")
        return cls(**known)


@cache
def _known() -> dict[str, dict[str, Any]]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


DEFAULT = PromptTemplate.from_dict({"name": "default", **_known()["default"]})


def find_prompt_template(names: Iterable[str], chat_template: str) -> PromptTemplate:
    """The one of a model, by what it is called and by its chat template."""
    together = "\n".join(names)
    for name, entry in _known().items():
        by_name = any(re.search(rf"(?i){pattern}", together) for pattern in entry.get("names", ()))
        if by_name or ("template" in entry and entry["template"] in chat_template):
            return PromptTemplate.from_dict({"name": name, **entry})
    return DEFAULT


def parse_prompt(text: str) -> PromptTemplate:
    """Read ``--prompt``: the user's message itself, or a file with it; a ``.toml`` file has the attributes as keys.

    Raises:
        RequestError: no {text} in it, an unknown field, or a file that cannot be read.
    """
    path = Path(text)
    is_file = len(text) < 256 and "\n" not in text and path.is_file()
    if not is_file and "{text}" not in text and path.suffix in (".txt", ".toml"):
        raise RequestError(f"There is no prompt file {text}.", next_command=_EXAMPLE)
    try:
        content = path.read_text(encoding="utf-8-sig") if is_file else text
        if is_file and path.suffix == ".toml":
            return PromptTemplate.from_dict(tomllib.loads(content))
        return PromptTemplate.from_dict({"user": content.rstrip("\n") if is_file else content})
    except ValueError as error:
        where = f"The prompt in {path}" if is_file else f"The prompt {text[:60]!r}"
        raise RequestError(f"{where} cannot be used: {error}.", next_command=f"the same with {_EXAMPLE}") from None
