"""Stages that are done again exactly when something they depend on changed: by content, whatever the clocks say.

A stage's key is a hash of the contents of its inputs and of its options. It lies beside the output, in
``.<output>.stage.json``, with the size and hash of every file that the stage wrote. A stage is up to date where the key
is the same and its files are there in their size (``check``: with the same contents).

A stage works in a hidden folder beside its output, and what it made is moved to its place when it is whole; a killed run
leaves nothing under a final name. The folder is named by the key, so that work which can go on where it stopped does so
for the same request and for no other.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file
from runtime.formats.json_object import read_object
from runtime.formats.typed_json import mismatch
from slimmoe.hashes import Files, Hashes
from slimmoe.variants import ELSEWHERE

FORMAT = "slimmoe-stage/1"


class _Record(TypedDict):
    """What lies beside a stage's output."""

    key: str
    files: dict[str, tuple[int, str]]  # by path: size and hash
    options: NotRequired[dict[str, Any]]
    inputs: NotRequired[dict[str, Any]]
    moving: NotRequired[list[str]]


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of the way from model to report.

    Attributes:
        name: what it does, for people: ``calibrate``.
        output: the file or folder that it writes.
        inputs: files and folders that were given, and stages before it, by what they are to this one.
        options: JSON values that decide what is written.
        make: writes the output to the path that it is given, of the same name; it may write more files beside it.
        repeatable: the same key gives the same bytes. Where not, what comes after depends on the bytes that were written.
        resumes: ``make`` goes on with what it finds beside its path, which a killed run left.
    """

    name: str
    output: Path
    inputs: Mapping[str, "Stage | Files"]
    options: Mapping[str, Any]
    make: Callable[[Path], object]
    repeatable: bool = True
    resumes: bool = False

    @property
    def record(self) -> Path:
        """Where its key lies."""
        return self.output.with_name(f".{self.output.name}.stage.json")

    def before(self) -> "Iterator[Stage]":
        """Stages that must be done first, then itself; one may come twice."""
        for each in self.inputs.values():
            if isinstance(each, Stage):
                yield from each.before()
        yield self


def _files_below(path: Path) -> list[Path]:
    """The files that an output consists of, hidden ones of its folder left out."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    return [path]


class Runner:
    """Does what is not done yet.

    Args:
        hashes: of files.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self._keys: dict[Path, str] = {}

    def _identity(self, given: Stage | Files) -> str:
        """What a stage that has this as an input depends on."""
        if isinstance(given, Files):
            return self.hashes.of_files(given)
        if given.repeatable:
            return self.key(given)
        found = self._record(given)
        return f"{self.key(given)} {json.dumps(found.get('files'), sort_keys=True)}"

    def key(self, stage: Stage) -> str:
        """The hash of everything that the stage depends on."""
        if stage.output not in self._keys or not all(each.repeatable for each in stage.before()):
            depends = {"name": stage.name, "options": stage.options, "inputs": self._inputs(stage)}
            text = json.dumps(depends, sort_keys=True)
            self._keys[stage.output] = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._keys[stage.output]

    def _inputs(self, stage: Stage) -> dict[str, str]:
        return {label: self._identity(each) for label, each in stage.inputs.items()}

    @staticmethod
    def _record(stage: Stage) -> dict[str, Any]:
        try:
            found = read_object(stage.record)
        except WorkError:
            return {}
        if found.get("format") != FORMAT or mismatch(found, _Record, "it"):
            return {}
        names = map(Path, (*found["files"], *found.get("moving", ())))
        return {} if any(name.is_absolute() or ".." in name.parts for name in names) else found

    def why(self, stage: Stage) -> str:
        """Why a stage has to be done, as the end of a sentence; empty where it is up to date."""
        found = self._record(stage)
        if not found or not found.get("files"):
            return "not done yet"
        if found["key"] != self.key(stage):
            return self._difference(stage, found) or "made by another version"
        for name, (size, digest) in found["files"].items():
            path = stage.output.parent / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size or (self.hashes.check and self.hashes.of(path) != digest):
                return f"{name} is not as it was written"
        return ""

    def _difference(self, stage: Stage, found: dict[str, Any]) -> str:
        said = []
        options, inputs = found.get("options") or {}, found.get("inputs") or {}
        for name, value in stage.options.items():
            if name not in options:
                said.append(f"{name} is new")
            elif options[name] != value:
                said.append(f"{name} was {options[name]} and is {value}")
        for name, identity in self._inputs(stage).items():
            if inputs.get(name) != identity:
                said.append(f"{name} changed" if name in inputs else f"{name} is new")
        return ", ".join(said)

    def pending(self, wanted: list[Stage], forced: Mapping[Path, str] | None = None) -> list[tuple[Stage, str]]:
        """Stages to be done for these, in order, each with the reason; ``forced`` ones, by output, in any case.

        What comes after a stage whose bytes are not known before it is done is in the list, and may turn out to be done.
        """
        forced = forced or {}
        found: dict[Path, tuple[Stage, str]] = {}
        seen: set[Path] = set()
        for stage in (each for last in wanted for each in last.before()):
            if stage.output in seen:
                continue
            seen.add(stage.output)
            anew = [
                label
                for label, each in stage.inputs.items()
                if isinstance(each, Stage) and each.output in found and not each.repeatable
            ]
            reason = forced.get(stage.output) or (f"{anew[0]} is made anew" if anew else self.why(stage))
            if reason:
                found[stage.output] = stage, reason
        return list(found.values())

    def run(self, stage: Stage) -> Path:
        """Do the stages before it and itself, as far as they are not done; returns the output.

        Raises:
            RequestError: a file that no stage wrote is in the way; whatever a stage raises.
        """
        for each in {each.output: each for each in stage.before()}.values():
            if self.why(each):
                self.do(each)
        return stage.output

    def do(self, stage: Stage) -> None:
        """Do one stage, those before it being done; see ``run``."""
        self._require_ours(stage)
        folder = stage.output.parent
        folder.mkdir(parents=True, exist_ok=True)
        work = folder / f".{stage.output.name}.{self.key(stage)[:12]}.part"
        for leftover in folder.glob(f".{_escaped(stage.output.name)}.*.part"):
            if leftover != work or not stage.resumes:
                _remove(leftover)
        work.mkdir(exist_ok=True)
        try:
            stage.make(work / stage.output.name)
            self._put_in_place(stage, work)
        except BaseException:
            if not stage.resumes or not any(work.iterdir()):
                shutil.rmtree(work, ignore_errors=True)
            raise

    def _require_ours(self, stage: Stage) -> None:
        if os.path.lexists(stage.output) and not self._record(stage):
            raise RequestError(
                f"{stage.output} is there, was not written by this command and is kept as it is.",
                next_command=ELSEWHERE,
            )

    def _put_in_place(self, stage: Stage, work: Path) -> None:
        """Move everything that is not hidden out of ``work``, and remove it.

        Until that is done the record has no files, and the names of what moves: a run that is killed meanwhile leaves
        what the next one may replace. Nobody looks for ``work`` once the record is whole, so it goes before.
        """
        made = sorted(each for each in work.iterdir() if not each.name.startswith("."))
        files = {
            str(file.relative_to(work)): [file.stat().st_size, self.hashes.of(file)]
            for each in made
            for file in _files_below(each)
        }
        about = {"format": FORMAT, "stage": stage.name, "key": self.key(stage), "options": dict(stage.options)}
        about["inputs"] = self._inputs(stage)
        old = self._record(stage)
        before = {*(old.get("moving") or ()), *(Path(file).parts[0] for file in old.get("files") or {})}
        for each in made:
            if each.name not in before and (stage.output.parent / each.name).is_file():
                raise RequestError(f"{stage.output.parent / each.name} is there already, and is kept as it is.")
        self._write(stage, about | {"files": {}, "moving": sorted(before | {each.name for each in made})})
        for name in before:
            if (folder := stage.output.parent / name).is_dir():
                _remove(folder)
        for each in made:
            target = stage.output.parent / each.name
            if target.is_dir():  # of a run that was killed while it moved
                _remove(target)
            each.replace(target)
        shutil.rmtree(work, ignore_errors=True)
        self._write(stage, about | {"files": files})

    @staticmethod
    def _write(stage: Stage, about: dict[str, Any]) -> None:
        with new_file(stage.record) as temporary:
            temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _escaped(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
