"""What a verification found, and its record ``verify.json``."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.comparison import Numbers
from runtime.errors import WorkError
from runtime.formats.files import new_file
from runtime.formats.gguf_file import GgufFile
from runtime.formats.json_object import read_object
from runtime.formats.typed_json import mismatch
from runtime.report.bench_run import Record

FORMAT = "slimmoe-verify/1"


@dataclass(frozen=True)
class Verification:
    """One check: what was compared, on what, and what came out.

    ``numbers`` is None where the token ids already differ. ``reason`` is a sentence's end where the check failed.
    """

    artefact: str
    artefact_sha256: str  # over the contents of the file, all its parts, or all files of the folder
    against: str
    against_sha256: str
    fingerprint: str  # of the reference's routers, as plans and statistics have it
    plan: str | None  # hash of the plan by which experts of the reference were masked
    pair: str
    corpus: str
    corpus_sha256: str
    segments: int
    in_other_tokens: int  # of them, by a smaller vocabulary, and not compared
    engine: str
    against_engine: str
    numbers: Numbers | None
    bar: str
    reason: str

    @property
    def passed(self) -> bool:
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """As one flat object, as ``verify.json`` has it."""
        found = asdict(self)
        return found | (found.pop("numbers") or {}) | {"passed": self.passed}

    def sentence(self) -> str:
        """What was found, for people."""
        text = f"{self.artefact} {'agrees with' if self.passed else 'DIFFERS from'} {self.against}"
        if self.numbers:
            found = self.numbers
            text += (
                f": largest logit difference {found.largest_difference:.2g} of a spread of {found.spread:.2g}, top-1 "
                f"agreement {found.top1_agreement:.1%} ± {1.96 * found.top1_error:.1%}, divergence "
                f"{found.divergence:.2g} nats (99 %: {found.divergence_p99:.2g}) over {found.tokens} tokens"
            )
        if self.in_other_tokens:
            text += f"; {self.in_other_tokens} of {self.segments} segments are in other tokens and not compared"
        return text if self.passed else f"{text}; {self.reason}."


def content_hash(path: Path) -> str:
    """SHA-256 over a file, all parts of a split GGUF file, or all files of a folder with their names."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
    else:
        files = GgufFile(path).parts if path.suffix == ".gguf" else [path]
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as data:
            while block := data.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_record(path: Path) -> list[dict[str, Any]]:
    """The checks of a ``verify.json``; none where there is no such file.

    Raises:
        WorkError: ``path`` holds something else.
    """
    if not path.exists():
        return []
    known = read_object(path)
    if known.get("format") != FORMAT:
        raise WorkError(f"{path} is not a record of checks ({FORMAT}), and is kept as it is.")
    if why := mismatch(known, Record, "it"):
        raise WorkError(f"{path} is damaged: {why}.", next_command=f"rm {path}")
    return known["checks"]


def add_to_record(path: Path, found: Verification) -> None:
    """Write ``found`` into the file of checks, in the place of an earlier one of the same two names.

    Raises:
        WorkError: ``path`` holds something else.
    """
    names = found.artefact, found.against
    checks = [each for each in read_record(path) if (each["artefact"], each["against"]) != names]
    record = {"format": FORMAT, "checks": [*checks, found.to_dict()]}
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
