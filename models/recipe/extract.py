"""Read segment pairs out of the downloaded packages: one reader per format, all yielding the same rows."""

import gettext
import glob
import hashlib
import io
import itertools
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import polib

from models.recipe.clean import LANGUAGES, sentence_pairs
from models.recipe.download import PACKAGES

# How packages spell our language codes.
SPELLINGS = {"pt": ("pt_BR", "pt-BR")}
ACCELERATORS = "[_&~]"
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


def _archive_members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
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
        for a, b in sentence_pairs(english, other, language, ACCELERATORS):
            yield Row(source, document, language, a, b)


def read_po_archive(path: Path, source: str, member: str) -> Iterator[Row]:
    """Translated, non-fuzzy entries of the .po files in a source archive."""
    codes = _codes()
    pattern = re.compile(member.replace("<lang>", "(?P<lang>" + "|".join(map(re.escape, codes)) + ")"))
    for match, data in _archive_members(path, pattern):
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
    pattern = re.compile(
        r"/(?:locale|translations)/(" + "|".join(map(re.escape, codes)) + r")/LC_MESSAGES/([^/]+)\.mo$"
    )
    for match, data in _archive_members(path, pattern):
        try:
            catalogue = gettext.GNUTranslations(io.BytesIO(data))._catalog  # type: ignore[attr-defined]
        except (OSError, UnicodeDecodeError, ValueError):
            continue  # a catalogue in an odd encoding
        for key, translation in catalogue.items():
            if isinstance(key, str) and key:
                english = key.split("\x04")[-1]
                english = re.sub(r"^[A-Za-z_ ]*\^", "", english)  # Wesnoth's disambiguation prefix
                yield from _rows(source, match[2], codes[match[1]], [(english, translation)])


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

    for _, data in _archive_members(path, re.compile(r"/usr/share/trans/de-en$")):
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


def _read(job: tuple[str, tuple]) -> list[Row]:
    return list(globals()[job[0]](*job[1]))


def extract(work: Path, workers: int = 2) -> Iterator[Row]:
    """All rows of all packages, without exact repeats, in an order that does not depend on timing."""
    packages = work / "packages"
    jobs: list[tuple[str, tuple]] = [("read_descriptions", (work,))]
    for name, spec in PACKAGES["sources"].items():
        path = next(path for path in sorted(packages.glob(f"{name}_*.tar.*")))
        jobs.append(("read_po_archive", (path, name, spec["member"])))
    for name in PACKAGES["catalogues"]["packages"]:
        jobs.append(("read_catalogue", (next(packages.glob(f"{name}_*.deb")),)))
    jobs.append(("read_dictionary", (next(packages.glob(f"{PACKAGES['dictionary']['package']}_*.deb")),)))
    seen: set[bytes] = set()
    with ProcessPoolExecutor(workers) as pool:
        for row in itertools.chain.from_iterable(pool.map(_read, jobs)):
            key = hashlib.blake2b("\t".join(row[2:]).encode(), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                yield row
