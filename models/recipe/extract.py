"""Read segment pairs out of the downloaded packages: one reader per format, all yielding the same rows."""

import gettext
import glob
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import polib

from models.recipe.clean import LANGUAGES, marked_pair, sentence_pairs
from models.recipe.documents import Block, align, entities, parse_html, parse_man, parse_xml
from models.recipe.download import PACKAGES

# How packages spell our language codes.
SPELLINGS = {"pt": ("pt_BR", "pt-BR", "pt-br")}
ACCELERATORS = "[_&~]"
CATALOGUE = r"/(?:locale|translations)/<lang>/LC_MESSAGES/(?P<doc>[^/]+)\.mo$"
ENGLISH = ("en", "C")  # C is the folder of the untranslated text
ENTRIES_PER_DOCUMENT = 40  # big catalogues are cut into runs of neighbouring entries, the unit that is held out


class Row(NamedTuple):
    """One aligned sentence pair: where it is from and its two sides."""

    source: str
    document: str
    language: str
    english: str
    other: str


def _codes() -> dict[str, str]:
    return {code: language for language in LANGUAGES for code in SPELLINGS.get(language, (language,))}


def _pattern(member: str, codes: Iterable[str]) -> re.Pattern[str]:
    """A rule of packages.toml with ``<lang>`` standing for any of the codes."""
    return re.compile(member.replace("<lang>", "(?P<lang>" + "|".join(map(re.escape, codes)) + ")"))


def archive_members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """Members of a tarball or .deb whose name matches, streamed in the archive's order."""
    if path.suffix == ".deb":
        process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE)
        archive = tarfile.open(fileobj=process.stdout, mode="r|")
    else:
        archive = tarfile.open(path, mode="r|*")
    with archive:
        for member in archive:
            match = pattern.search(member.name) if member.isfile() else None
            if match:
                stream = archive.extractfile(member)
                assert stream is not None
                yield match, stream.read()


def _rows(source: str, document: str, language: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Row]:
    for english, other in pairs:
        for read in (sentence_pairs, marked_pair):
            for a, b in read(english, other, language, ACCELERATORS):
                yield Row(source, document, language, a, b)


def read_po_archive(path: Path, source: str, member: str) -> Iterator[Row]:
    """Translated, non-fuzzy entries of the .po files in a source archive."""
    codes = _codes()
    for match, data in archive_members(path, _pattern(member, codes)):
        language = codes[match["lang"]]
        for index, entry in enumerate(polib.pofile(data.decode("utf-8", "replace"))):
            if entry.msgstr and not entry.fuzzy and not entry.obsolete:
                document = f"{match['doc']}#{index // ENTRIES_PER_DOCUMENT}"
                yield from _rows(source, document, language, [(entry.msgid, entry.msgstr)])


def read_catalogue(path: Path) -> Iterator[Row]:
    """Entries of the .mo files in a binary package; a text domain (a Wesnoth campaign, say) is a document."""
    package = path.name.split("_")[0]
    source = "wesnoth" if package.startswith("wesnoth") else "gettext"
    codes = _codes()
    for match, data in archive_members(path, _pattern(CATALOGUE, codes)):
        try:
            catalogue = gettext.GNUTranslations(io.BytesIO(data))._catalog  # type: ignore[attr-defined]
        except (OSError, UnicodeDecodeError, ValueError):
            continue  # a catalogue in an odd encoding
        for key, translation in catalogue.items():
            if isinstance(key, str) and key and isinstance(translation, str):
                english = key.split("\x04")[-1]
                english = re.sub(r"^[A-Za-z_ ]*\^", "", english)  # Wesnoth's disambiguation prefix
                yield from _rows(source, match["doc"], codes[match["lang"]], [(english, translation)])


def _description_index(work: Path, code: str) -> dict[str, tuple[str, list[str]]]:
    """Package descriptions of one language: checksum -> (package, title and paragraphs)."""
    index: dict[str, tuple[str, list[str]]] = {}
    for path in glob.glob(str(work / "apt" / "lists" / f"*_main_i18n_Translation-{code.replace('_', '%5f')}*")):
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True).stdout
        for stanza in text.decode("utf-8", "replace").split("\n\n"):
            head = re.match(r"Package: (\S+)\nDescription-md5: (\S+)\nDescription-\w+: (.*)\n", stanza + "\n")
            if head:
                body = (stanza + "\n")[head.end() :]
                paragraphs = [" ".join(part.split()) for part in re.split(r"^ \.$", body, flags=re.M)]
                index[head[2]] = head[1], [head[3], *paragraphs]
    return index


def read_descriptions(work: Path) -> Iterator[Row]:
    """Debian package descriptions; packages whose names start alike are one document."""
    english = _description_index(work, "en")
    for code, language in _codes().items():
        if code not in PACKAGES["descriptions"]:
            continue
        for checksum, (package, translated) in _description_index(work, code).items():
            original = english.get(checksum)
            if original and len(original[1]) == len(translated):
                stem = re.sub(r"^(lib|python3?-|golang-|node-|r-cran-|ruby-)+", "", package)
                document = re.split(r"[-.\d+]", stem)[0][:8] or package
                yield from _rows("descriptions", document, language, zip(original[1], translated))


def read_dictionary(path: Path) -> Iterator[Row]:
    """Phrases and example sentences of the Ding dictionary (German :: English, variants after ; and |)."""

    def plain(text: str) -> str:
        text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|<[^>]*>", " ", text)
        return re.sub(r"\([^()]*\)", " ", re.sub(r"\([^()]*\)", " ", text)).strip()

    for _, data in archive_members(path, re.compile(r"/usr/share/trans/de-en$")):
        for line in data.decode("utf-8").splitlines():
            german, separator, english = line.partition(" :: ")
            if line.startswith("#") or not separator:
                continue
            left, right = german.split("|"), english.split("|")
            if len(left) != len(right):
                continue
            head = re.findall(r"[^\W\d_]{4,}", plain(left[0]))
            document = head[0].lower()[:5] if head else "-"
            for de, en in zip(left, right):
                de, en = (plain(side.split(";")[0]) for side in (de, en))
                abbreviated = re.search(r"\b(sth|sb|so|etw|jdn|jdm|jds|jd)\.|\w/\w", f"{de} {en}")
                if not abbreviated:
                    yield from _rows("dictionary", document, "de", [(en, de)])


@cache
def _kde_entities(packages: Path) -> dict[str, str]:
    """Names of programs and people that KDE's manuals write as entities."""
    path = next(packages.glob(f"{PACKAGES['entities']['package']}_*.deb"))
    pattern = re.compile(PACKAGES["entities"]["member"])
    return entities("\n".join(data.decode("utf-8", "replace") for _, data in archive_members(path, pattern)))


def _parse(name: str, data: bytes, packages: Path) -> Block | None:
    if name.endswith((".html", ".htm")):
        return parse_html(data)
    if name.endswith((".page", ".docbook", ".xml")):
        return parse_xml(data, _kde_entities(packages))
    return parse_man(data)


def read_documents(paths: list[Path], source: str, member: str) -> Iterator[Row]:
    """Documents without segment marks that these packages hold in English and in another language."""
    codes = {**_codes(), **dict.fromkeys(ENGLISH, "en")}
    documents: dict[str, dict[str, tuple[str, bytes]]] = {}
    for path in paths:
        for match, data in archive_members(path, _pattern(member, codes)):
            language = codes[match["lang"] or "en"]
            documents.setdefault(match["doc"], {}).setdefault(language, (match.string, data))
    for document, versions in sorted(documents.items()):
        if "en" in versions and len(versions) > 1:
            parsed = {language: _parse(*version, paths[0].parent) for language, version in versions.items()}
            for language, block in parsed.items():
                if language != "en" and block and parsed["en"]:
                    yield from _rows(source, document, language, align(parsed["en"], block))


def read_messages(path: Path, source: str, member: str) -> Iterator[Row]:
    """JSON files of messages by key, one for each language."""
    codes = {**_codes(), "en": "en"}
    documents: dict[str, dict[str, dict[str, object]]] = {}
    for match, data in archive_members(path, _pattern(member, codes)):
        documents.setdefault(match["doc"], {})[codes[match["lang"]]] = json.loads(data)
    for document, versions in sorted(documents.items()):
        english = versions.pop("en", {})
        for language, messages in versions.items():
            pairs = [(english[key], text) for key, text in messages.items() if key in english]
            texts = [(a, b) for a, b in pairs if isinstance(a, str) and isinstance(b, str)]
            yield from _rows(source, document, language, texts)


def _jobs(work: Path) -> Iterator[tuple[str, str, tuple]]:
    """Name, reader and arguments of every piece of work; what parts are held out of comes first."""
    packages = work / "packages"

    def package(name: str) -> Path:
        return next(packages.glob(f"{name}_*.deb"))

    yield "descriptions", "read_descriptions", (work,)
    for name, spec in PACKAGES["sources"].items():
        yield name, "read_po_archive", (min(packages.glob(f"{name}_*.tar.*")), name, spec["member"])
    for name in PACKAGES["catalogues"]["packages"]:
        yield f"catalogue-{name}", "read_catalogue", (package(name),)
    yield "dictionary", "read_dictionary", (package(PACKAGES["dictionary"]["package"]),)
    for name, spec in PACKAGES["manuals"].items():
        yield name, "read_documents", ([package(part) for part in spec["packages"]], name, spec["member"])
    for name, spec in PACKAGES["messages"].items():
        yield name, "read_messages", (package(name), name, spec["member"])
    for name in PACKAGES["help"]["packages"]:
        yield f"help-{name}", "read_documents", ([package(name)], "help", PACKAGES["help"]["member"])


def _read(path: Path, reader: str, arguments: tuple) -> None:
    """Write a job's rows, without exact repeats, unless they are there from an earlier run."""
    if not path.exists():
        rows = dict.fromkeys(globals()[reader](*arguments))
        text = "".join("\t".join(row) + "\n" for row in rows)
        path.with_suffix(".part").write_text(text, encoding="utf-8")
        path.with_suffix(".part").replace(path)


def extract(work: Path, workers: int = 2) -> Iterator[Row]:
    """All rows of all packages, without exact repeats, in an order that does not depend on timing.

    Each package's rows are kept in ``work/rows``, so that an interrupted run goes on; remove a file to read it anew.
    """
    folder = work / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder / f"{name}.tsv", reader, arguments) for name, reader, arguments in _jobs(work)]
    with ProcessPoolExecutor(workers) as pool:
        for future in [pool.submit(_read, *job) for job in jobs]:
            future.result()
    seen: set[bytes] = set()
    for path, _, _ in jobs:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = Row(*line.split("\t"))
            key = hashlib.blake2b("\t".join(row[2:]).encode(), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                yield row
