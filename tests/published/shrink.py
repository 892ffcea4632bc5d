"""Published configs made small: fewer layers, and widths that a test can compute; all else stays as it is published.

Expert counts, top-k, groups, kinds of layers and of rotary embeddings, flags and biases are those of the checkpoint.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from prune.architecture import read_config
from prune.checkpoint import Checkpoint
from runtime.formats.quantised import plain_config
from tests.published import gemma
from tests.quantised_twins import quantise_of, quantised
from tests.tiny import TOKENIZER, TRANSPOSED, VOCABULARY, fill_bias, turn_stacked_experts

CONFIGS = Path(__file__).parent / "configs"
ROOM = 16  # tokens that transformers or llama.cpp add for a family by its name
LOOKED_UP = ["[gMASK]", "<|endoftext|>", "<|user|>", "<|observation|>"]  # by llama.cpp's converter, in some families
INNER = (
    *("intermediate_size", "moe_intermediate_size", "shared_intermediate_size", "shared_expert_intermediate_size"),
    *("intermediate_size_mlp", "expert_hidden_dim", "mlp_intermediate_size", "prefix_dense_intermediate_size"),
    "moe_shared_expert_intermediate_size",
)
WIDTHS = dict.fromkeys(INNER, 64) | {
    **{
        "hidden_size": 64,
        "moe_intermediate_size": 96,
        "num_attention_heads": 4,
        "vocab_size": VOCABULARY + ROOM,
        "initializer_range": 0.1,
    },
    **{"q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16},
    **{
        "attention_head_dim": 64,
        "global_head_dim": 32,
        "rotary_dim": 32,
        "vocab_size_per_layer_input": VOCABULARY + ROOM,
    },
    **{"num_global_key_value_heads": 2, "sliding_window": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
    **{"linear_key_head_dim": 16, "linear_value_head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 16},
    **{"ssm_state_size": 16, "chunk_size": 32, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16},
    **{"mamba_chunk_size": 32, "mamba_dt_rank": 8, "n_groups": 2, "eos_token_id": 0, "pad_token_id": 3},
}
VISION = {
    **{"depth": 1, "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "head_dim": 16},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "out_hidden_size": 64, "num_position_embeddings": 16},
    **{"patch_size": 4, "image_size": 8, "position_embedding_size": 16, "global_head_dim": 16},
    **{"projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32, "deepstack_visual_indexes": [0]},
}
HEAD = 64
BLOCK = [48, 48]  # rows and columns with one scale, of which the last are fewer
DENSE = re.compile(r"block_sparse_moe\.(?=(gate|up|down)_proj)")


def layers_of(config: dict[str, Any]) -> int:
    """As few as have each kind of layer, and two routed ones at least."""
    kinds = config.get("layer_types") or config.get("layers_block_type") or config.get("hybrid_override_pattern") or []
    period = config.get("full_attention_interval") or config.get("no_rope_layer_step") or 0
    first = [kinds.index(kind) + 1 for kind in {*kinds}] + [config.get("attn_layer_offset", 0) + 2, period]
    first += (config.get("linear_attn_config") or {}).get("full_attn_layers", [])[:1]
    return max(3, config.get("first_k_dense_replace", 0) + 2, config.get("num_dense_layers", 0) + 2, *first)


def _shrunk_decoder(config: dict[str, Any], layers: int | None) -> dict[str, Any]:
    before, layers = config["num_hidden_layers"], layers or layers_of(config)
    small = {key: value for key, value in config.items() if key not in ("moe_layers", "bos_token_id")}
    for key, value in small.items():
        if key in WIDTHS and value:
            small[key] = [WIDTHS[key]] * layers if isinstance(value, list) and key in INNER else WIDTHS[key]
        elif isinstance(value, list | str) and len(value) == before:
            small[key] = value[:layers]
    if isinstance(config.get("moe_intermediate_size"), list):  # Hunyuan's, as large as the other
        small["moe_intermediate_size"] = [WIDTHS["intermediate_size"]] * layers
    heads, shared = config["num_attention_heads"], config.get("num_key_value_heads")
    if shared:
        small["num_key_value_heads"] = 4 if shared == heads else 2
    if config.get("head_dim"):
        whole = config["head_dim"] == config.get("qk_nope_head_dim", 0) + config.get("qk_rope_head_dim", 0)
        small["head_dim"] = HEAD if not config.get("kv_lora_rank") else 32 if whole else 16
    if shared := config.get("moe_num_shared_experts"):  # llama.cpp's converter infers their size from these (ERNIE)
        small["intermediate_size"] = small["moe_intermediate_size"] * shared * small["num_key_value_heads"]
    # llama.cpp's converter knows Hunyuan's stretching by its numbers, and a head's size by these two.
    if (config.get("rope_scaling") or {}).get("alpha"):
        head = small["head_dim"] = config["head_dim"]
        small |= {"hidden_size": 2 * head, "num_attention_heads": 2, "num_key_value_heads": 1}
    if linear := config.get("linear_attn_config"):
        kept = {key: [i for i in value if i <= layers] for key, value in linear.items() if isinstance(value, list)}
        small["linear_attn_config"] = linear | kept | {"head_dim": 16, "num_heads": 4}
    for key in ("rope_parameters", "rope_scaling"):
        if isinstance(rope := small.get(key), dict):
            small[key] = _shrunk_rope(rope, config, small)
    scaled = any((small.get(key) or {}).get("factor") for key in ("rope_parameters", "rope_scaling"))
    return small | {"num_hidden_layers": layers} | ({} if scaled else {"max_position_embeddings": 1024})


def _shrunk_rope(rope: dict[str, Any], config: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    """The same kind for smaller heads: lists by frequency keep their first part, parts by axis their shares."""
    head = small.get("head_dim") or 64 // 4
    rotated = int(head * (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1)) // 2
    rope = {
        key: value[:rotated] if key.endswith("_factor") and isinstance(value, list) else value
        for key, value in rope.items()
    }
    if sections := rope.get("mrope_section"):
        parts = [size * rotated // sum(sections) for size in sections]
        rope["mrope_section"] = [rotated - sum(parts[1:]), *parts[1:]]
    return rope


def shrunk(config: dict[str, Any], layers: int | None = None) -> dict[str, Any]:
    """The config of a small twin, of as many ``layers`` as given; blocks with one scale are as small as widths are."""
    if (config.get("quantization_config") or {}).get("weight_block_size"):
        config = config | {"quantization_config": config["quantization_config"] | {"weight_block_size": BLOCK}}
    tokens = {key: 1 for key in config if key.endswith(("token_id", "token_index")) and key[:3] not in ("eos", "pad")}
    if "text_config" not in config:
        return _shrunk_decoder(config, layers)
    vision = {key: VISION.get(key, value) for key, value in config["vision_config"].items()}
    if config["vision_config"].get("deepstack_visual_indexes") == []:
        vision["deepstack_visual_indexes"] = []
    return config | tokens | {"text_config": _shrunk_decoder(config["text_config"], layers), "vision_config": vision}


def quantise_folder(folder: Path, quantisation: dict[str, Any]) -> None:
    """Store the weights as a checkpoint with that ``quantization_config`` does; the index names what it then has."""
    quantise, index = quantise_of(quantisation), folder / "model.safetensors.index.json"
    where = {}
    for shard in folder.glob("*.safetensors"):
        stored, _ = quantised(load_file(shard), quantise, quantisation)
        save_file({key: tensor.contiguous() for key, tensor in stored.items()}, shard, {"format": "pt"})
        where |= dict.fromkeys(stored, shard.name)
    if index.exists():
        index.write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _write_tokenizer(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TOKENIZER / file, folder / file)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(LOOKED_UP)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_twin(name: str, folder: Path) -> Path:
    """A random model by ``configs/<name>.json``: config, names of tensors and quantisation as they are published."""
    published = json.loads((CONFIGS / f"{name}.json").read_text())
    config = shrunk(published["config"], published.get("layers"))
    if of_gemma := published.get("tokenizer") == "gemma":
        config = gemma.with_tokens(config)
    folder.mkdir(parents=True)
    quantisation = config.get("quantization_config")
    (folder / "config.json").write_text(json.dumps(plain_config(config)))
    known = read_config(folder)
    torch.manual_seed(0)
    named: Any = (
        getattr(transformers, config["architectures"][0], None) or AutoModelForCausalLM._model_mapping[type(known)]
    )
    model: Any = named._from_config(known)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "bias" in key:
            fill_bias(key, tensor)
    if of_gemma:
        gemma.fill_scales(model)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="400MB")
    (gemma.write_tokenizer if of_gemma else _write_tokenizer)(folder)
    if quantisation:
        quantise_folder(folder, quantisation)
    for shard in folder.glob("*.safetensors"):  # transformers writes dense layers of Kimi Linear under experts' names
        tensors = load_file(shard)
        if any(DENSE.search(key) for key in tensors):
            save_file({DENSE.sub("mlp.", key): tensor for key, tensor in tensors.items()}, shard, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    if Checkpoint(folder).family.model_type in TRANSPOSED:
        turn_stacked_experts(folder)
    return folder
