"""Readers for the public test sets: any of sacreBLEU's by name, and FLORES+ and WMT24++ folders on disk."""

from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from runtime.errors import RequestError
from runtime.formats.json_object import parse_object
from runtime.formats.typed_json import mismatch
from runtime.text.languages import FLORES, regions
from runtime.text.lines import read_file
from runtime.text.pairs import Pair

Segments = list[tuple[str, str]]


def is_sacrebleu_set(name: str) -> bool:
    """Whether sacreBLEU knows a test set of that name: ``wmt20``, ``wmt21/dev``, ..."""
    from sacrebleu import DATASETS

    return name in DATASETS


def read_sacrebleu(name: str, pair: Pair) -> Segments:
    """A test set of sacreBLEU, with the first of its references; downloaded once, into ~/.sacrebleu.

    Raises:
        RequestError: the set has no such pair, or is not on disk and cannot be downloaded.
    """
    import sacrebleu

    known = sacrebleu.get_langpairs_for_testset(name)
    there = str(pair) if str(pair) in known else str(pair.base)
    if there not in known:
        raise RequestError(f"sacreBLEU's {name} has no {pair}; it has {', '.join(known)}.")
    try:
        files = [sacrebleu.get_source_file(name, there), sacrebleu.get_reference_files(name, there)[0]]
    except (OSError, SystemExit) as error:
        raise RequestError(
            f"The test set {name} is not in {sacrebleu.SACREBLEU_DIR} and cannot be downloaded ({error}).",
            next_command=f"sacrebleu --download {name} -l {pair}   (with network; then copy ~/.sacrebleu here)",
        ) from None
    source, target = (read_file(Path(file)) for file in files)
    return list(zip(source, target, strict=True))


class _FloresLine(TypedDict):
    id: int | str
    text: str


class _WmtLine(TypedDict):
    source: str
    target: str
    is_bad_source: NotRequired[bool]


def _json_lines(path: Path, kind: Any) -> list[Any]:
    """The objects of a file with one a line.

    Raises:
        RequestError: a line is none of that kind.
    """
    found = []
    for number, line in enumerate(read_file(path), 1):
        if line.strip():
            try:
                value = parse_object(line.encode())
            except ValueError as error:
                raise RequestError(f"Line {number} of {path} is no JSON object: {error}.") from None
            if why := mismatch(value, kind, "it"):
                raise RequestError(f"Line {number} of {path} cannot be read: {why}.")
            found.append(value)
    return found


def _number(path: Path, line: _FloresLine) -> int:
    try:
        return int(line["id"])
    except ValueError:
        raise RequestError(f"{path} has a line whose id is no number: {line['id']!r}.") from None


def _flores_side(folder: Path, language: str) -> list[str] | None:
    for split in ("devtest", "dev"):  # the folder of a split, or one with both
        for name in FLORES[language]:
            for place in (folder, folder / split):
                if (path := place / f"{name}.{split}").is_file():
                    return read_file(path)
                if place.name == split and (path := place / f"{name}.jsonl").is_file():
                    lines = _json_lines(path, _FloresLine)
                    return [line["text"] for line in sorted(lines, key=partial(_number, path))]
    return None


def _wmt_file(folder: Path, pair: Pair) -> Path | None:
    """The file of a pair in a folder of WMT24++: of a language that comes with several regions, its own one first."""
    for region in regions(pair.target):
        if (path := folder / f"{pair.source}-{region}.jsonl").is_file():
            return path
    found = folder.glob(f"{pair}_*.jsonl")
    return min(found, key=lambda path: (pair.target.upper() not in path.stem, path.name), default=None)


def read_folder(folder: Path, pair: Pair) -> Segments:
    """FLORES-200 or FLORES+ (devtest where dev is there as well), or WMT24++ (without the sources marked as bad).

    FLORES-200: ``devtest/eng_Latn.devtest``; FLORES+: ``devtest/eng_Latn.jsonl`` with ``id`` and ``text``; WMT24++:
    ``en-de_DE.jsonl`` with ``source``, ``target`` and ``is_bad_source``.

    Raises:
        RequestError: none of these for the pair, or two sides that are not parallel.
    """
    sides = [_flores_side(folder, language) for language in (pair.source, pair.target)]
    if sides[0] and sides[1]:
        if len(sides[0]) != len(sides[1]):
            raise RequestError(
                f"{folder} has {len(sides[0])} lines of {pair.source}, {len(sides[1])} of {pair.target}."
            )
        return list(zip(*sides))
    if path := _wmt_file(folder, pair):
        lines = _json_lines(path, _WmtLine)
        return [(line["source"], line["target"]) for line in lines if not line.get("is_bad_source")]
    named = ", ".join((FLORES[code] or (code,))[0] for code in (pair.source, pair.target))
    raise RequestError(
        f"{folder} is a folder without {pair} in it: neither FLORES ({named}) nor WMT24++ ({pair}_*.jsonl).",
        next_command=f"ls {folder}",
    )
