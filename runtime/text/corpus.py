"""Readers for parallel text: TSV, Moses pairs and PO files all become lists of (source, target) segments.

Public test sets have readers of their own, in runtime/text/public_sets.py.
"""

from collections.abc import Iterable
from pathlib import Path

from runtime.errors import RequestError
from runtime.text.corpus_check import check_segments
from runtime.text.pairs import Pair
from runtime.text.public_sets import Segments, is_sacrebleu_set, read_folder, read_sacrebleu

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


def split_lines(text: str) -> list[str]:
    """Lines end with LF or CRLF alone: U+2028, U+0085, a form feed and the like are part of a segment."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _lines(path: Path) -> list[str]:
    try:
        return split_lines(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise RequestError(
            f"There is no corpus file {path}.",
            next_command="the same command with --corpus my.tsv, or --test my.tsv where it has that   "
            "(a TSV file: source TAB target, one segment a line)",
        ) from None
    except IsADirectoryError:
        raise RequestError(f"{path} is a folder; a corpus is a TSV or PO file, or a Moses pair's stem.") from None
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text (byte {error.start}).",
            next_command=f"iconv -f latin1 -t utf-8 {path} > {path.stem}.utf8{path.suffix}",
        ) from None


def read_tsv(path: Path) -> Segments:
    """Source TAB target, one segment a line; further columns and empty lines are ignored.

    Raises:
        RequestError: the file is missing, not UTF-8, or a line has fewer than two columns.
    """
    segments = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            columns = line.split("\t")
            if len(columns) < 2:
                raise RequestError(f"{path}, line {number} has no TAB: expected source TAB target.")
            segments.append((columns[0], columns[1]))
    return segments


def read_moses(stem: Path, pair: Pair) -> Segments:
    """The two files ``STEM.en`` and ``STEM.de``, aligned by line."""
    source, target = (_lines(stem.with_name(f"{stem.name}.{code}")) for code in (pair.source, pair.target))
    if len(source) != len(target):
        raise RequestError(
            f"{stem}.{pair.source} has {len(source)} lines and {stem}.{pair.target} has {len(target)}: not parallel."
        )
    return [(a, b) for a, b in zip(source, target, strict=True) if a.strip() and b.strip()]


def read_po(path: Path) -> Segments:
    """Translated entries of a PO file that are neither fuzzy nor obsolete."""
    import polib  # only here: the desktop install reads TSV without it

    _lines(path)  # the same sentences for a missing or badly encoded file
    try:
        entries: Iterable[polib.POEntry] = polib.pofile(str(path)).translated_entries()
    except OSError as error:
        raise RequestError(f"{path} is not a PO file ({error}).") from None
    return [(entry.msgid, entry.msgstr) for entry in entries if entry.msgid and entry.msgstr]


def read_segments(path: Path, pair: Pair) -> Segments:
    """Read by what is there: a folder (FLORES, WMT24++), ``*.po``, a Moses stem, a set of sacreBLEU's, or else TSV.

    A Moses stem has both language files beside it. A file of the name goes before a set of sacreBLEU's. Files of the
    user's own are checked for their columns and languages (``check_segments``).

    Raises:
        RequestError: nothing readable, no segment in it, or not what a corpus of this pair looks like.
    """
    path = locate(path)
    own = path.parent != SHIPPED
    if path.is_dir():
        own, segments = False, read_folder(path, pair)
    elif path.suffix == ".po":
        segments = read_po(path)
    elif not path.exists() and path.with_name(f"{path.name}.{pair.source}").exists():
        segments = read_moses(path, pair)
    elif not path.exists() and is_sacrebleu_set(path.as_posix()):
        own, segments = False, read_sacrebleu(path.as_posix(), pair)
    else:
        segments = read_tsv(path)
    if not segments:
        raise RequestError(f"{path} holds no {pair} segments.")
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
    sides = [path.with_name(f"{path.name}.{code}") for code in (pair.source, pair.target)]
    if sides[0].exists():
        return sides
    if is_sacrebleu_set(path.as_posix()):
        return []
    _lines(path)
    return [path]
