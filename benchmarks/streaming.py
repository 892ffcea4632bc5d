"""Calibration layer by layer against in memory: seconds and peak memory on a synthetic Qwen3-MoE, in one run.

    python benchmarks/streaming.py --gigabytes 1.5                          both ways, and the ratio
    python benchmarks/streaming.py --gigabytes 8.6 --limit 2GiB --no-memory  streaming only, within a memory limit

Writes the checkpoint to --folder (a temporary one by default), measures, deletes it, and prints one JSON object.
"""

import argparse
import json
import math
import os
import platform
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from benchmarks import work_folder
from prune.calibrate.stats import Stats
from runtime.measure.memory import parse_memory
from runtime.measure.memory_limit import run

ROOT = Path(__file__).parents[1]
HIDDEN, INTERMEDIATE, EXPERTS, HEADS, HEAD = 1024, 512, 64, 16, 64


def write_checkpoint(folder: Path, gigabytes: float, vocabulary: int | None = None) -> int:
    """A random bf16 Qwen3-MoE of about this size, one shard for each layer; returns its bytes of weights.

    ``vocabulary`` is the number of rows of its embedding, by default the tokenizer's; they come on top of the size.
    """
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(1 << 24, generator=generator) * 0.02).bfloat16()

    def weights(*shape: int) -> torch.Tensor:
        start = int(torch.randint(noise.numel() // 2, (), generator=generator))
        values = noise[start:].repeat(-(-math.prod(shape) // (noise.numel() - start)))
        return values[: math.prod(shape)].view(shape).clone()

    layer_bytes = 2 * (3 * EXPERTS * HIDDEN * INTERMEDIATE + 4 * HIDDEN * HEADS * HEAD)
    layers, where, total = max(1, round(gigabytes * 1e9 / layer_bytes)), {}, 0
    source = ROOT / "models" / "default"
    config = json.loads((source / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "moe_intermediate_size": INTERMEDIATE, "num_local_experts": EXPERTS}
    config |= {"num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    config |= {"head_dim": HEAD, "num_experts_per_tok": 8, "tie_word_embeddings": True}
    config |= {"vocab_size": vocabulary or config["vocab_size"]}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(source / name, folder / name)
    for layer in range(-1, layers):
        at = f"model.layers.{layer}."
        if layer < 0:
            tensors = {
                "model.embed_tokens.weight": weights(config["vocab_size"], HIDDEN),
                "model.norm.weight": torch.ones(HIDDEN).bfloat16(),
            }
        else:
            tensors = {at + f"self_attn.{name}_proj.weight": weights(HEADS * HEAD, HIDDEN) for name in "qkvo"}
            tensors |= {at + f"self_attn.{name}_norm.weight": torch.ones(HEAD).bfloat16() for name in "qk"}
            tensors |= {
                at + f"{name}_layernorm.weight": torch.ones(HIDDEN).bfloat16() for name in ("input", "post_attention")
            }
            tensors[at + "mlp.gate.weight"] = weights(EXPERTS, HIDDEN)
            for expert in range(EXPERTS):
                for name, shape in (("gate", (INTERMEDIATE, HIDDEN)), ("up", (INTERMEDIATE, HIDDEN))):
                    tensors[at + f"mlp.experts.{expert}.{name}_proj.weight"] = weights(*shape)
                tensors[at + f"mlp.experts.{expert}.down_proj.weight"] = weights(HIDDEN, INTERMEDIATE)
        shard = f"model-{layer + 1:05}.safetensors"
        save_file(tensors, folder / shard)
        where |= dict.fromkeys(tensors, shard)
        total += sum(tensor.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return total


def write_corpus(path: Path, tokens: int) -> None:
    """The project's calibration text, over and over; --tokens stops within it."""
    lines = [f"{a}\t{b}" for a, b in _segments()]
    path.write_text("\n".join(lines * (1 + tokens // (20 * len(lines)))) + "\n", encoding="utf-8")


def _segments() -> list[tuple[str, str]]:
    from runtime.text.corpus import read_segments
    from runtime.text.pairs import Pair

    return list(read_segments(ROOT / "runtime/text/data" / "calibration", Pair("en", "de")))


def measure(
    folder: Path, corpus: Path, tokens: int, stream: bool, limit: int | None, keep: Path | None = None
) -> dict[str, Any]:
    """Calibrate in a process of its own, from the disk; the statistics become the file ``keep``, or are deleted."""
    output = corpus.with_name("stats.safetensors")
    command = [sys.executable, "-m", "slimmoe", "calibrate", str(folder), "--pair", "en-de"]
    command += ["--corpus", str(corpus), "--tokens", str(tokens), "-o", str(output), *(["--stream"] if stream else [])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = run(command, limit, folder.glob("*.safetensors"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row: dict[str, Any] = {"exit_status": outcome.status, "process_seconds": round(outcome.seconds, 1)}
    row["process_cpu_seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    row |= outcome.memory.row()
    del row["memory_series"]
    if outcome.status == 0:
        used = Stats.load(output).calibration
        total = used["prompt_tokens"] + used["response_tokens"]
        row |= {"seconds": used["seconds"], "tokens": total, "tokens_per_second": round(total / used["seconds"], 1)}
        row |= {"device": used["device"], "dtype": used["dtype"]}
        output.rename(keep) if keep else output.unlink()
    else:
        row["errors"] = outcome.errors[-500:]
    if limit:
        row |= {"limit_bytes": limit, "limit_method": outcome.method, "killed": outcome.killed}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--limit", help="of the streaming run, for example 2GiB")
    parser.add_argument("--no-memory", action="store_true", help="leave out the run in memory")
    parser.add_argument("--folder", type=Path, help="on a disk with room for the checkpoint")
    options = parser.parse_args()
    limit = parse_memory(options.limit, "--limit 2GiB") if options.limit else None
    with work_folder(options.folder) as work:
        corpus = work / "corpus.tsv"
        write_corpus(corpus, options.tokens)
        size = write_checkpoint(work / "model", options.gigabytes)
        result: dict[str, Any] = {"checkpoint_bytes": size, "tokens": options.tokens}
        if not options.no_memory:
            result["in_memory"] = measure(work / "model", corpus, options.tokens, False, None)
        result["streaming"] = measure(work / "model", corpus, options.tokens, True, limit)
    if "seconds" in result.get("in_memory", {}) and "seconds" in result["streaming"]:
        result["throughput_ratio"] = round(result["in_memory"]["seconds"] / result["streaming"]["seconds"], 3)
        used = (result[way]["process_cpu_seconds"] for way in ("in_memory", "streaming"))
        result["throughput_ratio_by_cpu_time"] = round(next(used) / next(used), 3)  # for a machine that others use too
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "threads": torch.get_num_threads()}
    result["load_average"] = [round(load, 1) for load in os.getloadavg()]
    result |= {"python": platform.python_version(), "torch": torch.__version__}
    result["transformers"] = transformers.__version__
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
