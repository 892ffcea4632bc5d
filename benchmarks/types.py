"""Quality against size for every type: ``python -m benchmarks.types FOLDER -o rows.jsonl --table types.md``.

FOLDER is a checkpoint, pruned or not. It is converted once in float32; each type is then written without and with an
importance matrix on the pair's calibration text. Loss is against the float32 file, on whole conversations of the dev
text: mean Kullback-Leibler divergence (nats per token) and top-1 agreement, of all tokens and of the response's alone.
With ``--test`` translations are scored too (chrF++, greedy decoding).

Rows that are in the output already are not repeated, so a stopped run goes on.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.comparison import Comparison
from export.gguf import export_gguf
from export.gguf.imatrix import compute_imatrix, fill_never_routed, write_imatrix
from export.gguf.quantise import find_type, quantise
from export.gguf.types import TYPES
from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, read_conversations
from runtime.engines import open_engine
from runtime.machine import processor, usable_cores
from runtime.measure.evaluate import evaluate
from runtime.text.corpus import Segments, read_segments
from runtime.text.pairs import Pair, parse_pair

DEFAULT_TYPES = "F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,IQ4_XS,Q3_K_M,IQ3_XXS,Q2_K,IQ2_M,IQ2_XXS"


def read_logits(path: Path, conversations: list[Conversation], threads: int) -> list[np.ndarray]:
    """Logits [T, V] (float32) by conversation."""
    with contextlib.closing(open_engine(path, threads, exact=True)) as engine:
        return [engine.logits(conversation.ids) for conversation in conversations]


def losses(conversations: list[Conversation], reference: list[np.ndarray], other: list[np.ndarray]) -> dict[str, float]:
    """Divergence and top-1 agreement, of all positions and of those that predict the response, by logits [T, V]."""
    every, response = Comparison(), Comparison()
    for conversation, a, b in zip(conversations, reference, other, strict=True):
        every.add(a, b, conversation.ids)
        first = max(conversation.prompt - 1, 0)  # the prompt's last token predicts the response's first
        response.add(a[first:], b[first:], conversation.ids[first:])
    found, mine = every.numbers(), response.numbers()
    return {
        "kl": found.divergence, "top1": found.top1_agreement, "response_kl": mine.divergence,
        "response_top1": mine.top1_agreement, "tokens": found.tokens,
    }  # fmt: skip


def variants(types: list[str]) -> Iterator[tuple[str, bool]]:
    """Each type without and with an importance matrix, where either is possible."""
    for name in types:
        if TYPES[name].imatrix != "needed":
            yield name, False
        if TYPES[name].imatrix != "unused":
            yield name, True


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, the largest file first."""
    scored = any("chrf" in row for row in rows)
    head = [
        "type",
        "importance matrix",
        "MB",
        "bits per weight",
        "KL",
        "top-1",
        "KL of responses",
        "top-1 of responses",
    ]
    lines = [head + ["chrF++"] * scored]
    lines.append(["---"] * 2 + ["---:"] * (len(lines[0]) - 2))
    for row in sorted(rows, key=lambda row: (-row["bytes"], row["imatrix"])):
        cells = [row["type"], "yes" if row["imatrix"] else "no", f"{row['bytes'] / 1e6:.1f}", f"{row['bits']:.2f}"]
        cells += [f"{row['kl']:.4f}", f"{row['top1']:.1%}", f"{row['response_kl']:.4f}", f"{row['response_top1']:.1%}"]
        lines.append(cells + [f"{row['chrf']:.2f}" if "chrf" in row else ""] * scored)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run(
    folder: Path,
    pair: Pair,
    types: list[str],
    corpus: Path,
    dev: Path,
    test: Segments | None,
    output: Path,
    threads: int,
) -> list[dict[str, Any]]:
    """Write one row for each type, without and with an importance matrix; returns all rows of this checkpoint."""
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    checkpoint = Checkpoint(folder)
    weights = sum(int(np.prod(tensor.shape)) for tensor in checkpoint.tensors.values())
    conversations = read_conversations(folder, read_segments(dev, pair), pair)
    done = {row["key"] for row in rows}
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        work = Path(temporary)
        plain = export_gguf(folder, work / "plain.gguf", "F32", corpus=corpus)
        matrix, never = fill_never_routed(compute_imatrix(plain, folder, pair, corpus, work))
        write_imatrix(matrix, work / "imatrix.gguf")
        reference = read_logits(plain, conversations, threads)
        for name, with_matrix in tqdm(list(variants(types)), "types"):
            key = f"{checkpoint.fingerprint} {pair} {name} {with_matrix} {'chrf' if test else ''}".strip()
            if key in done:
                continue
            path = work / "quantised.gguf"
            quantise(plain, path, name, work / "imatrix.gguf" if with_matrix else None)
            row = {
                "key": key, "type": name, "imatrix": with_matrix, "bytes": path.stat().st_size,
                "bits": path.stat().st_size * 8 / weights, "pair": str(pair), "model": str(folder),
                "dev": dev.name, "conversations": len(conversations), "corpus": corpus.name, "never_routed": never,
                "machine": processor(), "threads": threads,
            } | losses(conversations, reference, read_logits(path, conversations, threads))  # fmt: skip
            if test:
                with contextlib.closing(open_engine(path, threads)) as engine:
                    scored = evaluate(engine, pair, test)
                    row |= {
                        "chrf": scored.chrf, "chrf_signature": scored.chrf_signature, "segments": len(test),
                        "engine": engine.name,
                    }  # fmt: skip
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
    return [row for row in rows if row["key"].startswith(f"{checkpoint.fingerprint} {pair} ")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="also write the table, as Markdown")
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--types", default=DEFAULT_TYPES, help=f"default: {DEFAULT_TYPES}")
    parser.add_argument("--corpus", type=Path, default=Path("data/calibration"), help="of the importance matrix")
    parser.add_argument("--dev", type=Path, default=Path("data/dev"), help="of divergence and agreement")
    parser.add_argument("--test", type=Path, help="translate and score this text too")
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    found = run(
        chosen.folder, chosen.pair, [find_type(name) for name in chosen.types.split(",")], chosen.corpus, chosen.dev,
        read_segments(chosen.test, chosen.pair) if chosen.test else None, chosen.output, chosen.threads,
    )  # fmt: skip
    text = table(found)
    print(text, end="")
    if chosen.table:
        chosen.table.write_text(text, encoding="utf-8")
