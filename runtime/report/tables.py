"""The report's tables as cells of text, for the screen, Markdown and the page alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from runtime.errors import printable
from runtime.measure.bench import busy_note
from runtime.measure.labels import label, memory, name
from runtime.measure.rows import Row, engine, ratio
from runtime.report.bench_run import BenchRun, Check, PlanFacts

MARK = "<!-- a report of slimmoe -->"  # by which an older report is known when a new one is to take its place
TEXTS = 3  # the first columns of every table name a row; numbers follow


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; the first ``texts`` columns are words, the rest numbers."""

    header: tuple[str, ...]
    rows: list[list[str]]
    texts: int = TEXTS


@dataclass(frozen=True)
class Column:
    """A column of the table of all rows; one that is not ``always`` there comes only where a row fills it."""

    title: str
    text: Callable[[Row], str | None]
    always: bool = False
    on_screen: bool = True


def _number(key: str, pattern: str, scale: float = 1.0) -> Callable[[Row], str | None]:
    def text(row: Row) -> str | None:
        value: Any = row.get(key)
        return None if value is None else pattern.format(value / scale)

    return text


def _interval(row: Row) -> str | None:
    interval = row.get("chrf_interval")
    return "{:.1f} to {:.1f}".format(*interval) if interval else None


def _limit(row: Row) -> str | None:
    return memory(row["memory_limit_bytes"]) if row.get("memory_limit_bytes") else None


def _first_token(row: Row) -> str | None:
    times = [at["first_token_seconds"] for at in row.get("speed") or [] if at.get("first_token_seconds") is not None]
    return f"{1000 * min(times):.0f}" if times else None


def _llama_bench(row: Row) -> str | None:
    told = (row.get("llama_bench") or {}).get("decode_share")
    return None if told is None else f"{told:.0%}"


_NUMBERS = {"tokens", "largest_difference", "top1_agreement", "top1_error"}  # of a check whose token ids agreed
_NUMBERS |= {"divergence", "divergence_error", "divergence_p99"}
COLUMNS = (
    Column("model", label, True),
    Column("engine", engine, True),
    Column("type", lambda row: row.get("type"), True),
    Column("limit", _limit),
    Column("verdict", lambda row: row.get("verdict")),
    Column("chrF++", _number("chrf", "{:.1f}"), True),
    Column("95 % interval", _interval, on_screen=False),
    Column("BLEU", _number("bleu", "{:.1f}"), True),
    Column("meaning", _number("meaning", "{:.3g}"), on_screen=False),
    Column("COMET", _number("comet", "{:.3f}"), on_screen=False),
    Column("file MB", _number("size_bytes", "{:.1f}", 1e6), True),
    Column("peak MB", _number("peak_bytes", "{:.0f}", 1e6), True),
    Column("prefill tok/s", _number("prefill_tokens_per_second", "{:.0f}"), True),
    Column("decode tok/s", _number("decode_tokens_per_second", "{:.0f}"), True),
    Column("of unlimited", _number("throughput_share", "{:.0%}"), on_screen=False),
    Column("of llama-bench", _llama_bench, on_screen=False),
    Column("first token ms", _first_token, on_screen=False),
    Column("sentences/s", _number("sentences_per_second", "{:.2f}"), on_screen=False),
)


def all_rows(rows: list[Row], on_screen: bool = False) -> Table:
    """The table of all rows, with the columns that some row fills."""
    columns = [
        column
        for column in COLUMNS
        if column.always or ((column.on_screen or not on_screen) and any(column.text(row) for row in rows))
    ]
    return Table(
        tuple(column.title for column in columns),
        [[column.text(row) or "-" for column in columns] for row in rows],
    )


def failures(rows: list[Row]) -> Table | None:
    """Segments with an output that fails, by kind."""
    counted = [row for row in rows if row.get("failures")]
    if not counted:
        return None
    kinds = tuple(dict.fromkeys(kind for row in counted for kind in row["failures"]))
    cells = [
        [label(row), engine(row), row.get("type") or "-", *(str(row["failures"].get(kind, "-")) for kind in kinds)]
        for row in counted
    ]
    return Table(("model", "engine", "type", *kinds), cells)


def checks(found: list[Check]) -> Table | None:
    """What ``slimmoe verify`` recorded, with 95 % intervals; the verdict first, where a narrow page shows it."""
    numbers = ("tokens", "largest logit difference", "top-1 agreement", "KL (nats)", "bar, or why it failed", "engine")
    cells = [[_passed(check), check["artefact"], check["against"], *_check_cells(check)] for check in found]
    return Table(("result", "artefact", "against", *numbers), cells) if found else None


def _passed(check: Check) -> str:
    return "passed" if check["passed"] else "FAILED"


def _check_cells(check: Check) -> list[str]:
    """The numbers of one verification; none where the token ids already differed."""
    verdict = [check["bar"] if check["passed"] else check["reason"], check["engine"]]
    if not check.keys() >= _NUMBERS:
        return ["-"] * 4 + verdict
    difference = f"{check['largest_difference']:.2g}"
    return [
        str(check["tokens"]),
        f"{difference} of a spread of {check['spread']:.2g}" if "spread" in check else difference,
        f"{check['top1_agreement']:.1%} ± {1.96 * check['top1_error']:.1%}",
        f"{check['divergence']:.2g} ± {1.96 * check['divergence_error']:.2g}, 99 %: {check['divergence_p99']:.2g}",
        *verdict,
    ]


def samples(rows: list[Row]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(source, reference) to the hypotheses of each row, named; of rows with one name the first."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in sorted(rows, key=ratio):
        for source, reference, hypothesis in row.get("samples") or []:
            found.setdefault((source, reference), {}).setdefault(name(row), hypothesis)
    return {texts: list(outputs.items()) for texts, outputs in found.items()}


def _scatter(rows: list[Row]) -> list[str]:
    """How far repeats lay apart: as rows tell it, and between rows that measured one thing twice."""
    widest: dict[str, float] = {}
    repeats: dict[tuple, list[Row]] = {}
    for row in rows:
        for key, spread in (row.get("scatter") or {}).items():
            widest[key] = max(widest.get(key, 0.0), spread)
        which = (row.get("artefact"), row.get("pair"), row.get("threads"), row.get("memory_limit_bytes"))
        repeats.setdefault(which, []).append(row)
    for key in ("chrf", "peak_bytes", "prefill_tokens_per_second", "decode_tokens_per_second"):
        for same in repeats.values():
            values = [value for row in same if (value := row.get(key))]
            if len(values) > 1:
                spread = (max(values) - min(values)) / (sum(map(abs, values)) / len(values))
                widest[key] = max(widest.get(key, 0.0), spread)
    told = ", ".join(f"{key.replace('_', ' ')} {_share(spread)}" for key, spread in widest.items())
    return [f"repeats lay apart by at most: {told}"] if told else []


def _share(spread: float) -> str:
    """A scatter as a share; beyond the median itself its size tells nothing but that the machine was busy."""
    return f"{spread:.1%}" if spread <= 1 else "more than 100%"


def signatures(run: BenchRun) -> list[str]:
    """What the numbers hold for, one fact a line, each said once."""
    facts = signatures_of(run.rows)
    facts += _scatter(run.rows)
    return facts + (_of_plan(run.plan) if run.plan else [])


def signatures_of(rows: list[Row]) -> list[str]:
    """What the numbers of some rows hold for, one fact a line, each said once."""
    facts: list[str] = []
    for row in rows:
        if row.get("engine"):
            facts.append(
                f"machine: {row.get('machine')}, {row.get('threads')} threads, {row['engine']}, Python {row.get('python')}"
            )
        if row.get("chrf") is not None:
            facts.append(
                f"test set: {row.get('test')}, {row.get('segments')} segments, {row.get('pair')}, greedy decoding"
            )
            facts += [f"chrF++: {row.get('chrf_signature')}", f"BLEU: {row.get('bleu_signature')}"]
        for measure, signature in (("meaning", row.get("meaning_signature")), ("COMET", row.get("comet_signature"))):
            facts += [f"{measure}: {signature}"] if signature else []
        if row.get("memory_limit_bytes"):
            facts.append(f"memory limit: {row.get('limit_method')}")
        if row.get("limit_note"):
            facts.append(f"memory limit: {row['limit_note']}")
    facts.append(
        "speed: fastest of at least 5 runs and 3 seconds, 128 tokens of prompt, 64 written, one sequence at a time"
    )
    facts += [note] if (note := busy_note(rows)) else []
    facts.append("peak: highest proportional set size (Linux) of a process that loads, translates and ends")
    return list(dict.fromkeys(facts))


def _of_plan(plan: PlanFacts) -> list[str]:
    counts = sorted({(layer["experts"], len(layer["keep"])) for layer in plan["layers"]})
    experts = ", ".join(f"{kept} of {total}" for total, kept in counts)
    facts = [
        f"plan {plan['hash']}: criterion {plan['criterion']}, allocation {plan['allocation']}, ratio {plan['ratio']:g}, "
        f"{experts} experts kept in each of {len(plan['layers'])} layers, top-k {plan['top_k']}"
    ]
    if used := plan.get("calibration"):
        tokens = used.get("prompt_tokens", 0) + used.get("response_tokens", 0)
        about = f"{used.get('segments')} segments, {tokens} tokens, {used.get('sha256')}"
        facts.append(f"calibration: {used.get('corpus')} ({about})")
    return facts


def print_table(run: BenchRun, console: Console) -> None:
    """The table and its signatures on screen."""
    table = all_rows(run.rows, on_screen=True)
    shown = ScreenTable(*table.header, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns
    for place, column in enumerate(shown.columns):
        column.justify = "left" if place < table.texts else "right"
        column.no_wrap = place < table.texts
    for cells in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(shown)
    for fact in signatures(run):
        console.print(f"  {printable(fact)}", style="dim", highlight=False, soft_wrap=True, markup=False)
