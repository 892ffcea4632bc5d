"""Tables of README and docs, written from measured rows: ``python -m benchmarks.numbers`` (``--check``: only compare).

A table stands between two comments, of which the first says what it is made from:

    <!-- numbers: report docs/numbers/sweep.jsonl type=Q4_K_M,int4 -->
    ...
    <!-- /numbers -->

The word after ``numbers:`` names one of the ways below; KEY=A,B leaves the rows with those values. Rows are what a
benchmark wrote, copied into docs/numbers as they are: `make lint` fails where a table is not what its rows give.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import criteria_report, device_fit, onnx_types, reproduction_report, translators, types
from runtime.measure.labels import label
from runtime.measure.rows import provenance, ratio
from runtime.report import signatures_of, table_of

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]
_BLOCK = re.compile(r"(<!-- numbers: (\S+) (\S+)((?: \S+=\S+)*) -->\n)(.*?)(<!-- /numbers -->)", re.DOTALL)


def _report(rows: Rows, on_screen: bool = True) -> str:
    return f"{table_of(rows, on_screen)}\n\n" + "".join(f"{fact}  \n" for fact in signatures_of(rows))


def _peers(rows: Rows) -> str:
    from benchmarks.peers.__main__ import table

    about = rows[0]
    versions = ", ".join(dict.fromkeys(row["runtime"] for row in rows))
    where = f"{about['machine']}, {about['threads']} threads, Python {about['python']}; {versions}."
    return f"{table(rows)}\n{where}\n"


def _criteria(rows: Rows) -> str:
    return criteria_report.markdown(*criteria_report.grouped(rows)) + "\n"


def _onnx_types(rows: Rows) -> str:
    about = rows[0]
    load = about["load_average"][0]
    where = f"{about['machine']}, {about['threads']} threads, load average {load:.1f}, the fastest of {5 * about['repeats']}."
    return f"{onnx_types.table(about['rows'])}\n{where}\n"


def _translators(rows: Rows) -> str:
    signatures = dict.fromkeys(row["chrf_signature"] for row in rows if "chrf" in row)
    return f"{translators.pivot(rows)}\n\nchrF++: `{'`, `'.join(signatures)}`.\n"


def _translators_bleu(rows: Rows) -> str:
    return translators.pivot(rows, "bleu") + "\n"


def _translators_costs(rows: Rows) -> str:
    machines = dict.fromkeys(row["machine"] for row in rows if row["measured"])
    return f"{translators.costs(rows)}\n\n{', '.join(machines)}, 1 thread.\n"


def _vocabulary(rows: Rows) -> str:
    lines = [
        "| pair | type | model | file MB | peak MB | chrF++ | BLEU |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda row: row["pair"]):
        sizes = f"{row['size_bytes'] / 1e6:.1f} | {row['peak_bytes'] / 1e6:.0f}"
        lines.append(
            f"| {row['pair']} | {row['type']} | {label(row)} | {sizes} | {row['chrf']:.1f} | {row['bleu']:.1f} |"
        )
    signatures = dict.fromkeys(row["chrf_signature"] for row in rows)
    return "\n".join(lines) + f"\n\nchrF++: `{'`, `'.join(signatures)}`.\n"


def _vocabularies(rows: Rows) -> str:
    lines = [
        "| family | tokens | kept | BF16 file of a tiny model | lines lost | other ids in llama.cpp: whole, cut, cut file |"
        " in kept tokens alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        sizes = " -> ".join(f"{size / 1e6:.1f} MB" for size in row["bytes"])
        differs = ", ".join(map(str, row["llama_cpp_differs"].values()))
        same = row["same_ids"] + row["other_ids"]
        lines.append(
            f"| {row['kind']} | {row['before']:,} | {row['after']:,} | {sizes} | {row['lost']} | {differs} | "
            f"{row['same_ids']} of {same} with the same ids |"
        )
    scripts = rows[0]["lines"]
    names = ", ".join(f"{script.title()} {count}" for script, count in scripts.items())
    return "\n".join(lines) + f"\n\n{sum(scripts.values()):,} lines in {len(scripts)} scripts: {names}.\n"


WAYS: dict[str, Callable[[Rows], str]] = {
    "report": _report,
    "limits": partial(_report, on_screen=False),
    "peers": _peers,
    "criteria": _criteria,
    "device-fit": device_fit.table,
    "onnx-types": _onnx_types,
    "gguf-types": types.table,
    "vocabulary": _vocabulary,
    "vocabularies": _vocabularies,
    "translators": _translators,
    "translators-bleu": _translators_bleu,
    "translators-costs": _translators_costs,
    **{f"reproduction-{name}": table for name, table in reproduction_report.TABLES.items()},
}


def _value(row: dict[str, Any], key: str) -> str:
    found = ratio(row) if key == "ratio" else row.get(key, provenance(row, key))
    return f"{found:g}" if isinstance(found, float) else str(found)


def render(way: str, source: str, wanted: str) -> str:
    """What stands between the comments.

    Raises:
        SystemExit: no such way, or no such rows.
    """
    path = ROOT / source
    if way not in WAYS or not path.exists():
        sys.exit(f"numbers: there is no {way if way not in WAYS else source}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for key, values in (part.split("=") for part in wanted.split()):
        rows = [row for row in rows if _value(row, key) in values.split(",")]
    return "\n" + WAYS[way](rows).strip() + "\n\n"


def documents() -> list[Path]:
    """README and docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a table is not what its rows give"
    )
    chosen = parser.parse_args()
    stale = []
    for document in documents():
        text = document.read_text(encoding="utf-8")
        made = _BLOCK.sub(lambda found: found[1] + render(found[2], found[3], found[4]) + found[6], text)
        if made != text:
            stale.append(document.relative_to(ROOT))
            if not chosen.check:
                document.write_text(made, encoding="utf-8")
    if stale and chosen.check:
        sys.exit(f"numbers: {', '.join(map(str, stale))}: not what docs/numbers gives.\n  next: make numbers")
    print(f"numbers: {len(stale)} documents written" if stale else "numbers: all tables are what docs/numbers gives")


if __name__ == "__main__":
    main()
