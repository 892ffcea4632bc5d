"""Is a corpus what it is taken for? Its columns, a header row, and the languages of both sides, before work begins."""

import re
import shlex
from collections import Counter
from pathlib import Path

from runtime.errors import RequestError, warn_once
from runtime.text.language import is_identifiable, other_language
from runtime.text.languages import FLORES, LANGUAGES
from runtime.text.lines import is_gzip
from runtime.text.pairs import Pair
from runtime.text.public_sets import Segments

SAMPLE = 200  # segments whose languages are identified
LOOKED_AT = 5 * SAMPLE  # segments among which those are looked for
FEWEST = 20  # identified segments, below which nothing is refused
MOST = 0.5  # share of segments that may be in another language
NUMBERS = 0.9  # share of sources that makes a column one of numbers

_ROLES = ("source", "src", "target", "tgt", "trg", "reference", "ref", "translation")
_NUMBER = re.compile(r"[\d.,:/# -]*\d")


def _spread(segments: Segments, count: int) -> Segments:
    """At most ``count`` of the segments, evenly from all of them."""
    return segments[:: -(-len(segments) // count) or 1]


def _is_header(segment: tuple[str, str], pair: Pair) -> bool:
    """Whether both cells name a side (``source``) or one of the pair's languages (``en``, ``eng_Latn``, ``English text``)."""
    codes = (pair.source, pair.target)
    names = [name for code in codes for name in (code, LANGUAGES[code], *(name[:3] for name in FLORES[code]))]
    label = rf"(?i)({'|'.join([*_ROLES, *names])})([ _-]?(text|sentence|segment|lang|language)|[_-][a-z]{{2,4}})?"
    cells = [cell.strip(" #\"'") for cell in segment]
    return cells[0] != cells[1] and all(re.fullmatch(label, cell) for cell in cells)


def _command(path: Path, pair: Pair, table: str, moses: str) -> str | None:
    """The command that puts a table right (FILE), or both files of a Moses pair (SOURCE, TARGET); none for PO files."""
    if path.name.removesuffix(".gz").endswith(".po"):
        return None
    if path.is_file():
        name = shlex.quote(str(path))
        filled = f"zcat {name} | {table.removesuffix(' FILE')}" if is_gzip(path) else table.replace("FILE", name)
        return f"{filled} > {shlex.quote(f'{path.stem}.new.tsv')}"
    for name, code in (("SOURCE", pair.source), ("TARGET", pair.target)):
        moses = moses.replace(name, shlex.quote(f"{path}.{code}"))
    return moses


def check_segments(segments: Segments, pair: Pair, path: Path) -> None:
    """Refuse a corpus with numbers in the source's place, a header row, swapped sides, or text in another language.

    Languages are those of a sample (runtime/text/language.py); too small a sample only warns.

    Args:
        segments: not empty.
        path: of the TSV or PO file, or the Moses stem.

    Raises:
        RequestError: what is wrong, with the command that puts it right.
    """
    few = _spread(segments, LOOKED_AT)
    numbers = [[_NUMBER.fullmatch(side.strip()) is not None for side in segment] for segment in few]
    if sum(source and not target for source, target in numbers) > NUMBERS * len(few):
        raise RequestError(
            f"{path} has numbers where its {pair.source_name} should be: expected source TAB target.",
            next_command=_command(path, pair, "cut -f2,3 FILE", "head SOURCE TARGET"),
        )
    if _is_header(segments[0], pair):
        raise RequestError(
            f"The first line of {path} is a header, not a segment: {segments[0][0]}, {segments[0][1]}.",
            next_command=_command(path, pair, "tail -n +2 FILE", "sed -i 1d SOURCE TARGET"),
        )
    _check_languages(segments, pair, path)


def _check_languages(segments: Segments, pair: Pair, path: Path) -> None:
    long = [segment for segment in _spread(segments, LOOKED_AT) if all(map(is_identifiable, segment))]
    if not long:
        return
    sample = _spread(long, SAMPLE)
    sources, targets = (
        Counter(found for text in side if (found := other_language(text, code)))
        for side, code in zip(zip(*sample), (pair.source, pair.target))
    )
    most = MOST * len(sample)
    if min(sources[pair.base.target], targets[pair.base.source]) > most:
        swap = r"""awk -F'\t' -v OFS='\t' '{ print $2, $1 }' FILE"""
        rename = "mv SOURCE SOURCE.swapped && mv TARGET SOURCE && mv SOURCE.swapped TARGET"
        sentence = (
            f"{path} is swapped: {pair.target_name} where its {pair.source_name} should be, and the other way round."
        )
        return _refuse(sentence, _command(path, pair, swap, rename), len(sample))
    for side, name, found in (("sources", pair.source_name, sources), ("targets", pair.target_name, targets)):
        code, count = found.most_common(1)[0] if found else ("", 0)
        if count > most:
            sentence = (
                f"The {side} of {path} should be {name}, and {count} of {len(sample)} in a sample look like "
                f"{LANGUAGES[code]}."
            )
            return _refuse(sentence, f"head {shlex.quote(str(path))}" if path.is_file() else None, len(sample))


def _refuse(sentence: str, command: str | None, identified: int) -> None:
    if identified >= FEWEST:
        raise RequestError(sentence, next_command=command)
    warn_once(f"{sentence} It is too small to be sure.")
