"""What a run folder holds: rows of bench.jsonl, the plan, and the record of verifications."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from runtime.errors import RequestError, printable
from runtime.formats.provenance import FILE as PROVENANCE_FILE
from runtime.formats.typed_json import Amount, Count, Positive, Share
from runtime.measure.labels import only_model
from runtime.measure.rows import Row, finished_rows, parse_object


class PlanLayer(TypedDict):
    """How many experts of a layer stay."""

    experts: Positive
    keep: list[Count]


class Calibration(TypedDict, total=False):
    """The text that a plan was made on."""

    corpus: str
    sha256: str
    segments: Count
    prompt_tokens: Count
    response_tokens: Count


class PlanFacts(TypedDict):
    """What a report says of plan.json."""

    hash: str
    criterion: str
    allocation: str
    ratio: Share
    top_k: Positive
    layers: list[PlanLayer]
    calibration: NotRequired[Calibration]


class Check(TypedDict):
    """One verification; the numbers are absent where the token ids already differ."""

    artefact: str
    against: str
    engine: str
    bar: str
    passed: bool
    reason: str
    tokens: NotRequired[Count]
    largest_difference: NotRequired[Amount]
    spread: NotRequired[Amount]
    top1_agreement: NotRequired[Share]
    top1_error: NotRequired[Amount]
    divergence: NotRequired[float]
    divergence_error: NotRequired[float]
    divergence_p99: NotRequired[float]


class Record(TypedDict):
    """verify.json."""

    checks: list[Check]


@dataclass(frozen=True)
class BenchRun:
    """What a run folder holds; the plan is None and there are no checks where their files are absent."""

    rows: list[Row]
    plan: PlanFacts | None
    checks: list[Check]

    def parts(self) -> list[tuple[str, list[Row]]]:
        """Rows that may be compared, by pair, and by model where there are several; each part with its title."""
        only, several = only_model(self.rows), len({row["model"] for row in self.rows if row.get("model")}) > 1
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            names = [row.get("model") or only or "model not named"] * several + [row.get("pair", "-")]
            found.setdefault(", ".join(names), []).append(row)
        return list(found.items())


def _read(path: Path, kind: Any) -> Any:
    if not path.is_file():
        raise RequestError(f"{path} is no file.", next_command=f"rm -r {path}")
    return _shown(parse_object(path.read_text(encoding="utf-8", errors="replace"), kind, str(path), f"rm {path}"))


def _shown(value: Any) -> Any:
    """The same with all its text printable: what is shown of a run comes from files that others may have written."""
    if isinstance(value, dict):
        return {printable(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def read_run(folder: Path) -> BenchRun:
    """Read ``bench.jsonl``, ``plan.json`` and ``verify.json`` of a run folder.

    Raises:
        RequestError: no folder, nothing measured in it, or a file of it cannot be read.
    """
    rows = _shown(finished_rows(folder / "bench.jsonl"))
    if not rows:
        raise RequestError(
            f"{folder} holds no bench.jsonl.", next_command=f"slimmoe bench ARTEFACT -o {folder}/bench.jsonl"
        )
    plans, checks = (folder / "plan.json", folder / "checkpoint" / PROVENANCE_FILE), folder / "verify.json"
    plan = next((path for path in plans if path.exists()), None)  # a recovered checkpoint's is that of its cut
    return BenchRun(
        rows,
        _read(plan, PlanFacts) if plan else None,
        _read(checks, Record)["checks"] if checks.exists() else [],
    )
