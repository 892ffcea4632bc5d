"""Readers for parallel text: TSV, Moses pairs and PO files all become lists of (source, target) segments.

Public test sets have readers of their own, in runtime/text/public_sets.py.
"""

import codecs
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from runtime.errors import RequestError, WorkError, warn_once
from runtime.formats.json_object import read_object
from runtime.text.corpus_check import check_segments
from runtime.text.languages import base_language
from runtime.text.lines import decode, each_line, read_bytes, split_lines
from runtime.text.pairs import Pair
from runtime.text.public_sets import Segments, is_sacrebleu_set, read_folder, read_sacrebleu

OWN_FORMAT = "slimmoe-own-translations/"
SHIPPED = Path(__file__).parent / "data"


def locate(path: Path) -> Path:
    """Where a corpus is: ``data/test`` and so on are the sets that come with slimmoe, unless such a file is here."""
    path = Path(path)
    if path.parent != Path("data") or path.exists() or list(path.parent.glob(f"{path.name}.*")):
        return path
    return SHIPPED / path.name


def is_shipped(path: Path) -> bool:
    """Whether this names one of the sets that come with slimmoe."""
    return locate(path).parent == SHIPPED


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise RequestError(
            f"There is no corpus file {path}.",
            next_command="the same command with --corpus my.tsv, or --test my.tsv where it has that   "
            "(a TSV file: source TAB target, one segment a line)",
        ) from None
    except IsADirectoryError:
        raise RequestError(f"{path} is a folder; a corpus is a TSV or PO file, or a Moses pair's stem.") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        RequestError: the file is missing, a folder, or no text in Unicode.
    """
    return split_lines(decode(_read(path), str(path)))


def is_own(path: Path) -> bool:
    """Whether a corpus is a model's own translations (slimmoe/own_translations.py), by the JSON file beside it."""
    try:
        return str(read_object(Path(path).with_suffix(".json")).get("format")).startswith(OWN_FORMAT)
    except (ValueError, WorkError):  # no such name, no such file, or another's
        return False


def read_tsv(path: Path) -> Segments:
    """Source TAB target, one segment a line; further columns and empty lines are ignored.

    Raises:
        RequestError: the file is missing, no text in Unicode, or a line has fewer than two columns.
    """
    segments = []
    for number, line in enumerate(each_line(decode(_read(path), str(path))), 1):
        if line.strip():
            columns = line.split("\t")
            if len(columns) < 2:
                raise RequestError(f"{path}, line {number} has no TAB: expected source TAB target.")
            segments.append((columns[0], columns[1]))
    return segments


def _moses_side(stem: Path, code: str) -> Path:
    """``STEM.pt-BR``, ``STEM.pt`` where only that is there, or one of them with ``.gz``."""
    names = dict.fromkeys(f"{stem.name}.{each}{end}" for each in (code, base_language(code)) for end in ("", ".gz"))
    paths = [stem.with_name(name) for name in names]
    return next((path for path in paths if path.exists()), paths[0])


def read_moses(stem: Path, pair: Pair) -> Segments:
    """The two files ``STEM.en`` and ``STEM.de``, or ``STEM.en.gz`` and so on, aligned by line.

    Of a variant (``pt-BR``) its language's file is read where it has none.

    Raises:
        RequestError: one is missing, no text in Unicode, or they differ in length.
    """
    source, target = (read_lines(_moses_side(stem, code)) for code in (pair.source, pair.target))
    if len(source) != len(target):
        raise RequestError(
            f"{stem}.{pair.source} has {len(source)} lines and {stem}.{pair.target} has {len(target)}: not parallel."
        )
    return [(a, b) for a, b in zip(source, target, strict=True) if a.strip() or b.strip()]


def _decode_po(data: bytes, path: Path) -> str:
    """By a byte order mark or the header's charset. One that says ASCII or nothing known is read as UTF-8."""
    said = re.search(rb'"Content-Type:[^"]*charset=([\w.:-]+)', data)
    charset = said[1].decode("ascii", "replace").lower() if said else "utf-8"
    try:
        plain = codecs.lookup(charset)._is_text_encoding and charset not in ("ascii", "us-ascii", "utf-8")
    except LookupError:  # a template says CHARSET
        plain = False
    return decode(data, str(path), charset if plain else None)


def read_po(path: Path) -> Segments:
    """Translated entries of a PO file that are neither fuzzy nor obsolete; one with a plural gives two segments.

    The singular goes with the first form, the plural with the last, which is that of large numbers in every language.

    Raises:
        RequestError: the file is missing, not in the charset of its header, or no PO file.
    """
    import polib  # only here: the desktop install reads TSV without it

    text = _decode_po(_read(path), path)
    for number, line in enumerate(split_lines(text), 1):
        opened = re.match(r'\s*(msg\w+(\[\d+\])?\s+)?(?=")', line)
        if opened and not re.fullmatch(r'"(\\.|[^\\])*"\s*', line[opened.end() :]):  # polib would drop a character
            raise RequestError(f"{path} is not a PO file (line {number} has no closing quote).")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".po") as plain:  # polib splits text at U+2028 too
        plain.write(text)
        plain.flush()
        try:
            entries: Iterable[polib.POEntry] = polib.pofile(plain.name, encoding="utf-8").translated_entries()
        except (OSError, ValueError, IndexError) as error:
            reason = str(error).replace(plain.name, path.name)
            raise RequestError(f"{path} is not a PO file ({reason}).") from None
    segments = []
    for entry in entries:
        forms = entry.msgstr_plural
        segments += [(entry.msgid, forms[min(forms)]), (entry.msgid_plural, forms[max(forms)])] if forms else []
        segments += [] if forms else [(entry.msgid, entry.msgstr)]
    return [(source, target) for source, target in segments if source]


def read_segments(path: Path, pair: Pair) -> Segments:
    """Read by what is there: a folder (FLORES, WMT24++), ``*.po``, a Moses stem, a set of sacreBLEU's, or else TSV.

    A Moses stem has both language files beside it. A file of the name goes before a set of sacreBLEU's. Segments with an
    empty side are left out, with a warning. Files of the user's own are checked for their columns and languages
    (``check_segments``).

    Raises:
        RequestError: nothing readable, no segment in it, or not what a corpus of this pair looks like.
    """
    path = locate(path)
    own = path.parent != SHIPPED
    if path.is_dir():
        own, segments = False, read_folder(path, pair)
    elif path.name.removesuffix(".gz").endswith(".po"):
        segments = read_po(path)
    elif not path.exists() and _moses_side(path, pair.source).exists():
        segments = read_moses(path, pair)
    elif not path.exists() and is_sacrebleu_set(path.as_posix()):
        own, segments = False, read_sacrebleu(path.as_posix(), pair)
    else:
        segments = read_tsv(path)
    whole = [(source, target) for source, target in segments if source.strip() and target.strip()]
    if not whole:
        raise RequestError(f"{path} holds no {pair} segments.")
    if left_out := len(segments) - len(whole):
        warn_once(f"{path}: {left_out} of {len(segments)} segments have an empty side and are left out.")
    segments = whole
    if own:
        check_segments(segments, pair, path)
    return segments


def corpus_files(path: Path, pair: Pair) -> list[Path]:
    """The files that ``read_segments`` would read, whether or not they can be read; none of a set of sacreBLEU's.

    Raises:
        RequestError: there is no such corpus.
    """
    path = locate(path)
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    if path.exists():
        return [path]
    sides = [_moses_side(path, code) for code in (pair.source, pair.target)]
    if sides[0].exists():
        return sides
    if is_sacrebleu_set(path.as_posix()):
        return []
    _read(path)
    return [path]
