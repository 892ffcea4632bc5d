"""Readers for the public test sets: any of sacreBLEU's by name, and FLORES+ and WMT24++ folders on disk."""

from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from runtime.errors import RequestError
from runtime.formats.json_object import parse_object
from runtime.formats.typed_json import mismatch
from runtime.text.lines import read_file
from runtime.text.pairs import Pair

# FLORES names a language and its script; two languages are called differently in FLORES-200 and FLORES+.
FLORES = {
    "ar": ("arb_Arab",), "bg": ("bul_Cyrl",), "cs": ("ces_Latn",), "da": ("dan_Latn",), "de": ("deu_Latn",),
    "el": ("ell_Grek",), "en": ("eng_Latn",), "es": ("spa_Latn",), "et": ("ekk_Latn", "est_Latn"),
    "fi": ("fin_Latn",), "fr": ("fra_Latn",), "he": ("heb_Hebr",), "hi": ("hin_Deva",), "hr": ("hrv_Latn",),
    "hu": ("hun_Latn",), "id": ("ind_Latn",), "is": ("isl_Latn",), "it": ("ita_Latn",), "ja": ("jpn_Jpan",),
    "ko": ("kor_Hang",), "lt": ("lit_Latn",), "lv": ("lvs_Latn",), "nl": ("nld_Latn",), "no": ("nob_Latn",),
    "pl": ("pol_Latn",), "pt": ("por_Latn",), "ro": ("ron_Latn",), "ru": ("rus_Cyrl",), "sk": ("slk_Latn",),
    "sl": ("slv_Latn",), "sv": ("swe_Latn",), "th": ("tha_Thai",), "tr": ("tur_Latn",), "uk": ("ukr_Cyrl",),
    "vi": ("vie_Latn",), "zh": ("cmn_Hans", "zho_Hans"),
}  # fmt: skip
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
    if str(pair) not in known:
        raise RequestError(f"sacreBLEU's {name} has no {pair}; it has {', '.join(known)}.")
    try:
        files = [sacrebleu.get_source_file(name, str(pair)), sacrebleu.get_reference_files(name, str(pair))[0]]
    except (OSError, SystemExit) as error:
        raise RequestError(
            f"The test set {name} is not in {sacrebleu.SACREBLEU_DIR} and cannot be downloaded ({error}).",
            next_command=f"sacrebleu --download {name} -l {pair}   (with network; then copy ~/.sacrebleu here)",
        ) from None
    # sacreBLEU reads its files so: other line breaks than \n are part of a segment
    source, target = (Path(file).read_text(encoding="utf-8").rstrip("\n").split("\n") for file in files)
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
    regions = sorted(folder.glob(f"{pair}_*.jsonl"), key=lambda path: (pair.target.upper() not in path.stem, path.name))
    if regions:
        lines = _json_lines(regions[0], _WmtLine)
        return [(line["source"], line["target"]) for line in lines if not line.get("is_bad_source")]
    raise RequestError(
        f"{folder} is a folder without {pair} in it: neither FLORES ({FLORES[pair.source][0]}, {FLORES[pair.target][0]}) "
        f"nor WMT24++ ({pair}_*.jsonl).",
        next_command=f"ls {folder}",
    )
