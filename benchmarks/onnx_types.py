"""Quality, size, speed and memory of every ONNX quantisation: ``python -m benchmarks.onnx_types FOLDER -o rows.json``.

FOLDER is a checkpoint, pruned or not. Loss is against the float32 graph, on whole conversations of the dev text: mean
Kullback-Leibler divergence (nats per token) and top-1 agreement of the response. With ``--test`` translations are
scored too (chrF++, greedy decoding). ``--gguf`` adds llama.cpp's types to the table. Speed and memory are taken in
processes of their own, in interleaved runs: decoding 64 tokens after a prompt of 128, and the memory after that, with
and without ONNX Runtime's prepacking of weights. Of all repeats the fastest counts, since what else runs on the
machine can only slow one down.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import work_folder
from benchmarks.types import losses, read_logits
from export.gguf import export_gguf
from export.onnx import BLOCKS, export_onnx
from prune.conversations import read_conversations
from runtime.engines import open_engine
from runtime.formats.onnx_folder import FILES
from runtime.machine import processor, usable_cores
from runtime.measure.evaluate import evaluate
from runtime.measure.memory import read_memory
from runtime.measure.speed import PROMPT, WRITE
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair, parse_pair

ROOT = Path(__file__).parents[1]
_GENERATIONS = 5  # in a process; the fastest counts, since what else runs can only slow one down
PACKED, MAPPED = "packed", "mapped"  # weights copied into the order that kernels like, or left in the mapped file


def run_once(artefact: Path, threads: int, packing: str) -> dict[str, float]:
    """Speed and memory of this process, which should have done nothing before."""
    if packing == MAPPED:
        import onnxruntime

        plain = onnxruntime.SessionOptions

        def options() -> onnxruntime.SessionOptions:
            made = plain()
            made.add_session_config_entry("session.disable_prepacking", "1")
            return made

        onnxruntime.SessionOptions = options  # type: ignore[misc]
    started = time.perf_counter()
    with contextlib.closing(open_engine(artefact, threads)) as engine:
        loaded = time.perf_counter() - started
        prompt = (engine.encode("The file could not be opened. ") * PROMPT)[:PROMPT]
        engine.generate(prompt, 8, stop=False)
        prefills, runs = [], []
        for _ in range(_GENERATIONS):
            used = time.process_time()
            engine.generate(prompt, 1, stop=False)
            prefills.append(time.process_time() - used)
            used = time.process_time()
            runs.append((engine.generate(prompt, WRITE, stop=False), time.process_time() - used))
        memory = read_memory(os.getpid())
        return {
            "load": loaded,
            "prefill": min(run.prefill_seconds for run, _ in runs),
            "decode": min(run.decode_seconds for run, _ in runs),
            "decode_cpu": max(min(used for _, used in runs) - min(prefills), 1e-9),
            "anonymous": memory.anonymous, "file": memory.file,
        }  # fmt: skip


def measure(
    artefacts: dict[tuple[str, str], Path], threads: int, repeats: int
) -> dict[tuple[str, str], dict[str, float]]:
    """By name and packing, of interleaved ``run_once`` in processes of their own, the shortest times and least memory."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in artefacts}
    for repeat in tqdm(range(repeats), "speed"):
        for key in reversed(artefacts) if repeat % 2 else artefacts:
            command = [sys.executable, "-m", "benchmarks.onnx_types", str(artefacts[key]), "--once", key[1]]
            child = subprocess.run([*command, "--threads", str(threads)], cwd=ROOT, capture_output=True, check=True)
            found[key].append(json.loads(child.stdout))
    return {key: {name: min(row[name] for row in rows) for name in rows[0]} for key, rows in found.items()}


def write_all(folder: Path, types: list[str], work: Path, corpus: Path) -> dict[str, Path]:
    """All ONNX graphs, and GGUF files of some types, by the names they have in the table."""
    found = {}

    def write(name: str, quant: str, block: int = BLOCKS[0], zero_points: bool = False) -> None:
        output = export_onnx(folder, work / name.replace(" ", "-"), quant, block, zero_points)
        found[name] = output / "onnx" / FILES[quant]

    for quant in FILES:
        write(quant, quant)
        if quant.startswith("int"):
            write(f"{quant}, blocks of {BLOCKS[1]}", quant, BLOCKS[1])
    write("int4 with zero points", "int4", zero_points=True)
    for kind in types:
        found[f"GGUF {kind}"] = export_gguf(folder, work / f"{kind}.gguf", kind, corpus=corpus)
    return found


def size(artefact: Path) -> int:
    """Bytes of the file and of its data beside it."""
    return sum(path.stat().st_size for path in artefact.parent.glob(f"{artefact.name}*") if path.is_file())


def quality(
    artefacts: dict[str, Path], folder: Path, pair: Pair, dev: Path, test: Path | None, threads: int
) -> dict[str, Any]:
    """By name, divergence from the float32 graph and, with a test set, chrF++."""
    conversations = read_conversations(folder, read_segments(dev, pair), pair)
    reference, found = read_logits(artefacts["none"], conversations, threads), {}
    for name, artefact in tqdm(artefacts.items(), "quality"):
        found[name] = losses(conversations, reference, read_logits(artefact, conversations, threads))
        if test:
            with contextlib.closing(open_engine(artefact, threads)) as engine:
                found[name]["chrf"] = evaluate(engine, pair, read_segments(test, pair)).chrf
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; tokens/s as a ratio to the default, int4 with prepacked weights."""
    base = next((row for row in rows if (row["name"], row["packing"]) == ("int4", PACKED)), rows[0])
    head = ["", "weights", "MB", "KL", "top-1", "chrF++", "decode, int4 = 1", "by processor time", "prefill"]
    lines = [[*head, "anonymous MB", "file MB", "load s"], ["---"] * 2 + ["---:"] * 10]
    for row in rows:
        cells = [row["name"], row["packing"], f"{row['bytes'] / 1e6:.1f}"]
        chrf = f"{row['chrf']:.2f}" if "chrf" in row else ""
        cells += [f"{row['response_kl']:.4f}", f"{row['response_top1']:.1%}", chrf] if "tokens" in row else [""] * 3
        cells += [f"{base[name] / row[name]:.2f}" for name in ("decode", "decode_cpu", "prefill")]
        cells += [f"{row['anonymous'] / 1e6:.0f}", f"{row['file'] / 1e6:.0f}", f"{row['load']:.2f}"]
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the rows, as JSON")
    parser.add_argument("--table", type=Path, help="also write the table, as Markdown")
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--gguf", default="Q4_K_M", help="types, or nothing")
    parser.add_argument("--dev", type=Path, default=Path("data/dev"), help="of divergence and agreement")
    parser.add_argument("--no-quality", action="store_true", help="speed and memory alone, for random weights")
    parser.add_argument("--test", type=Path, help="translate and score this text too")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="on a disk with room for all types")
    parser.add_argument("--once", choices=(PACKED, MAPPED), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        print(json.dumps(run_once(chosen.folder, chosen.threads, chosen.once)))
        return
    with work_folder(chosen.work) as work:
        types = [name for name in chosen.gguf.split(",") if name]
        artefacts = write_all(chosen.folder, types, work, chosen.dev)
        judged = {}
        if not chosen.no_quality:
            judged = quality(artefacts, chosen.folder, chosen.pair, chosen.dev, chosen.test, chosen.threads)
        ways = {(name, PACKED): path for name, path in artefacts.items()}
        ways |= {(name, MAPPED): path for name, path in artefacts.items() if path.suffix == ".onnx"}
        measured = measure(ways, chosen.threads, chosen.repeats)
        rows = [
            {"name": name, "packing": packing, "bytes": size(ways[name, packing])}
            | measured[name, packing]
            | (judged.get(name, {}) if packing == PACKED else {})
            for name, packing in ways
        ]
    text = table(rows)
    print(text, end="")
    if chosen.table:
        chosen.table.write_text(text, encoding="utf-8")
    if chosen.output:
        about = {
            "model": chosen.folder.name,
            "pair": str(chosen.pair),
            "threads": chosen.threads,
            "machine": processor(),
        }
        about |= {"repeats": chosen.repeats, "load_average": os.getloadavg(), "rows": rows}
        chosen.output.write_text(json.dumps(about) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
