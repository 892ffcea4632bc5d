"""``genai_config.json``: what onnxruntime-genai has to know about a graph (its documentation: "Config reference").

It comes from the model's config, the family's ``genai_type`` and the graph's own inputs and outputs.
Nothing is said about sliding windows: they are in the graph's attention, over a cache of the whole context, while
genai's ``sliding_window`` section is for graphs that expect it to drop what is outside the window.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from runtime.formats.onnx_folder import end_ids, longest_text

# Names in the graph, %d being the layer, and what genai calls them.
_INPUTS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "position_ids": "position_ids",
    "past_key_names": "past_key_values.%d.key",
    "past_value_names": "past_key_values.%d.value",
    "past_conv_names": "past_conv.%d",
}
_OUTPUTS = {
    "logits": "logits",
    "present_key_names": "present.%d.key",
    "present_value_names": "present.%d.value",
    "present_conv_names": "present_conv.%d",
}
# What its configuration says of an execution provider.
PROVIDERS: dict[str, list[dict[str, Any]]] = {"cpu": [], "webgpu": [{"webgpu": {}}], "cuda": [{"cuda": {}}]}
_MAX_LENGTH = 4096  # genai allocates the cache for this many tokens at once; callers may ask for more


def _present(names: Mapping[str, str], graph: Collection[str], layers: int) -> dict[str, str]:
    """Those of ``names`` that the graph has in at least one layer."""
    return {key: name for key, name in names.items() if any(name.replace("%d", str(i)) in graph for i in range(layers))}


def genai_config(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    genai_type: str,
    file: str,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Collection[str],
    provider: str = "cpu",
) -> dict[str, Any]:
    """The content of genai_config.json.

    Args:
        config, generation: config.json and generation_config.json ({} where there is none).
        genai_type: genai's name for a decoder with the same inputs.
        file: the graph, from the folder's root.
        inputs: names and shapes of the graph's inputs.
        outputs: names of its outputs.
        provider: a key of ``PROVIDERS``.
    """
    layers, context = config["num_hidden_layers"], longest_text(config)
    ends = end_ids(config, generation)
    pad = generation.get("pad_token_id", config.get("pad_token_id"))
    begin = generation.get("bos_token_id", config.get("bos_token_id"))
    sections: dict[str, Any] = {"inputs": _present(_INPUTS, inputs, layers)}
    sections["outputs"] = _present(_OUTPUTS, outputs, layers)
    if (
        "past_conv_names" in sections["inputs"] and "layer_types" in config
    ):  # layers of two kinds, each with a state of its own
        size = next(shape[-1] for name, shape in inputs.items() if name.startswith("past_conv."))
        sections |= {"layer_types": config["layer_types"], "conv_cache_size": size}
    _, kv_heads, _, head = next(shape for name, shape in inputs.items() if name.startswith("past_key_values."))
    return {
        "model": {
            "type": genai_type,
            "vocab_size": config["vocab_size"],
            "context_length": context,
            **({} if begin is None else {"bos_token_id": begin}),
            **({} if not ends else {"eos_token_id": ends, "pad_token_id": ends[0] if pad is None else pad}),
            "decoder": {
                "session_options": {"provider_options": PROVIDERS[provider]},
                "filename": file,
                "head_size": head,
                "hidden_size": config["hidden_size"],
                "num_attention_heads": config["num_attention_heads"],
                "num_key_value_heads": kv_heads,
                "num_hidden_layers": layers,
                **sections,
            },
        },
        # Greedy, as our engine. Past and present share one buffer, which GroupQueryAttention writes in place.
        "search": {"do_sample": False, "max_length": min(context, _MAX_LENGTH), "past_present_share_buffer": True},
    }
