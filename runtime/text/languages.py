"""Languages and their regional variants, by code; names and codes are data: ``data/languages.toml``."""

import tomllib
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data" / "languages.toml"

with DATA.open("rb") as _file:
    _data = tomllib.load(_file)

LANGUAGES: dict[str, str] = {code: names[0] for code, names in _data["names"].items()}
FLORES: dict[str, tuple[str, ...]] = {code: tuple(names[1:]) for code, names in _data["names"].items()}


@cache
def _codes() -> dict[str, str]:
    """Every spelling in lower case, and the code that it stands for."""
    return {code.lower(): code for code in LANGUAGES} | {each.lower(): code for each, code in _data["aliases"].items()}


def find_language(text: str) -> str | None:
    """The code as it is spelt here: ``PT_br`` is ``pt-BR``; None where there is no such language."""
    return _codes().get(text.strip().lower().replace("_", "-"))


def base_language(code: str) -> str:
    """A code without script and region: ``pt`` of ``pt-BR``."""
    return code.partition("-")[0]


def regions(code: str) -> list[str]:
    """A code as WMT24++ may spell it, with the region: ``zh_CN`` of ``zh-Hans``, ``de_DE`` of ``de``."""
    spelt = [code, *(alias for alias, meant in _data["aliases"].items() if meant == code)]
    return [each.replace("-", "_") for each in spelt if "-" in each]
