"""Source code and structured text out of the downloaded packages: what translation has no use for.

A model that knows nothing but translation has no experts to spare; this is what some of them learn instead.
"""

import collections
import hashlib
import json
import re
from pathlib import Path

from models.recipe.download import PACKAGES
from models.recipe.extract import archive_members

# Kind by the end of a file's name.
KINDS = {
    "c": "c", "h": "c", "cc": "c++", "cpp": "c++", "py": "python", "pl": "perl", "pm": "perl", "sh": "shell",
    "php": "php", "js": "javascript", "css": "css", "less": "css", "sql": "sql", "json": "json", "xml": "xml",
    "svg": "xml", "ui": "xml", "tcl": "tcl", "ini": "ini", "hal": "ini", "ngc": "g-code", "am": "make", "mk": "make",
    "cmake": "make",
}  # fmt: skip
MEMBER = re.compile(r"^(?!.*(?:/i18n/|\.min\.)).*/[^/]+\.(" + "|".join(KINDS) + ")$")
LONGEST_FILE, LONGEST_LINE = 40_000, 300  # characters; what is longer is data or minified
SHARE = 1_500_000  # characters of a kind taken from one archive, so that none of them drowns the others
TEST = 50  # one file in so many is held out


def read_code(path: Path) -> list[dict[str, str]]:
    """Files of an archive as records of kind, path and text, in the archive's order."""
    taken: collections.Counter[str] = collections.Counter()
    records = []
    for match, data in archive_members(path, MEMBER):
        kind = KINDS[match[1]]
        try:
            text = data[:LONGEST_FILE].decode("utf-8")
        except UnicodeDecodeError:
            continue
        if taken[kind] < SHARE and len(text) > 200 and max(map(len, text.splitlines())) <= LONGEST_LINE:
            taken[kind] += len(text)
            records.append({"kind": kind, "path": match.string, "text": text})
    return records


def build_code(work: Path) -> dict[str, int]:
    """Write ``work/corpus/code.{train,test}.jsonl``, without exact copies; returns the characters by kind."""
    names = [f"{name}_*.deb" for name in PACKAGES["code"]["packages"]]
    names += [f"{name}_*.tar.*" for name in PACKAGES["sources"]]
    parts: dict[str, list[str]] = {"train": [], "test": []}
    counts: collections.Counter[str] = collections.Counter()
    seen: set[bytes] = set()
    for name in names:
        for record in read_code(min((work / "packages").glob(name))):
            digest = hashlib.blake2b(record["text"].encode(), digest_size=8).digest()
            if digest not in seen:
                seen.add(digest)
                part = "train" if int.from_bytes(digest, "big") % TEST else "test"
                parts[part].append(json.dumps(record, ensure_ascii=False))
                counts[record["kind"]] += len(record["text"])
    for part, lines in parts.items():
        (work / "corpus" / f"code.{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dict(counts)
