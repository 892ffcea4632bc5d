"""Bad inputs as data: what is given to the command, how it is wrong, and what the sentence says where that matters.

Each table holds inputs of one kind; tests/slimmoe/test_bad_inputs.py gives them all to the command. Nothing is stored:
right files are made once, copied for each input, and then damaged.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Damage = Callable[[Path], Any]


@dataclass(frozen=True)
class Table:
    """Inputs that are wrong in one place.

    Attributes:
        target: the file or folder that is damaged, by its name in the folder where the command runs.
        verbs: commands that are given it, by name; the first one is given all of them.
        crossed: so is every verb in the slow run.
        damage: by the input's name, what makes it; or that and a pattern that the sentence matches.
        by_all: inputs that every verb is given in the fast run too.
        only: verbs to which an input matters, where it is not to all.
    """

    target: str
    verbs: Mapping[str, str]
    damage: Mapping[str, Damage | tuple[Damage, str]]
    by_all: tuple[str, ...] = ()
    crossed: bool = False
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


DEEP = b'{"a":' * 100_000
HUGE = b'{"a": ' + b"1" * 10_000 + b"}"


def within(name: str, damage: Damage) -> Damage:
    """Damage to a file of a folder."""
    return lambda folder: damage(folder / name)


def write(data: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    return damage


def change(values: Callable[[Any], Any]) -> Damage:
    """Of JSON: in place, or what is returned in its place."""

    def damage(path: Path) -> None:
        value = json.loads(path.read_text(encoding="utf-8"))
        changed = values(value)
        path.write_text(json.dumps(value if changed is None else changed), encoding="utf-8")

    return damage


def update(**fields: Any) -> Damage:
    return change(lambda values: values.update(fields))


def to_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def to_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def to_link(target: str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return damage


def cut(share: float) -> Damage:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def overwrite(at: float, data: bytes) -> Damage:
    """Bytes in the middle of a file, from a share of its length on."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        start = int(len(content) * at)
        content[start : start + len(data)] = data
        path.write_bytes(content)

    return damage


def sparse(start: bytes, size: int) -> Damage:
    """A file that claims to be large, and takes no room on the disk."""

    def damage(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return damage


# Whatever a file should hold, these are none.
NO_FILE: dict[str, Damage] = {
    "missing": Path.unlink,
    "a pipe": to_pipe,
    "a folder": to_folder,
    "endless": to_link("/dev/zero"),
    "a link to itself": lambda path: to_link(path.name)(path),
    "a link to nothing": to_link("nowhere"),
}
NO_JSON: dict[str, Damage] = {
    "empty": write(b""),
    "no JSON": write(b"{"),
    "a list": write(b"[]"),
    "nested": write(DEEP),
    "in UTF-16": write("{}".encode("utf-16")),
    "not UTF-8": write(b'{"a": "\xff"}'),
    "binary": write(bytes(range(256))),
}


def each(what: str, name: str, damages: Mapping[str, Damage]) -> dict[str, Damage]:
    """The same damages to one file of a folder, named by what it is: ``a config: nested``."""
    return {f"{what}: {kind}": within(name, damage) for kind, damage in damages.items()}
