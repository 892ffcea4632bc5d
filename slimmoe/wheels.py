"""A model as a Python package: a wheel that holds its files and announces them by an entry point, and no code.

A wheel is a zip file with metadata (packaging.python.org, "Binary distribution format"). The same model, version, licence
and card give the same bytes: times are fixed and nothing is compressed, which weights hardly are in any case.
"""

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import RequestError
from runtime.formats.artefact import describe, find_artefact, pair_of
from runtime.formats.files import new_file, require_space
from runtime.formats.store import ENTRY_POINTS, is_name
from slimmoe.storing import CARD, LICENCE, check_model, files_of_model, require_artefact

_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?")  # PEP 440, as it is normalised
_WHEN = (1980, 1, 1, 0, 0, 0)  # the first time that zip files know
_MOST_TEXT = 1 << 20  # bytes of a licence or card


def write_wheel(
    what: Path,
    folder: Path,
    version: str = "1.0",
    name: str | None = None,
    licence: Path | None = None,
    card: Path | None = None,
) -> Path:
    """Write the wheel of a model.

    Args:
        what: an artefact, or a run's folder, of which the ONNX folder is taken where there is one: it needs no compiler.
        folder: for the wheel; one of the same name is replaced.
        name: of the model and, as ``slimmoe-model-<name>``, of the package; default: its pair.
        licence: file with its text; None: LICENSE beside the model.
        card: Markdown file; None: README.md beside the model, or a few lines of what the model tells.

    Raises:
        RequestError: no such model, or one without a pair, licence or right name; not a version.
        WorkError: the model is damaged, or the disk is full.
    """
    artefact = find_artefact(what, prefer_onnx=True)
    require_artefact(artefact)
    pairs, about = pair_of(artefact), describe(artefact)
    if name is None and not pairs:
        raise RequestError("The model names no language pair to call it by.", next_command="the same with --name en-de")
    name = pairs.lower() if name is None else name
    if not is_name(name) or name.endswith(("-", "_")):
        raise RequestError(f"{name!r} is no name for a package.", next_command="the same with --name en-de")
    if not _VERSION.fullmatch(version):
        raise RequestError(f"{version!r} is no version of a package.", next_command="the same with --version 1.0")
    model = files_of_model(artefact)
    terms = _text(
        licence or model.get(LICENCE) or artefact.parent / LICENCE,
        "the licence that it is given under",
        "--licence FILE",
    )
    shown = card or model.get(CARD)
    told = _text(shown, "its card", "--card FILE") if shown else _card(name, pairs, about)
    check_model(artefact)

    package = f"slimmoe-model-{re.sub(r'[._-]+', '-', name).lower()}"
    module = package.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = "slimmoe[llama]" if artefact.suffix == ".gguf" else "slimmoe"
    files: dict[str, Path | bytes] = {f"{module}/model/{inside}": path for inside, path in sorted(model.items())}
    files |= {
        f"{module}/__init__.py": f'"""A translation model for slimmoe: {name}."""\n'.encode(),
        f"{info}/METADATA": _metadata(package, version, needs, pairs) + told,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: slimmoe\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{ENTRY_POINTS}]\n{name} = {module}\n".encode(),
        f"{info}/licenses/LICENSE": terms,
    }
    path = folder / f"{module}-{version}-py3-none-any.whl"
    require_space(path, sum(each.stat().st_size for each in model.values()))
    with new_file(path) as temporary:
        _write(temporary, files, f"{info}/RECORD")
    return path


def _text(path: Path, what: str, option: str) -> bytes:
    if not path.is_file():
        raise RequestError(f"There is no {path}: {what} goes into the package.", next_command=f"the same with {option}")
    data = path.read_bytes() if path.stat().st_size <= _MOST_TEXT else b"\0"
    try:
        if "\0" in (text := data.decode("utf-8-sig")) or not text.strip():
            raise ValueError
    except ValueError:
        raise RequestError(
            f"{path} is no text in UTF-8 of at most 1 MB.", next_command=f"the same with {option}"
        ) from None
    return text.replace("\r\n", "\n").encode()


def _card(name: str, pairs: str, about: dict[str, Any]) -> bytes:
    told = about["provenance"]
    cut = f", of which {told['ratio']:.0%} of the experts were cut" if told.get("ratio") else ""
    return (
        f"# {name}\n\nA translation model for slimmoe ({pairs or 'no pair named'}, {about['type']}){cut}.\n\n"
        "    slimmoe models list\n"
    ).encode()


def _metadata(package: str, version: str, needs: str, pairs: str) -> bytes:
    lines = [
        "Metadata-Version: 2.4", f"Name: {package}", f"Version: {version}",
        f"Summary: A translation model for slimmoe{f': {pairs}' if pairs else ''}", "License-File: LICENSE",
        "Requires-Python: >=3.11", f"Requires-Dist: {needs}", "Description-Content-Type: text/markdown; charset=UTF-8",
    ]  # fmt: skip
    return "\n".join([*lines, "", ""]).encode()


def _write(path: Path, files: dict[str, Path | bytes], record: str) -> None:
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            digest, size = hashlib.sha256(), 0
            with archive.open(_entry(name), "w", force_zip64=not isinstance(content, bytes)) as file:
                for piece in _pieces(content):
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
            encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={encoded},{size}\n")
        archive.writestr(_entry(record), "".join([*rows, f"{record},,\n"]))


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as on Unix, whatever system writes it
    return entry


def _pieces(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
