"""The answer in words, and the paper's claims against what was measured; both computed from the rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from runtime.measure.labels import (
    is_baseline,
    memory,
    mostly_fails,
    name,
    of_same_kind,
    recovered_by,
    share,
    unlimited,
)
from runtime.measure.rows import Row, had_sft, ratio, recoveries
from runtime.report.tables import Table


@dataclass(frozen=True)
class Claim:
    """What arXiv 2605.28042 says of a ratio, and our bar for it: the share of the unpruned chrF++ that is kept."""

    ratio: float
    words: str
    bar: float
    after_sft: bool  # fully or by LoRA; otherwise of the model as it was cut


CLAIMS = (
    Claim(0.5, "negligible loss", 0.99, False),
    Claim(0.7, "minor loss", 0.97, False),
    Claim(0.75, "the baseline, after a short SFT", 1.0, True),
    Claim(0.9, "reasonable quality (near 90 %)", 0.95, True),
)


def _scored(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("chrf") is not None]


def _judged(rows: list[Row]) -> list[Row]:
    """Rows that a share of the unpruned model's score says something of: those whose unpruned model mostly works."""
    return [row for row in rows if not any(map(mostly_fails, of_same_kind(row, rows)))]


def _best_share(rows: list[Row], at: float, wanted: Callable[[Row], bool]) -> tuple[float, Row] | None:
    """The largest share of unpruned chrF++ kept at a ratio, and its row."""
    found = [
        (kept, row)
        for row in rows
        if abs(ratio(row) - at) < 0.005 and wanted(row) and (kept := share(row, rows)) is not None
    ]
    return max(found, key=lambda pair: pair[0], default=None)


def claims(rows: list[Row]) -> Table | None:
    """Each claim, its bar and the best that was measured; None where no pruned row was scored."""
    rows = _judged(_scored(rows))
    if not any(ratio(row) for row in rows):
        return None
    lines = []
    for claim in CLAIMS:
        found = _best_share(rows, claim.ratio, had_sft if claim.after_sft else lambda row: not recoveries(row))
        bar = f"{claim.bar:.0%} of unpruned chrF++" + (", after SFT" if claim.after_sft else ", no SFT")
        told = ["not measured", "-", "-"]
        if found:
            told = ["met" if found[0] >= claim.bar else "missed", f"{found[0]:.1%}", name(found[1])]
        lines.append([f"{claim.ratio:.0%} cut", claim.words, bar, *told])
    return Table(("ratio", "the paper", "bar here", "result", "best measured", "by"), lines, texts=6)


def _saving(row: Row, base: Row, key: Literal["size_bytes", "peak_bytes"]) -> str | None:
    if not row.get(key) or not base.get(key):
        return None
    change = 1 - row[key] / base[key]
    return f"{abs(change):.0%} {'less' if change >= 0 else 'more'}"


def _cost(rows: list[Row], at: float) -> str | None:
    """What a ratio costs in chrF++ and saves in bytes, at its best, as cut and after each kind of recovery."""
    told, savings = [], []
    for recovered in sorted({recovered_by(row) for row in rows}, key=lambda names: (names.count("+"), names)):
        found = _best_share(rows, at, lambda row, names=recovered: recovered_by(row) == names)
        bases = _scored(of_same_kind(found[1], rows)) if found else []
        if not found or not bases:
            continue
        kept, row = found
        compared = row.get("against_unpruned", {})
        delta = compared.get("chrf_delta", row["chrf"] - bases[0]["chrf"])
        change = f"{abs(delta):.1f} chrF++" if delta < 0 else f"nothing (chrF++ +{delta:.1f})"
        interval = ""
        if "chrf_low" in compared and "chrf_high" in compared:
            interval = f", 95 % interval {compared['chrf_low']:+.1f} to {compared['chrf_high']:+.1f}"
        after = f"after {recovered}" if recovered else "without recovery"
        told.append(f"{change} {after} ({kept:.0%} kept by {name(row).split(', ', 1)[1]}{interval})")
        savings = [
            ("file", _saving(row, bases[0], "size_bytes")),
            ("peak memory", _saving(row, bases[0], "peak_bytes")),
        ]
    if not told:
        return None
    saved = " and ".join(f"{text} {what}" for what, text in savings if text)
    return f"Cutting {at:.0%} of the experts costs {' and '.join(told)}" + (f", for {saved}." if saved else ".")


def _describe(row: Row) -> str:
    facts = []
    if row.get("chrf") is not None:
        facts.append(f"chrF++ {row['chrf']:.1f}")
    if row.get("peak_bytes"):
        facts.append(f"{row['peak_bytes'] / 1e6:.0f} MB at its peak")
    if row.get("decode_tokens_per_second"):
        facts.append(f"{row['decode_tokens_per_second']:.0f} tokens/s decode")
    return f"{name(row)} ({', '.join(facts)})"


def _within(limit: int, rows: list[Row]) -> str:
    """Who translates best within a memory limit, how fast, and what becomes of the unpruned model there."""
    here = [row for row in rows if row.get("memory_limit_bytes") == limit]
    quality = {name(row): row["chrf"] for row in _scored(rows)}  # a limited run may have been timed only
    fits = [row for row in here if row.get("verdict") == "fits"]
    failing = [row for row in here if not ratio(row) and row.get("verdict") in ("killed", "thrashes")]
    tail = ""
    if failing and len(failing) == sum(not ratio(row) for row in here):
        fates = sorted({{"killed": "is killed", "thrashes": "thrashes"}[row["verdict"]] for row in failing})
        tail = f"; the unpruned model {' or '.join(fates)}"
    if not fits:
        return f"Within {memory(limit)} nothing that was measured fits{tail}."
    best = max(fits, key=lambda row: (quality.get(name(row), -1.0), row.get("decode_tokens_per_second") or 0.0))
    facts = [f"chrF++ {quality[name(best)]:.1f}"] if name(best) in quality else []
    if best.get("decode_tokens_per_second"):
        facts.append(f"{best['decode_tokens_per_second']:.0f} tokens/s decode")
    if best.get("throughput_share") is not None:
        facts.append(f"{best['throughput_share']:.0%} of its unlimited speed")
    verb = "translates best" if name(best) in quality else "is the fastest that fits"
    return f"Within {memory(limit)} {name(best)} {verb}" + (f" ({', '.join(facts)})" if facts else "") + f"{tail}."


def verdict(rows: list[Row]) -> str:
    """One paragraph on the rows of one pair: what translates best, what cutting costs, what runs within each limit."""
    free, sentences = unlimited(rows), []
    scored = _scored(free)
    if scored:
        best = max(scored, key=lambda row: row["chrf"])
        sentences.append(f"Best quality without a memory limit: {_describe(best)}.")
        failing = [row for row in scored if is_baseline(row) and mostly_fails(row)]
        if failing:
            sentences.append(
                f"Most outputs of {' and of '.join(map(name, failing))} fail, so what cutting costs is not judged."
            )
        sentences += [_cost(_judged(scored), at) for at in (0.5, 0.75)]
    else:
        sentences.append("No quality was measured here.")
        timed = [row for row in free if row.get("decode_tokens_per_second")]
        if timed:
            sentences.append(f"Fastest: {_describe(max(timed, key=lambda row: row['decode_tokens_per_second']))}.")
    limits = sorted({row["memory_limit_bytes"] for row in rows if row.get("memory_limit_bytes")})
    sentences += [_within(limit, rows) for limit in limits]
    if not limits:
        sentences.append("Nothing was measured under a memory limit.")
    tests = {row.get("test") for row in scored}
    if len(tests) > 1:
        sentences.append(f"Careful: scores are of {len(tests)} test sets and compare only within one.")
    return " ".join(sentence for sentence in sentences if sentence)
