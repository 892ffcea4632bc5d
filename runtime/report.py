"""The report of a run: a table on screen and ``report.md`` with everything the numbers hold for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runtime.errors import RequestError
from runtime.files import new_file

COLUMNS = ("model", "engine", "type", "chrF++", "BLEU", "file MB", "peak MB", "prefill tok/s", "decode tok/s")
_ENGINES = {"onnxruntime": "ONNX RT"}  # short enough for a table of 80 columns


@dataclass(frozen=True)
class Run:
    """What a run folder holds: rows of bench.jsonl, the plan, and verifications (both may be absent)."""

    rows: list[dict[str, Any]]
    plan: dict[str, Any]
    checks: list[dict[str, Any]]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_run(folder: Path) -> Run:
    """Read ``bench.jsonl``, ``plan.json`` and ``verify.json`` of a run folder.

    Raises:
        RequestError: no folder, or nothing measured in it.
    """
    rows = _json_lines(folder / "bench.jsonl")
    if not rows:
        raise RequestError(
            f"{folder} holds no bench.jsonl.", next_command=f"slimmoe bench ARTEFACT -o {folder}/bench.jsonl"
        )
    return Run(rows, _json(folder / "plan.json"), _json(folder / "verify.json").get("checks", []))


def label(row: dict[str, Any]) -> str:
    """``unpruned``, or the share that was cut."""
    made = row.get("provenance", {})
    if not made.get("ratio"):
        return "unpruned"
    return f"{float(made['ratio']):.0%} cut" + (" + SFT" if made.get("recovered") else "")


def cells(row: dict[str, Any]) -> list[str]:
    """The row's cells in the order of COLUMNS."""

    def number(key: str, pattern: str, scale: float = 1.0) -> str:
        return pattern.format(row[key] / scale) if row.get(key) is not None else "-"

    return [
        label(row),
        _ENGINES.get(engine := str(row["engine"]).split()[0], engine),
        row.get("type", "-"),
        number("chrf", "{:.1f}"),
        number("bleu", "{:.1f}"),
        number("size_bytes", "{:.1f}", 1e6),
        number("peak_bytes", "{:.0f}", 1e6),
        number("prefill_tokens_per_second", "{:.0f}"),
        number("decode_tokens_per_second", "{:.0f}"),
    ]


def _markdown_table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * 3 + ["---:"] * (len(header) - 3), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def signatures(run: Run) -> list[str]:
    """What the numbers hold for, one fact a line, each said once."""
    facts: list[str] = []
    for row in run.rows:
        facts.append(f"machine: {row['machine']}, {row['threads']} threads, {row['engine']}, Python {row['python']}")
        if "chrf" in row:
            facts.append(f"test set: {row['test']}, {row['segments']} segments, {row['pair']}, greedy decoding")
            facts += [f"chrF++: {row['chrf_signature']}", f"BLEU: {row['bleu_signature']}"]
    facts.append("speed: median of 5 runs, 128 tokens of prompt, 64 written, one sequence at a time")
    facts.append("peak: highest proportional set size (Linux) of a process that loads, translates and ends")
    if run.plan:
        plan = run.plan
        counts = sorted({(layer["experts"], len(layer["keep"])) for layer in plan["layers"]})
        experts = ", ".join(f"{kept} of {total}" for total, kept in counts)
        facts.append(
            f"plan {plan['hash']}: criterion {plan['criterion']}, allocation {plan['allocation']}, ratio {plan['ratio']:g}, "
            f"{experts} experts kept in each of {len(plan['layers'])} layers, top-k {plan['top_k']}"
        )
        used = plan.get("calibration", {})
        if used:
            tokens = used["prompt_tokens"] + used["response_tokens"]
            facts.append(
                f"calibration: {used['corpus']} ({used['segments']} segments, {tokens} tokens, {used['sha256']})"
            )
    return list(dict.fromkeys(facts))


def _check_cells(check: dict[str, Any]) -> list[str]:
    """The numbers of one verification, with 95 % intervals; none where the token ids already differed."""
    verdict = [check["bar"], "passed" if check["passed"] else f"FAILED: {check['reason']}"]
    if "tokens" not in check:
        return ["-"] * 4 + verdict
    return [
        str(check["tokens"]),
        f"{check['largest_difference']:.2g}",
        f"{check['top1_agreement']:.1%} ± {1.96 * check['top1_error']:.1%}",
        f"{check['divergence']:.4f} ± {1.96 * check['divergence_error']:.4f}, 99 %: {check['divergence_p99']:.3f}",
        *verdict,
    ]


def markdown(run: Run, title: str) -> str:
    """The report as Markdown."""
    parts = [f"# {title}", _markdown_table(COLUMNS, [cells(row) for row in run.rows])]
    parts.append("\n".join(f"- {fact}" for fact in signatures(run)))
    if run.checks:
        names = (
            "artefact",
            "against",
            "engine",
            "tokens",
            "largest logit difference",
            "top-1 agreement",
            "KL (nats)",
            "bar",
            "",
        )
        rows = [[check["artefact"], check["against"], check["engine"], *_check_cells(check)] for check in run.checks]
        parts += ["## Verified", _markdown_table(names, rows)]
    failed = [(row, row["failures"]) for row in run.rows if "failures" in row]
    if failed:
        kinds = tuple(failed[0][1])
        table = [[*cells(row)[:3], *(str(counts[kind]) for kind in kinds)] for row, counts in failed]
        parts += ["## Outputs that fail (segments)", _markdown_table(("model", "engine", "type", *kinds), table)]
    for row in run.rows:
        if row.get("samples"):
            lines = [[source, reference, hypothesis] for source, reference, hypothesis in row["samples"]]
            name = ", ".join(cells(row)[:3])
            parts += [f"## Samples: {name}", _markdown_table(("source", "reference", "hypothesis"), lines)]
    return "\n\n".join(parts) + "\n"


def print_table(run: Run, console: Console) -> None:
    """The table and its signatures on screen."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # fits a terminal of 80 columns
    for place, column in enumerate(table.columns):
        column.justify = "left" if place < 3 else "right"
        column.no_wrap = place < 3
    for row in run.rows:
        table.add_row(*cells(row))
    console.print(table)
    for fact in signatures(run):
        console.print(f"  {fact}", style="dim", highlight=False, soft_wrap=True, markup=False)


def write_report(folder: Path, output: Path, title: str) -> Run:
    """Write ``output`` from a run folder and return what was read."""
    run = read_run(folder)
    with new_file(output) as temporary:
        temporary.write_text(markdown(run, title), encoding="utf-8")
    return run
