"""Rows of bench.jsonl: their keys and units, and how they are read, joined and written.

A row is one line of JSON. Every key but ``artefact`` may be absent: older rows lack what was measured later, rows of
speed alone have no scores, and a run that was killed has no scores, no speed and no engine.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict

from runtime.errors import RequestError
from runtime.formats.files import new_file
from runtime.formats.provenance import FULL, Recovery, chain
from runtime.formats.typed_json import Amount, Count, Positive, Share, Within, mismatch
from runtime.measure.on_device import OnDevice

FORMAT = "slimmoe-bench/1"  # rows without it are older, and are read
Score = Annotated[float, Within(0, 100.001)]  # sacreBLEU's of equal texts may lie a rounding above 100
_ENGINES = {"onnxruntime": "ONNX RT"}  # short enough for a table of 80 columns


class RecoveryRecord(TypedDict, total=False):
    """One recovery (runtime/formats/provenance.py), with whatever else was recorded of it."""

    method: str
    steps: Count | None
    best_step: Count | None
    teacher: str | None
    after: "RecoveryRecord"  # older: the one before it


class RowProvenance(TypedDict, total=False):
    """Where a pruned artefact comes from (runtime/formats/provenance.py); empty for a model that slimmoe did not cut."""

    hash: str  # of the plan
    pair: str  # that it was pruned for
    criterion: str | None
    allocation: str
    ratio: Share  # share of the experts that were cut, 0 to 1
    tokens: Positive  # that stay, where some were cut
    recovered: bool
    recoveries: list[RecoveryRecord]  # in the order of time
    recovery: RecoveryRecord | None  # older: the newest one


class ThreadSpeed(TypedDict, total=False):
    """Speed with one number of threads, each the fastest of its repeats (runtime/measure/speed.py)."""

    threads: Required[Positive]
    prefill_tokens_per_second: Required[Amount]
    decode_tokens_per_second: Required[Amount]
    first_token_seconds: Amount  # from a sentence as text to the first token of its translation
    scatter: dict[str, Amount]


class LlamaBench(TypedDict, total=False):
    """llama-bench on the same file, interleaved with our own loop."""

    prefill_tokens_per_second: Amount
    decode_tokens_per_second: Amount
    prefill_share: Amount  # our tokens/s over llama-bench's
    decode_share: Amount


class AgainstUnpruned(TypedDict, total=False):
    """Paired bootstrap against the unpruned row of the same model, pair, test set, engine and type (compare.py)."""

    chrf_delta: float
    chrf_low: float  # of the difference's 95 % interval
    chrf_high: float
    chrf_p: Share
    bleu_delta: float
    bleu_p: Share
    share: Amount  # of the unpruned chrF++
    base: str  # artefact of the unpruned row


class Row(OnDevice, total=False):
    """One run of one artefact. Sizes are bytes, times seconds, speeds tokens per second."""

    format: str
    run: str  # of a sweep: what tells it from all its other runs
    model: str  # name of the source model, where a file holds several
    # what ran
    artefact: Required[str]  # path of a GGUF file, an ONNX folder or graph; relative to the file's folder or as typed
    type: str | None  # Q4_K_M, int4, ...
    provenance: RowProvenance
    dense: bool  # a peer without experts (benchmarks/dense.py)
    pair: str
    prompt: dict[str, Any]  # how the model was asked (runtime/text/prompt_templates.py)
    size_bytes: Count
    # where
    machine: str
    python: str
    engine: str  # name and version
    threads: Positive
    # memory of a process that loads, generates once and translates the test set
    peak_bytes: Count  # highest proportional set size
    peak_anonymous_bytes: Count
    peak_file_bytes: Count
    major_faults: Count
    memory_series: list[tuple[Amount, Amount, Amount]]  # seconds, anonymous bytes, file bytes
    memory_note: str  # where the system tells less than Linux
    weights_bytes: Count
    compute_bytes: Count
    kv_cache_bytes: Count
    other_load: Amount  # share of the cores that other processes kept busy meanwhile, 0 to 1
    # speed, one sequence at a time
    speed: list[ThreadSpeed]  # by rising number of threads; the last one's is the row's own
    prefill_tokens_per_second: Amount  # 128 tokens
    decode_tokens_per_second: Amount  # the 64 after them
    scatter: dict[str, Amount]  # by key: distance of the fastest from the slowest repeat, as a share of their median
    llama_bench: LlamaBench
    load_seconds: Amount
    load_cold_seconds: Amount  # with the file out of the page cache
    load_warm_seconds: Amount
    # within a memory limit
    memory_limit_bytes: Count
    limit_method: str  # cgroup v1, cgroup v2 or RLIMIT_DATA
    limit_note: str
    verdict: str  # fits, thrashes or killed
    throughput_share: Amount  # of the tokens per second without a limit
    refaults: Count  # pages that were read again
    # quality
    test: str  # test set
    segments: Count
    chrf: Score  # chrF++, 0 to 100
    chrf_interval: tuple[float, float]  # 95 %, by bootstrap
    chrf_signature: str
    bleu: Score
    bleu_signature: str
    meaning: float  # -1 to 1, docs/quality.md
    meaning_signature: str
    comet: float
    comet_signature: str
    against_unpruned: AgainstUnpruned
    failures: dict[str, Count]  # segments, by kind of failure; one segment may be of several kinds
    failed: Count  # segments with any failure
    samples: list[tuple[str, str, str]]  # source, reference, hypothesis
    hypotheses: str | list[str]  # a file beside bench.jsonl, one segment a line; the texts before they are stored
    references: str | list[str]
    sentences_per_second: Amount  # of the test set
    tokens_per_second: Amount  # written, prefill included
    prefill_tokens: Count
    prefill_seconds: Amount
    decode_tokens: Count
    decode_seconds: Amount


def parse_object(text: str, kind: Any, place: str, remedy: str) -> Any:
    """A JSON object of the ``TypedDict`` ``kind``.

    Raises:
        RequestError: it is not one. The sentence begins with ``place``, and ``remedy`` is the next command.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError(f"{place} is not a JSON object.", next_command=remedy)
    if why := mismatch(value, kind, "it"):
        raise RequestError(f"{place} cannot be read: {why}.", next_command=remedy)
    return value


def finished_rows(path: Path) -> list[Row]:
    """The rows of bench.jsonl; none where there is no file.

    The last line may be half of one, if the process was killed while it wrote: it is left out. Blank lines are too.

    Raises:
        RequestError: it is another kind of file, or a line is no row.
    """
    if not path.exists():
        return []
    lines = _text_of(path).split("\n")
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not (number == len(lines) and not _is_json(line)):
            place, remedy = f"Line {number} of {path}", f"sed -n {number}p {path}   (correct or delete it)"
            row = parse_object(line, Row, place, remedy)
            if row.get("format", FORMAT) != FORMAT:
                raise RequestError(
                    f"{place} is of another format ({row['format']}) than {FORMAT}.", next_command=remedy
                )
            rows.append(row)
    return rows


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text_of(path: Path) -> str:
    """The file's text, if its first character may begin a row: a model is refused without being read.

    Raises:
        RequestError: it may not.
    """
    if path.is_file():
        with path.open("rb") as file:
            begins = file.read(4096).lstrip()
        if not begins or begins.startswith(b"{"):
            with contextlib.suppress(UnicodeDecodeError):
                return path.read_text(encoding="utf-8")
    raise RequestError(f"{path} is not a bench.jsonl, and is kept as it is: choose another name with -o.")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write all rows anew, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def append_row(path: Path, row: Row) -> None:
    """Add a row; when this returns, it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def join_rows(path: Path, rows: list[Row]) -> list[Row]:
    """Add rows to a bench.jsonl that may be there, and return all. A row takes the place of an earlier one of the same
    artefact, type, pair, threads, memory limit and test set, and keeps what a sweep called that one.

    Raises:
        RequestError: ``path`` is another kind of file, or a line of it is no row.
    """
    joined = {_identity(row, path.parent): row for row in finished_rows(path)}
    for row in rows:
        key = _identity(row, path.parent)
        before = joined.get(key)
        names: Any = {name: before[name] for name in ("run", "model", "artefact") if name in before} if before else {}
        joined[key] = row | names
    write_rows(path, list(joined.values()))
    return list(joined.values())


def _identity(row: Row, folder: Path) -> tuple[Any, ...]:
    """What tells a run from others of a file in ``folder``."""
    keys = ("type", "pair", "threads", "memory_limit_bytes", "test", "part", "device", "gpu_layers", "cpu_experts")
    return artefact_path(row, folder).resolve(), *(row.get(key) for key in keys)


def artefact_path(row: Row, folder: Path) -> Path:
    """Where a row's artefact lies: rows of a sweep name it from their own folder, others from where they were measured."""
    path = Path(row["artefact"])
    return folder / path if (folder / path).exists() else path


def provenance(row: Row, key: str) -> Any:
    """A fact of how the artefact was made (``ratio``, ``criterion``, ...), or None."""
    return (row.get("provenance") or {}).get(key)


def ratio(row: Row) -> float:
    """Share of the experts that are cut, 0 to 1."""
    return float(provenance(row, "ratio") or 0)


def tokens(row: Row) -> int | None:
    """How many tokens stay; None where none was cut."""
    return provenance(row, "tokens")


def recoveries(row: Row) -> tuple[Recovery, ...]:
    """How the artefact was recovered after the cut, in the order of time. Rows that only say that it was mean SFT."""
    if records := provenance(row, "recoveries"):
        return tuple(map(Recovery.from_dict, records))
    if newest := provenance(row, "recovery"):
        return chain(newest)
    return (Recovery(FULL),) if provenance(row, "recovered") else ()


def had_sft(row: Row) -> bool:
    """Whether the artefact was fine-tuned after the cut, fully or by LoRA."""
    return any(each.trained for each in recoveries(row))


def engine(row: Row) -> str:
    """Short name of the engine; by the artefact's kind where a killed run could not tell."""
    told = str(row.get("engine") or "").split()
    if told:
        return _ENGINES.get(told[0], told[0])
    return "llama.cpp" if row["artefact"].endswith(".gguf") else "ONNX RT"
