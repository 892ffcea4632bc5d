"""What of a cut lies on a device and what in the machine's memory, from the headers of a checkpoint or GGUF file alone."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from export.sizes import Weights, cache_bytes
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.plan.budget import kept_count
from runtime.engines.split import LayerBytes, ModelBytes, cache_tokens, graph_bytes


def checkpoint_bytes(
    checkpoint: Checkpoint,
    config: dict[str, Any],
    caching: Collection[int],
    stored: Iterable[tuple[Weights, float]],
    context: int,
) -> ModelBytes:
    """What a GGUF file of a checkpoint is made of.

    Args:
        config: with the sizes that memory depends on, as ``sizes_of`` gives them.
        caching: the layers with keys and values.
        stored: the weights, with the bytes that each takes.
        context: tokens that all sequences may have together.
    """
    count = checkpoint.layer_count
    experts, other, output, embedding = [0.0] * count, [0.0] * count, 0.0, 0.0
    separate, width = False, 0
    for item, size in stored:
        if 0 <= item.layer < count:
            (experts if item.routed and item.role != "router" else other)[item.layer] += size
            width = max(width, item.columns if item.routed and item.role == "down" else 0)
        elif item.role == "embedding":
            embedding += size
        else:
            output += size
            separate = separate or item.role == "output"
    kinds = config.get("layer_types") or []
    sliding = [index < len(kinds) and kinds[index] == "sliding_attention" for index in range(count)]
    cached = [cache_tokens(context, config.get("sliding_window") if narrow else None) for narrow in sliding]
    one = config | {"num_hidden_layers": 1}
    caches = [cache_bytes(one, tokens, 2) if i in caching else 0 for i, tokens in enumerate(cached)]
    return ModelBytes(
        tuple(LayerBytes(int(a), int(b), c) for a, b, c in zip(experts, other, caches, strict=True)),
        int(output if separate else output + embedding),
        int(embedding),
        graph_bytes(config["hidden_size"], config["vocab_size"], checkpoint.top_k, width, {*cached}),
    )


def cut_bytes(model: GgufModel, whole: ModelBytes, ratio: float, tokens: float = 1.0) -> ModelBytes:
    """What a cut by ``ratio`` is made of, of a GGUF file made of ``whole``; ``tokens``: the share of them that stays."""
    layers = list(whole.layers)
    for index, experts in model.moe_layers.items():
        if index < len(layers):
            share = kept_count(experts, ratio) / experts
            layers[index] = replace(layers[index], experts=int(layers[index].experts * share))
    output, embedding = int(whole.output * tokens), int(whole.embedding * tokens)
    graph = replace(whole.graph, logits=int(whole.graph.logits * tokens))
    return ModelBytes(tuple(layers), output, embedding, graph)
