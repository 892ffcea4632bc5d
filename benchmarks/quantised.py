"""Quantised checkpoints larger than memory: calibrated layer by layer and cut inside a memory limit.

    python -m benchmarks.quantised mxfp4 --limit 4GiB     gpt-oss-20b's shapes in MXFP4, 12 GB
    python -m benchmarks.quantised fp8 --limit 4GiB       Qwen3-30B-A3B's shapes in fp8, 13 of 48 layers, 8 GB

Writes a checkpoint of noise to --folder (a temporary one by default), calibrates on --tokens tokens, plans and cuts half of
the experts, deletes everything, and prints one JSON object.
"""

import argparse
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import work_folder
from benchmarks.streaming import ROOT, measure, write_corpus
from prune.calibrate.stats import Stats
from prune.plan.plan import make_plan
from runtime.formats.safetensors import BITS
from runtime.measure.memory import parse_memory
from runtime.measure.memory_limit import run

NOISE = 1 << 24  # bytes, over and over
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # type and shape of a tensor by its name

GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "head_dim": 64,
    "num_attention_heads": 64, "num_key_value_heads": 8, "num_local_experts": 32, "num_experts_per_tok": 4,
    "vocab_size": 201088, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "rms_norm_eps": 1e-5, "attention_bias": True,
    "rope_theta": 150000, "max_position_embeddings": 131072, "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
QWEN = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 13, "head_dim": 128, "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128,
    "num_experts_per_tok": 8, "norm_topk_prob": True, "vocab_size": 151936, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False, "rope_theta": 1000000.0, "max_position_embeddings": 40960,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}  # fmt: skip


def _attention(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, queries)}


def gpt_oss_layer(config: dict[str, Any]) -> Shapes:
    """A layer of gpt-oss as it is published: experts in MXFP4, all else in bf16."""
    experts, hidden, inner = config["num_local_experts"], config["hidden_size"], config["intermediate_size"]
    found: Shapes = {"self_attn.sinks": ("BF16", (config["num_attention_heads"],))}
    for name, shape in _attention(config).items():
        found |= {f"self_attn.{name}_proj.weight": ("BF16", shape), f"self_attn.{name}_proj.bias": ("BF16", shape[:1])}
    found |= {"mlp.router.weight": ("BF16", (experts, hidden)), "mlp.router.bias": ("BF16", (experts,))}
    for name, rows, columns in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
        found[f"mlp.experts.{name}_blocks"] = ("U8", (experts, rows, columns // 32, 16))
        found[f"mlp.experts.{name}_scales"] = ("U8", (experts, rows, columns // 32))
        found[f"mlp.experts.{name}_bias"] = ("BF16", (experts, rows))
    return found


def qwen_layer(config: dict[str, Any]) -> Shapes:
    """A layer of Qwen3-MoE in fp8 with a scale for each block of 128 x 128."""
    hidden, inner, head = config["hidden_size"], config["moe_intermediate_size"], config["head_dim"]
    linear = {f"self_attn.{name}_proj": shape for name, shape in _attention(config).items()}
    for expert in range(config["num_experts"]):
        linear |= {f"mlp.experts.{expert}.{name}_proj": (inner, hidden) for name in ("gate", "up")}
        linear[f"mlp.experts.{expert}.down_proj"] = (hidden, inner)
    found: Shapes = {"mlp.gate.weight": ("BF16", (config["num_experts"], hidden))}
    found |= {f"self_attn.{name}_norm.weight": ("BF16", (head,)) for name in "qk"}
    for name, shape in linear.items():
        found[f"{name}.weight"] = ("F8_E4M3", shape)
        found[f"{name}.weight_scale_inv"] = ("F32", tuple(-(-each // 128) for each in shape))
    return found


KINDS = {"mxfp4": (GPT_OSS, gpt_oss_layer), "fp8": (QWEN, qwen_layer)}


def _noise() -> dict[str, bytes]:
    """Bytes by type that are numbers of a model's size."""
    numbers = np.random.default_rng(0)
    floats = (numbers.standard_normal(NOISE // 4) * 0.02).astype(np.float32)
    codes = numbers.integers(0, 256, NOISE, dtype=np.uint8)
    return {
        "BF16": (floats.view(np.uint32) >> 16).astype(np.uint16).tobytes(), "F32": np.full(NOISE // 4, 1e-4, "<f4").tobytes(),
        "U8": codes.tobytes(), "F8_E4M3": (codes & 0xBF).tobytes(), "scales": np.full(NOISE, 121, np.uint8).tobytes(),
    }  # fmt: skip


def _chunks(size: int, noise: bytes) -> Iterator[bytes]:
    for start in range(0, size, len(noise)):
        yield noise[: size - start]


def write_checkpoint(folder: Path, kind: str) -> int:
    """A checkpoint of noise, one shard for each layer; returns its bytes. What calibration does not read is a hole."""
    config, layer_of = KINDS[kind]
    source, noise, where, total = ROOT / "models" / "default", _noise(), {}, 0
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(source / name, folder / name)
    norm, layer = ("BF16", (config["hidden_size"],)), layer_of(config)
    layer |= {f"{name}_layernorm.weight": norm for name in ("input", "post_attention")}
    vocabulary = ("BF16", (config["vocab_size"], config["hidden_size"]))
    shards: list[Shapes] = [
        {"model.embed_tokens.weight": vocabulary, "model.norm.weight": norm, "lm_head.weight": vocabulary}
    ]
    shards += [
        {f"model.layers.{i}.{name}": each for name, each in layer.items()} for i in range(config["num_hidden_layers"])
    ]
    for number, tensors in enumerate(shards):
        header, offset = {}, 0
        for name, (dtype, shape) in tensors.items():
            stop = offset + math.prod(shape) * BITS[dtype] // 8
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, stop]}
            offset = stop
        text = json.dumps(header).encode()
        path = folder / f"model-{number:05}.safetensors"
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name, entry in header.items():
                start, stop = entry["data_offsets"]
                if name == "lm_head.weight":
                    file.truncate(8 + len(text) + stop)
                    continue
                data = noise["scales" if name.endswith("_scales") else entry["dtype"]]
                file.writelines(_chunks(stop - start, data))
        where |= dict.fromkeys(tensors, path.name)
        total += offset
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return total


def cut(folder: Path, stats: Path, limit: int | None) -> dict[str, Any]:
    """Plan and cut half of the experts, in a process of its own."""
    plan, output = stats.with_name("plan.json"), stats.with_name("cut")
    make_plan(Stats.load(stats), 0.5, "gate").save(plan)
    command = [sys.executable, "-m", "slimmoe", "prune", str(folder), "--plan", str(plan), "-o", str(output)]
    outcome = run(command, limit, folder.glob("*.safetensors"))
    row = {"exit_status": outcome.status, "process_seconds": round(outcome.seconds, 1)} | outcome.memory.row()
    del row["memory_series"]
    row["errors"] = outcome.errors[-500:] if outcome.status else ""
    row["bytes"] = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--limit", help="of calibration and cut, for example 4GiB")
    parser.add_argument("--folder", type=Path, help="on a disk with room for the checkpoint and half of it again")
    options = parser.parse_args()
    limit = parse_memory(options.limit, "--limit 4GiB") if options.limit else None
    with work_folder(options.folder) as work:
        corpus, model = work / "corpus.tsv", work / "model"
        write_corpus(corpus, options.tokens)
        result: dict[str, Any] = {"kind": options.kind, "checkpoint_bytes": write_checkpoint(model, options.kind)}
        print(f"written: {result['checkpoint_bytes'] / 1e9:.1f} GB", file=sys.stderr, flush=True)
        stats = work / "kept.safetensors"
        result["calibrate"] = measure(model, corpus, options.tokens, True, limit, keep=stats)
        print(json.dumps(result), file=sys.stderr, flush=True)
        if stats.exists():
            result["prune"] = cut(model, stats, limit)
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "threads": torch.get_num_threads()}
    result["load_average"] = [round(load, 1) for load in os.getloadavg()]
    result |= {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
