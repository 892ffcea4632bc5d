"""Our model beside dense translators, by test set and kind of text: ``make peers`` writes it, docs/translators.md shows it.

    python -m benchmarks.translators MODEL.gguf --pair en-pt --test data/test data/daily ../shared/flores/test
    python -m benchmarks.translators MODEL.gguf --pair en-de en-pt --test FLORES/test --outputs FOLDER --published TABLE.tsv

Those that run here translate one sentence at a time, each in a process of its own whose peak memory is watched: slimmoe,
Firefox's tiny Portuguese models in fxtranslate (if it is installed), Apertium (if it is installed and has the pair). Those
that were only published come from ``--outputs`` (FOLDER/PAIR.XX: translations of the last test set, scored here) and
``--published`` (columns pair, system, BLEU, COMET-22, of a whole test set): their rows say so.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.recipe.teach import teacher, teacher_models
from runtime.engines import open_engine
from runtime.errors import SlimmoeError
from runtime.formats.artefact import files_of
from runtime.machine import processor
from runtime.measure.bench import parse_child_output
from runtime.measure.memory_limit import run
from runtime.measure.rows import append_row
from runtime.measure.scores import score
from runtime.text.corpus import Segments, locate, read_segments, split_lines
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.segments import translate

FXTRANSLATE, APERTIUM = "Firefox tiny (fxtranslate)", "Apertium"
# Apertium's name of a mode, and those that a pair goes through where it has none of its own.
_MODES = {
    "en-es": ["eng-spa"],
    "es-en": ["spa-eng"],
    "en-pt": ["eng-spa", "spa-por_BR"],
    "pt-en": ["por-spa", "spa-eng"],
}
Row = dict[str, Any]


def _name(test: Path) -> str:
    return f"{test.absolute().parent.name}/{test.name}"  # data/daily, flores/test


def _apertium(pair: Pair) -> list[str]:
    """The modes that lead from one language to the other; none where Apertium or one of them is not installed."""
    if not shutil.which("apertium"):
        return []
    known = subprocess.run(["apertium", "-l"], capture_output=True, text=True).stdout.split()
    modes = _MODES.get(str(pair), [])
    return modes if all(mode in known for mode in modes) else []


def _teacher_files(models: Path, pair: Pair) -> list[Path]:
    folders = sorted(models.glob(f"{pair.source}{pair.target}-*"))
    names = ("model.*.bin", "vocab.*.spm", "lex.*.bin")
    return [path for name in names for folder in folders[:1] for path in folder.glob(name)]


def translator(system: str, place: Path, pair: Pair) -> Callable[[Iterable[str]], list[str]]:
    """What translates sentences one at a time: ``system`` with its model at ``place``."""
    if system == FXTRANSLATE:
        model = teacher(place, f"{pair.source}{pair.target}")
        return lambda texts: [model.translate(text) for text in texts]
    if system == APERTIUM:

        def through(texts: Iterable[str]) -> list[str]:
            lines = list(texts)
            for mode in _apertium(pair):
                command = ["apertium", "-u", "-f", "line", mode]
                done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
                lines = split_lines(done.stdout)
            return lines

        return through
    engine = open_engine(place, threads=1)
    return lambda texts: [each.text for each in translate(engine, pair, list(texts), exact=True)]


def run_here(system: str, place: Path, pair: Pair, test: Path, segments: int | None) -> None:
    """Translate in this process and print one JSON object: translations and CPU milliseconds a sentence, loading left out."""
    sources = [source for source, _ in read_segments(test, pair)[:segments]]
    work = translator(system, place, pair)
    work(sources[:1])
    before = os.times()
    texts = work(sources)
    spent = [b - a for a, b in zip(before[:4], os.times()[:4])]  # of this process and its children, user and system
    print(json.dumps({"texts": texts, "ms": 1000 * sum(spent) / len(sources)}))


def kinds_of(test: Path, count: int) -> list[str]:
    """The kind of text of each segment: a line of ``STEM.kind`` where there is one."""
    path = locate(test).with_name(f"{test.name}.kind")
    return split_lines(path.read_text(encoding="utf-8"))[:count] if path.exists() else ["all"] * count


def scored(texts: list[str], segments: Segments, kinds: list[str], language: str) -> list[Row]:
    """chrF++ and BLEU of all segments, and of each kind where there are several."""
    rows = []
    for kind in dict.fromkeys(["all", *sorted(set(kinds))]):
        chosen = [i for i, each in enumerate(kinds) if kind in ("all", each)]
        references = [segments[i][1] for i in chosen]
        chrf, chrf_signature, bleu, bleu_signature = score(
            [" ".join(texts[i].split()) for i in chosen], references, language
        )
        signatures = {"chrf_signature": chrf_signature, "bleu_signature": bleu_signature}
        rows.append(
            {"kind": kind, "segments": len(chosen), "chrf": round(chrf, 2), "bleu": round(bleu, 2)} | signatures
        )
    return rows


def measure(system: str, place: Path, size: int, pair: Pair, test: Path, segments: int | None) -> list[Row]:
    """Rows of a translator that runs here, one for each kind of text.

    Raises:
        WorkError: it failed.
    """
    words = ["--child", system, "--pair", str(pair), "--test", str(test)]
    words += ["--segments", str(segments)] if segments else []
    outcome = run([sys.executable, "-m", "benchmarks.translators", str(place), *words])
    told = parse_child_output(outcome, place)
    text = read_segments(test, pair)[:segments]
    about = {
        "system": system, "pair": str(pair), "test": _name(test), "measured": True, "size_mb": round(size / 1e6, 1),
        "peak_mb": round(outcome.memory.row()["peak_bytes"] / 1e6, 1), "ms": round(told["ms"], 1), "machine": processor(),
    }  # fmt: skip
    return [about | row for row in scored(told["texts"], text, kinds_of(test, len(text)), pair.target)]


def systems(artefacts: list[Path], pair: Pair, work: Path) -> list[tuple[str, Path, int]]:
    """Name, place and bytes on disk of what can be run here."""
    found = [(path.stem, path, sum(part.stat().st_size for part in files_of(path))) for path in artefacts]
    if {pair.source, pair.target} == {"en", "pt"} and find_spec("fxtranslate"):
        models = teacher_models(work)
        found.append((FXTRANSLATE, models, sum(path.stat().st_size for path in _teacher_files(models, pair))))
    if _apertium(pair):
        found.append((APERTIUM, Path("apertium"), 0))
    return found


def published(pair: Pair, test: Path, outputs: Path | None, table: Path | None, segments: int | None) -> list[Row]:
    """Rows of systems that do not run here: outputs on disk are scored, other scores are told as published."""
    about: Row = {"pair": str(pair), "test": _name(test), "measured": False}
    rows = []
    path = outputs / f"{pair}.{pair.target}" if outputs else None
    if path and path.exists():
        text = read_segments(test, pair)[:segments]
        texts = split_lines(path.read_text(encoding="utf-8"))[: len(text)]
        rows += [
            {"system": f"{path.parent.name} (its outputs)"} | about | row
            for row in scored(texts, text, ["all"] * len(text), pair.target)
        ]
    if table:
        with open(table, encoding="utf-8", newline="") as file:
            for each in csv.DictReader(file, delimiter="\t"):
                if each["pair"] == str(pair):
                    rows.append({"system": each["system"], "kind": "whole", "bleu": float(each["BLEU"])} | about)
    return rows


def table(rows: list[Row]) -> str:
    """A Markdown table of all rows, the best chrF++ of a set first."""
    lines = [
        "| pair | test set | text | system | chrF++ | BLEU | CPU ms a sentence | MB on disk | peak MB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    order = {
        place: number for number, place in enumerate(dict.fromkeys((r["pair"], r["test"], r["kind"]) for r in rows))
    }
    for row in sorted(rows, key=lambda r: (order[r["pair"], r["test"], r["kind"]], -r.get("chrf", 0), -r["bleu"])):
        told = [f"{row[key]:.1f}" if row.get(key) else "" for key in ("chrf", "bleu", "ms", "size_mb", "peak_mb")]
        name = row["system"] if row["measured"] else f"*{row['system']}*"
        lines.append(f"| {row['pair']} | {row['test']} | {row['kind']} | {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def pivot(rows: list[Row], value: str = "chrf") -> str:
    """A Markdown table with a line for each pair, test set and kind of text, and a column for each system."""
    rows = [row for row in rows if value in row]
    names = list(dict.fromkeys(row["system"] for row in rows))
    cells = {((r["pair"], r["test"], r["kind"]), r["system"]): r[value] for r in rows}
    lines = [f"| pair | test set | text | {' | '.join(names)} |", "|---|---|---|" + "---:|" * len(names)]
    for place in dict.fromkeys(place for place, _ in cells):
        told = (f"{cells[place, name]:.1f}" if (place, name) in cells else "" for name in names)
        lines.append(f"| {' | '.join(place)} | {' | '.join(told)} |")
    return "\n".join(lines)


def costs(rows: list[Row]) -> str:
    """A Markdown table of what the systems that ran here took: the least of all runs, which other work cannot make less."""
    lines = ["| system | MB on disk | peak MB | CPU ms a sentence |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(row["system"] for row in rows if row["measured"]):
        own = [row for row in rows if row["system"] == name]
        size, peak, ms = (min(row[key] for row in own) for key in ("size_mb", "peak_mb", "ms"))
        lines.append(f"| {name} | {size:.1f} | {peak:.0f} | {ms:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--pair", type=parse_pair, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", default=[Path("data/test"), Path("data/daily")])
    parser.add_argument("--segments", type=int, help="of each test set, the first")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/recipe"), help="where Firefox's models are or come to be"
    )
    parser.add_argument("--outputs", type=Path, help="translations of the last test set")
    parser.add_argument("--published", type=Path, help="BLEU of the last test set")
    parser.add_argument("-o", "--output", type=Path, help="rows are appended to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        run_here(chosen.child, chosen.artefacts[0], chosen.pair[0], chosen.test[0], chosen.segments)
        return
    rows: list[Row] = []
    for pair in chosen.pair:
        for test in chosen.test:
            found = [
                row
                for system in systems(chosen.artefacts, pair, chosen.work)
                for row in measure(*system, pair, test, chosen.segments)
            ]
            if test == chosen.test[-1]:
                found += published(pair, test, chosen.outputs, chosen.published, chosen.segments)
            for row in found if chosen.output else ():
                append_row(chosen.output, row)  # type: ignore[arg-type]
            rows += found
    print(table(rows))


if __name__ == "__main__":
    try:
        main()
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
