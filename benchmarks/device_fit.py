"""Holds the bytes that are planned for a device and for the machine against llama.cpp's own, on files of real shapes.

    python -m benchmarks.device_fit [LLAMA_FIT_PARAMS]

The files have a real header and a hole for weights, which takes no disk. llama-fit-params tells what llama.cpp would allocate
for a split, without loading it; an RPC server beside it stands for the device. Build both with
``cmake --build OBJECTS --target llama-fit-params ggml-rpc-server``. Writes a row for each model, ratio and card, and the figure
of docs/gpu.md; fails where a row is off by more than 3 %. Without a program it draws what was measured before.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

from runtime.engines.split import MARGIN, gguf_bytes, plan_split
from runtime.formats.files import new_file
from runtime.formats.gguf_file import GgufFile
from runtime.llama_paths import VERSION
from tests.processes import rpc_server

BAR = 0.03
RATIOS = (0.0, 0.5, 0.75, 0.875)
CARDS = (4, 6, 8, 12)  # GiB, of which MARGIN is left free
_PART = re.compile(r"^(\S+) (\d+) (\d+) (\d+) *$", re.MULTILINE)  # of a line: device, model, context, compute in MiB
Q = GGMLQuantizationType
Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, as its config has them."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    top_k: int
    width: int
    vocabulary: int
    expert_type: GGMLQuantizationType
    dense_layers: int = 0
    dense_width: int = 0
    shared: bool = False
    biases: bool = False
    window: int = 0


# The configs under tests/published/configs.
SHAPES = {
    "Qwen3-30B-A3B": Shape("qwen3moe", 48, 2048, 32, 4, 128, 128, 8, 768, 151_936, Q.Q4_K),
    "gpt-oss-20b": Shape("gpt-oss", 24, 2880, 64, 8, 64, 32, 4, 2880, 201_088, Q.MXFP4, biases=True, window=128),
    "Hy-MT2-30B": Shape("hy_v3", 48, 2048, 32, 4, 128, 128, 8, 768, 120_832, Q.Q4_K, 1, 6912, shared=True),
}


def _tensors(shape: Shape, experts: int) -> Iterator[tuple[str, list[int], GGMLQuantizationType]]:
    """Name, shape with the outermost axis first, and type, of each tensor."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    small = Q.Q8_0 if hidden % 256 else Q.Q4_K  # K-quants want rows of 256
    yield "token_embd.weight", [shape.vocabulary, hidden], small
    yield "output_norm.weight", [hidden], Q.F32
    yield "output.weight", [shape.vocabulary, hidden], Q.Q8_0 if hidden % 256 else Q.Q6_K
    for layer in range(shape.layers):
        layer_tensors: list[tuple[str, list[int], GGMLQuantizationType]] = [
            ("attn_norm.weight", [hidden], Q.F32),
            ("attn_q.weight", [queries, hidden], small),
            ("attn_k.weight", [keys, hidden], small),
            ("attn_v.weight", [keys, hidden], small),
            ("attn_output.weight", [hidden, queries], Q.Q4_K),
        ]
        if shape.biases:
            layer_tensors += [
                ("post_attention_norm.weight", [hidden], Q.F32),
                ("attn_sinks.weight", [shape.heads], Q.F32),
                *((f"attn_{name}.bias", [size], Q.F32) for name, size in (("q", queries), ("k", keys), ("v", keys))),
                ("attn_output.bias", [hidden], Q.F32),
            ]
        else:
            layer_tensors += [
                ("ffn_norm.weight", [hidden], Q.F32),
                ("attn_q_norm.weight", [shape.head_dim], Q.F32),
                ("attn_k_norm.weight", [shape.head_dim], Q.F32),
            ]
        if layer < shape.dense_layers:
            wide = [("gate", [shape.dense_width, hidden]), ("up", [shape.dense_width, hidden])]
            wide.append(("down", [hidden, shape.dense_width]))
            layer_tensors += [(f"ffn_{name}.weight", size, Q.Q4_K) for name, size in wide]
        else:
            inner = [("gate", [shape.width, hidden]), ("up", [shape.width, hidden]), ("down", [hidden, shape.width])]
            layer_tensors.append(("ffn_gate_inp.weight", [experts, hidden], Q.F32))
            layer_tensors += [(f"ffn_{name}_exps.weight", [experts, *size], shape.expert_type) for name, size in inner]
            if shape.biases:
                layer_tensors.append(("ffn_gate_inp.bias", [experts], Q.F32))
                layer_tensors += [(f"ffn_{name}_exps.bias", [experts, size[0]], Q.F32) for name, size in inner]
            if shape.shared:
                layer_tensors.append(("exp_probs_b", [experts], Q.F32))
                layer_tensors += [(f"ffn_{name}_shexp.weight", size, Q.Q4_K) for name, size in inner]
        for name, size, kind in layer_tensors:
            yield f"blk.{layer}.{name}", size, kind


def write_sparse(path: Path, shape: Shape, experts: int) -> Path:
    """A GGUF file of that shape whose weights are a hole."""
    writer = GGUFWriter(path, shape.architecture)
    writer.add_block_count(shape.layers)
    writer.add_context_length(131_072)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.dense_width or shape.width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(min(shape.top_k, experts))
    writer.add_expert_feed_forward_length(shape.width)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.shared:
        writer.add_expert_shared_feed_forward_length(shape.width)
        writer.add_expert_shared_count(1)
        writer.add_leading_dense_block_count(shape.dense_layers)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"<{index}>" for index in range(shape.vocabulary)])
    writer.add_token_types([TokenType.NORMAL] * shape.vocabulary)
    writer.add_token_merges(["< 0"])
    total = 0
    for name, size, kind in _tensors(shape, experts):
        block, bytes_of_block = GGML_QUANT_SIZES[kind]
        count = prod(size) // block * bytes_of_block
        writer.add_tensor_info(name, size, np.dtype(np.float32), count, raw_dtype=kind)
        total += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + total)
    return path


def llama_bytes(
    program: Path, server: str, file: Path, context: int, layers: int, cpu_experts: int
) -> dict[str, list[int]]:
    """Bytes of model, cache and computation that llama.cpp would take of the device and of the machine (``Host``)."""
    words = [program, "-m", file, "--rpc", server, "-c", context, "-ngl", layers, "-ncmoe", cpu_experts, "-fitp", "on"]
    words.append("--no-repack")  # what is rearranged lies in the machine's memory all the same, but is not counted
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    rows = {name: [int(size) << 20 for size in sizes] for name, *sizes in _PART.findall(done.stdout)}
    if done.returncode or not rows:
        sys.exit(f"llama-fit-params says nothing of {file.name}: {done.stderr[-2000:]}")
    return rows


def measure(program: Path, context: int) -> Iterator[Row]:
    """Plan and llama.cpp's own numbers for each model, ratio and card."""
    with tempfile.TemporaryDirectory() as folder, rpc_server(program.with_name("ggml-rpc-server")) as (server, _):
        for (name, shape), ratio in itertools.product(SHAPES.items(), RATIOS):
            file = write_sparse(Path(folder) / "sparse.gguf", shape, round(shape.experts * (1 - ratio)))
            model = gguf_bytes(GgufFile(file), context)
            for card in CARDS:
                split = plan_split(model, (card << 30) - MARGIN)
                parts = llama_bytes(program, server, file, context, split.gpu_layers, split.experts_behind.stop)
                yield {
                    "model": name,
                    "ratio": ratio,
                    "card_bytes": card << 30,
                    "context": context,
                    "whole": split.is_whole,
                    "split": str(split),
                    "device_bytes": split.device_bytes,
                    "host_bytes": split.host_bytes,
                    "llama_device_bytes": sum(sum(sizes) for where, sizes in parts.items() if where != "Host"),
                    "llama_host_bytes": sum(parts["Host"]),
                    "llama_parts": parts,
                    "llama_cpp_python": VERSION,
                }


def deviation(rows: list[Row]) -> float:
    """The largest difference from llama.cpp, as a share of its bytes."""
    pairs = [(row[f"{where}_bytes"], row[f"llama_{where}_bytes"]) for row in rows for where in ("device", "host")]
    return max(abs(ours - theirs) / theirs for ours, theirs in pairs)


def table(rows: list[Row]) -> str:
    """Of each model and ratio the memory of the machine beside a card; in bold where the card has all of the model."""
    cards = sorted({row["card_bytes"] for row in rows})
    lines = [f"| model | cut |{''.join(f' {card >> 30} GiB |' for card in cards)}", f"|---|---:|{'---:|' * len(cards)}"]
    for name, ratio in dict.fromkeys((row["model"], row["ratio"]) for row in rows):
        found = {row["card_bytes"]: row for row in rows if (row["model"], row["ratio"]) == (name, ratio)}
        cells = [f"{found[card]['host_bytes'] / 2**30:.1f}" for card in cards]
        cells = [f"**{cell}**" if found[card]["whole"] else cell for cell, card in zip(cells, cards, strict=True)]
        lines.append(f"| {name} | {100 * ratio:g} % | {' | '.join(cells)} |")
    about = (
        f"GiB of the machine, {rows[0]['context']} tokens of context; llama-cpp-python {rows[0]['llama_cpp_python']}"
    )
    return "\n".join(lines) + f"\n\n{about}; largest difference from llama-fit-params {deviation(rows):.1%}.\n"


def figure(rows: list[Row], path: Path) -> None:
    """The same as lines, a panel for each model, squares where the card has all of it."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["model"] for row in rows))
    drawing = Figure(figsize=(9, 3), layout="constrained")
    panels = drawing.subplots(1, len(names), sharey=True)
    for panel, name in zip(panels, names, strict=True):
        for card in sorted({row["card_bytes"] for row in rows}):
            found = [row for row in rows if (row["model"], row["card_bytes"]) == (name, card)]
            heights = [row["host_bytes"] / 2**30 for row in found]
            (line,) = panel.plot([100 * row["ratio"] for row in found], heights, "o-", ms=4, label=f"{card >> 30} GiB")
            whole = [row for row in found if row["whole"]]
            at = [100 * row["ratio"] for row in whole], [row["host_bytes"] / 2**30 for row in whole]
            panel.plot(*at, "s", ms=9, mfc="none", color=line.get_color())
        panel.set_ylim(bottom=0)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("experts cut, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("memory of the machine, GiB")
    panels[-1].legend(title="card", fontsize=8)
    drawing.savefig(path, dpi=130)


def main(chosen: argparse.Namespace) -> None:
    """Measure or read rows; see the module.

    Raises:
        SystemExit: something is off by more than BAR.
    """
    if chosen.program:
        rows = list(measure(chosen.program, chosen.context))
        with new_file(chosen.output) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [json.loads(line) for line in chosen.output.read_text().splitlines()]
    figure(rows, chosen.figure)
    print(table(rows))
    if deviation(rows) > BAR:
        sys.exit(f"more than {BAR:.0%} from llama-fit-params")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, nargs="?", help="llama-fit-params, with ggml-rpc-server beside it")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/numbers/device_fit.jsonl"))
    parser.add_argument("--figure", type=Path, default=Path("docs/gpu.png"))
    parser.add_argument("--context", type=int, default=4096)
    main(parser.parse_args())
