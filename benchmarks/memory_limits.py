"""A synthetic MoE of 3 GB in Q4_K, and the same with 75 % of its experts cut, within memory limits of 4, 2 and 1 GiB.

    python -m benchmarks.memory_limits -o runs/memory         a quarter of an hour on two busy cores

Writes the models to --folder (a temporary one by default; 4 GB), measures them as ``slimmoe bench --memory-limit`` does,
deletes them, and leaves bench.jsonl and limits.png. Weights are random: only speed and memory mean anything.
"""

import argparse
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType

from benchmarks import work_folder
from export.gguf import export_gguf
from prune.gguf_model import GgufModel
from prune.plan.plan import Layer, Plan
from prune.rewrite import prune
from runtime.formats.files import new_file
from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_writer import encode, encode_tensor, write_header
from runtime.measure.bench import bench
from runtime.measure.bench_limited import bench_limited
from runtime.measure.rows import write_rows
from runtime.report.canvas import save
from runtime.report.drawing import Drawn
from runtime.report.panels import limits
from runtime.text.pairs import Pair

ROOT = Path(__file__).parents[1]
PAIR = Pair("en", "de")
LIMITS = (4 << 30, 2 << 30, 1 << 30)
LAYERS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 27, 1024, 512, 128, 4
HEADS, KV_HEADS, HEAD = 16, 4, 64
Q4_K, F32 = GGMLQuantizationType.Q4_K, GGMLQuantizationType.F32
BLOCK, WEIGHTS = 144, 256  # bytes of a block of Q4_K, and the weights in it

Tensor = tuple[str, tuple[int, ...], GGMLQuantizationType]


def tensors(vocabulary: int) -> list[Tensor]:
    """Names, shapes (outermost axis first) and types of a qwen3moe; the embedding is the output layer too."""
    found: list[Tensor] = [("token_embd.weight", (vocabulary, HIDDEN), Q4_K), ("output_norm.weight", (HIDDEN,), F32)]
    for layer in range(LAYERS):
        layout = {
            "attn_norm": (HIDDEN,), "attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,), "ffn_norm": (HIDDEN,),
            "attn_q": (HEADS * HEAD, HIDDEN), "attn_k": (KV_HEADS * HEAD, HIDDEN),
            "attn_v": (KV_HEADS * HEAD, HIDDEN), "attn_output": (HIDDEN, HEADS * HEAD),
            "ffn_gate_inp": (EXPERTS, HIDDEN), "ffn_gate_exps": (EXPERTS, INTERMEDIATE, HIDDEN),
            "ffn_up_exps": (EXPERTS, INTERMEDIATE, HIDDEN), "ffn_down_exps": (EXPERTS, HIDDEN, INTERMEDIATE),
        }  # fmt: skip
        for name, shape in layout.items():
            plain = len(shape) == 1 or name == "ffn_gate_inp"
            found.append((f"blk.{layer}.{name}.weight", shape, F32 if plain else Q4_K))
    return found


def blocks(draw: np.random.Generator, count: int) -> np.ndarray:
    """Random blocks of Q4_K [count, 144] (uint8), weights of mean 0 and deviation 0.02.

    A weight is ``d * scale * q - dmin * minimum`` with 6 bits of scale and minimum (mean 31.5) and 4 of q (mean 7.5).
    """
    found = draw.integers(0, 256, (count, BLOCK), np.uint8)
    scale = np.float16(0.02 / (31.5 * math.sqrt(15 * 17 / 12)))
    found[:, :4] = np.array([scale, np.float16(7.5 * scale)]).view(np.uint8)
    return found


def data_of(tensor: Tensor, draw: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """The bytes of a tensor."""
    _, shape, kind = tensor
    if kind == Q4_K:
        count = math.prod(shape) // WEIGHTS
        return np.resize(np.roll(noise, int(draw.integers(len(noise))), 0), (count, BLOCK))
    values = draw.standard_normal(shape) * 0.02 if len(shape) > 1 else np.ones(shape)
    return values.astype(np.float32)


def write_model(path: Path, small: Path) -> None:
    """The synthetic model; ``small`` is a GGUF file of the default model, whose tokenizer it takes."""
    source, draw = GgufFile(small), np.random.default_rng(0)
    changed: dict[str, Any] = {
        "block_count": LAYERS, "embedding_length": HIDDEN, "expert_count": EXPERTS, "expert_used_count": TOP_K,
        "expert_feed_forward_length": INTERMEDIATE, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD, "attention.value_length": HEAD,
    }  # fmt: skip
    keys = {f"qwen3moe.{name}": value for name, value in changed.items()}
    keys |= {"general.file_type": int(LlamaFileType.MOSTLY_Q4_K_S), "general.name": "synthetic"}
    entries = {key: encode(key, value, source.metadata.get(key)) for key, value in keys.items()}
    noise, layout, headers, offset = blocks(draw, 1 << 16), tensors(len(source.get("tokenizer.ggml.tokens"))), [], 0
    for name, shape, kind in layout:
        headers.append(encode_tensor(name, shape, kind, offset))
        size = math.prod(shape) // WEIGHTS * BLOCK if kind == Q4_K else 4 * math.prod(shape)
        offset += -(-size // source.alignment) * source.alignment
    with new_file(path) as temporary, temporary.open("wb", buffering=0) as file:
        write_header(source, file, dict(entries), headers)
        for tensor in layout:
            file.write(data_of(tensor, draw, noise).data)
            file.write(bytes(-file.tell() % source.alignment))


def plan_of(path: Path, ratio: float) -> Plan:
    """Experts that stay are scattered, as they are in plans."""
    model, draw = GgufModel(path), random.Random(0)
    layers = [Layer(i, n, sorted(draw.sample(range(n), round(n * (1 - ratio))))) for i, n in model.moe_layers.items()]
    return Plan("synthetic", model.fingerprint, str(PAIR), "random", "uniform", ratio, 0, TOP_K, layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on a disk with room for 4 GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of bench.jsonl and limits.png")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with work_folder(options.folder) as work:
        unpruned = work / "synthetic-Q4_K_S.gguf"
        write_model(unpruned, export_gguf(ROOT / "models" / "default", work / "small.gguf", "F16"))
        for artefact in (unpruned, prune(unpruned, plan_of(unpruned, 0.75), work / "synthetic-p75-Q4_K_S.gguf")):
            row = bench(artefact, PAIR, threads=options.threads, reference=False)
            rows += [each | {"artefact": artefact.name} for each in (row, *bench_limited(row, LIMITS))]
    options.output.mkdir(parents=True, exist_ok=True)
    write_rows(options.output / "bench.jsonl", rows)
    drawn = limits(str(PAIR), rows)
    assert isinstance(drawn, Drawn)
    save(drawn.paint, options.output / "limits.png", *drawn.size)


if __name__ == "__main__":
    main()
