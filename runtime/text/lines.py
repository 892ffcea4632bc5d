"""Text as lines, from files and streams in the encodings that people have.

LF and CRLF alone end a line: U+2028, U+0085, a form feed and the like are part of a segment. gzip is read as what it
holds. Text is UTF-8, or UTF-16 or UTF-32 that begins with its byte order mark, which is no part of it.
"""

import codecs
import gzip
import io
import re
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from runtime.errors import RequestError

LONGEST_LINE = 16 << 20  # bytes; what has no line end for so long is no text
LONGEST_TEXT = 1 << 30  # bytes, unpacked, of a file that is read whole
_SMALL, _DENSEST = 64 << 20, 100  # bytes that anything may unpack to; bytes for a packed one, of text 3 to 20
BOM = "\ufeff"  # a text may begin with several, of programs that each put theirs before it
_GZIP = b"\x1f\x8b"
_BOMS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_PACKED = {b"BZh": "bzcat", b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat", b"PK\x03\x04": "unzip -p"}


def split_lines(text: str) -> list[str]:
    """The lines of a text, without their ends."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def each_line(text: str) -> Iterator[str]:
    """What ``split_lines`` gives, one after the other: of a large text not all are held together."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        yield text[start:] if end < 0 else text[start:end].removesuffix("\r")
        start = end + 1 or len(text)


def one_line(text: str) -> str:
    """The text with spaces where it has line breaks; a lone CR is one as well, since many readers take it for one."""
    return re.sub(r"\r\n?|\n", " ", text)


def some_of(numbers: Sequence[int]) -> str:
    """The first few of many numbers: ``3, 8, 9, 12, 20 and 94 more``."""
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more


def _converted(name: str, command: str) -> str:
    """How to convert a file, or what comes from standard input, by a command that reads one."""
    path = Path(name)
    if not path.is_file():
        return f"{command} < FILE | the same command"
    plain = Path(path.name.removesuffix(".gz"))
    source = f"zcat {shlex.quote(name)} | {command}" if is_gzip(path) else f"{command} {shlex.quote(name)}"
    return f"{source} > {shlex.quote(f'{plain.stem}.utf8{plain.suffix}')}"


def is_gzip(path: Path) -> bool:
    """Whether a file is gzip, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _undecodable(name: str, where: str, data: bytes) -> RequestError:
    """The sentence for bytes that are not UTF-8, with what they probably are."""
    for magic, command in _PACKED.items():
        if data.startswith(magic):
            return RequestError(f"{name} is packed.", next_command=_converted(name, command))
    even, odd = data[:4096:2].count(0), data[1:4096:2].count(0)
    if even or odd:
        # ASCII in UTF-16 has a zero in every other byte
        if abs(even - odd) < max(4, 0.2 * len(data[:4096])):
            return RequestError(f"{name} is no text ({where} holds a zero byte).")
        encoding = "UTF-16LE" if odd > even else "UTF-16BE"
        return RequestError(
            f"{name} is {encoding} without a byte order mark.",
            next_command=_converted(name, f"iconv -f {encoding} -t UTF-8"),
        )
    try:
        data.decode("cp1252")
        encoding = "WINDOWS-1252"
    except UnicodeDecodeError:
        encoding = "ENCODING"
    command = _converted(name, f"iconv -f {encoding} -t UTF-8")
    return RequestError(
        f"{name} is not UTF-8 text ({where}).", next_command=f"{command}   (with the encoding that it has)"
    )


def decode(data: bytes, name: str, encoding: str | None = None) -> str:
    """A text's bytes as text, without a byte order mark.

    Args:
        name: of the file, for the sentence.
        encoding: what the bytes are in unless a mark says otherwise; default: UTF-8.

    Raises:
        RequestError: they are in another encoding, or no text.
    """
    marked = next((found for mark, found in _BOMS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(marked or encoding or "utf-8")
    except UnicodeError as error:
        if not marked and not encoding:
            at = getattr(error, "start", 0)
            raise _undecodable(name, f"line {data.count(10, 0, at) + 1}", data) from None
        raise RequestError(f"{name} says that it is {marked or encoding}, and is not.") from None
    if "\0" in text:
        raise _undecodable(name, f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}", data)
    return text.lstrip(BOM)


def _read(stream: BinaryIO, most: int, path: Path) -> bytes:
    """All that is in a stream up to so many bytes; one call would take memory for all of them at once.

    Raises:
        RequestError: it unpacks to far more than text does.
    """
    found, plausible = bytearray(), max(_SMALL, path.stat().st_size * _DENSEST)
    while len(found) < most and (piece := stream.read(min(1 << 20, most - len(found)))):
        found += piece
        if len(found) > plausible:
            raise RequestError(
                f"{path} unpacks to more than {_DENSEST} times its size, which no text does.",
                next_command=f"zcat {shlex.quote(str(path))} | head",
            )
    return bytes(found)


def read_bytes(path: Path) -> bytes:
    """A whole file, unpacked where it is gzip.

    Raises:
        RequestError: it is damaged, too large, or no regular file.
        OSError: it is not there, or cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RequestError(f"{path} is no regular file, and is read more than once.", next_command=f"cat {path} > FILE")
    with path.open("rb") as file, _unpacked(file, str(path)) as stream:
        try:
            data = _read(stream, LONGEST_TEXT + 1, path)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise RequestError(f"{path} is damaged gzip.", next_command=f"gzip -t {path}") from None
    if len(data) > LONGEST_TEXT:
        raise RequestError(
            f"{path} holds more than {LONGEST_TEXT >> 30} GiB of text.", next_command=f"split -C 500M {path}"
        )
    return data


def read_file(path: Path) -> list[str]:
    """The lines of a file.

    Raises:
        As ``read_bytes`` and ``decode``.
    """
    return split_lines(decode(read_bytes(path), str(path)))


def _unpacked(stream: BinaryIO, name: str) -> io.BufferedReader:
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[arg-type]
    return io.BufferedReader(gzip.GzipFile(fileobj=buffered)) if buffered.peek(2)[:2] == _GZIP else buffered  # type: ignore[arg-type]


def read_stream(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of a file or of standard input, each as soon as it is there.

    Raises:
        RequestError: as ``decode``; what came before has been given.
    """
    number = 0
    try:
        for number, line in enumerate(_decoded(_unpacked(stream, name), name), 1):
            text = line if number > 1 else line.lstrip(BOM)
            yield text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise RequestError(f"{name} is damaged gzip after line {number}.", next_command="gzip -t FILE") from None


def _decoded(stream: io.BufferedReader, name: str) -> Iterator[str]:
    head = stream.peek(4)[:4]
    marked = next((found for mark, found in _BOMS.items() if head.startswith(mark)), "utf-8")
    if marked not in ("utf-8", "utf-8-sig"):
        try:
            yield from io.TextIOWrapper(stream, encoding=marked, newline="\n")
        except UnicodeError:
            raise RequestError(f"{name} begins with the byte order mark of {marked}, and is something else.") from None
        return
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise RequestError(f"{name} is no text: line {number} has more than {LONGEST_LINE >> 20} MiB.")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise _undecodable(name, f"line {number}", line) from None
        if "\0" in text:
            raise _undecodable(name, f"line {number}", line)
        yield text
