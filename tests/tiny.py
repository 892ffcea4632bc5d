"""Tiny random checkpoints. Weights are random, so parity means something and quality does not."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from prune.checkpoint import Checkpoint
from prune.families import load_family

CONFIGS = Path(__file__).parent / "families"
TRANSPOSED = ("qwen3_vl_moe_text",)  # published with stacked experts turned round, and saved without
DEFAULT = Path(__file__).parents[1] / "models" / "default"
VOCABULARY = 2048  # of the tokenizer's first tokens: with all, most of a tiny model would be its embedding
EMBEDDING = "model.embed_tokens.weight"
DELTA_STEPS = ("linear_attn.dt_bias", "forget_gate.dt_bias")


def _small_tokenizer(folder: Path) -> Path:
    """The default model's tokenizer with the tokens that it learnt first, which are the most frequent ones."""
    tokenizer = json.loads((DEFAULT / "tokenizer.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < VOCABULARY}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(DEFAULT / name, folder / name)
    return folder


_FOLDER = tempfile.TemporaryDirectory(prefix="tokenizer-")  # until the tests end
TOKENIZER = _small_tokenizer(Path(_FOLDER.name))


def write_tiny_checkpoint(
    folder: Path,
    family: str = "qwen3_moe",
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    as_published: bool = True,
    shards: str = "400KB",
    tokenizer: Path = TOKENIZER,
    **changes: Any,
) -> Path:
    """Write a model from ``tests/families/<family>.json``; returns ``folder``.

    Args:
        as_published: tensor names and layout as publishers have them; otherwise as transformers holds them in memory,
            where experts are stacked.
        shards: how large each may be.
        tokenizer: the folder that its tokenizer is from.
    """
    values = json.loads((CONFIGS / f"{family}.json").read_text())
    changes = {"vocab_size": len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])} | changes
    if "text_config" in values:  # as published, with the parts beside the decoder
        values["text_config"] |= changes
        values |= {key: value for key, value in changes.items() if key in values}
    else:
        values |= changes
    torch.manual_seed(seed)
    config = AutoConfig.for_model(values.pop("model_type", load_family(family).model_type), **values)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    named = getattr(transformers, (values.get("architectures") or [""])[0], None) or auto._model_mapping[type(config)]
    model: Any = named._from_config(config)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "bias" in name:
            fill_bias(name, tensor)
        elif name.endswith("per_expert_scale"):  # at one, likewise
            torch.nn.init.normal_(tensor, mean=1, std=0.3)
    model.to(dtype).save_pretrained(folder, max_shard_size=shards, save_original_format=as_published)
    if as_published and family in TRANSPOSED:
        turn_stacked_experts(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer / name, folder / name)
    return folder


def write_chain_checkpoint(folder: Path, following: dict[str, dict[str, float]]) -> Path:
    """A tiny model whose next token depends on the last one alone: what it writes is chosen, and it computes all the same.

    Args:
        following: for a token, how likely each next one is, beside the others' less than 0.3; all tokens as text.
    """
    write_tiny_checkpoint(folder, dtype=torch.float32, tie_word_embeddings=False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def number(token: str) -> int:
        (found,) = tokenizer.encode(token, add_special_tokens=False).ids
        return found

    shards = {shard: load_file(shard) for shard in folder.glob("*.safetensors")}
    (embedding,) = (each[EMBEDDING] for each in shards.values() if EMBEDDING in each)
    embedding /= embedding.norm(dim=1, keepdim=True)
    for shard, tensors in shards.items():
        for name, tensor in tensors.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                tensor.zero_()
            elif name == "lm_head.weight":
                tensor /= 10 * tensor.norm(dim=1, keepdim=True)
                for last, nexts in following.items():
                    for token, weight in nexts.items():
                        tensor[number(token)] += weight * embedding[number(last)]
        save_file(tensors, shard, {"format": "pt"})
    return folder


def train_sentencepiece(folder: Path, text: Iterable[str], size: int) -> None:
    """Give a model SentencePiece's own file, BPE of ``size`` tokens learnt from ``text``, in place of its tokenizer.json."""
    from sentencepiece import SentencePieceTrainer

    SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(folder / "tokenizer"), vocab_size=size, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    for name in ("tokenizer.json", "tokenizer.vocab"):
        (folder / name).unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def fill_bias(name: str, bias: torch.Tensor) -> None:
    """Random values: most biases start at zero, where forgetting one would go unnoticed.

    Those of a delta net's steps are such that its state stays for some tokens, as in trained models. At zero, it decays by
    exp(-7) with each token: what is left of it is of the size of rounding, and its norm then makes that large.
    """
    torch.nn.init.normal_(bias, mean=-4.0 if name.endswith(DELTA_STEPS) else 0.0, std=0.3)


def turn_stacked_experts(folder: Path) -> None:
    """Input features before output features, or the other way."""
    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        turned = {name: x.transpose(1, 2).contiguous() for name, x in tensors.items() if ".experts." in name}
        save_file(tensors | turned, shard, {"format": "pt"})


def add_mtp_layer(folder: Path, tensors: bool = True) -> list[str]:
    """Give a checkpoint a layer of multi-token prediction, with its last layer's weights; returns the names of its tensors.

    Args:
        tensors: false: config.json says that there is one, as of models that transformers saved, and there is none.
    """
    checkpoint = Checkpoint(folder)
    path, keys = folder / "config.json", checkpoint.family.config
    if keys.mtp_layers:
        stored, counted = checkpoint.stored_config, {keys.mtp_layers: 1}
        if "text_config" in stored:
            counted = {"text_config": stored["text_config"] | counted}
        path.write_text(json.dumps(stored | counted))
    if not tensors:
        return []
    count, family = checkpoint.layer_count, checkpoint.family
    name = family.unloaded[0].format(beyond=count)
    prefix = name if re.search(r"\d", name) else f"{name}layers.0."
    twins = {prefix: checkpoint.prefix(count - 1)}
    if "layers_block_type" in checkpoint.config:  # attention and experts are layers of their own
        kinds = checkpoint.config["layers_block_type"]
        attention = next(i for i, kind in enumerate(kinds) if kind in ("attention", "full_attention"))
        twins = {prefix: checkpoint.prefix(attention), f"{name}layers.1.": checkpoint.prefix(count - 1)}
    found = {
        new + key.removeprefix(old): tensor
        for shard in folder.glob("*.safetensors")
        for key, tensor in load_file(shard).items()
        for new, old in twins.items()
        if key.startswith(old)
    }
    width = checkpoint.config["hidden_size"]
    last = "final_layernorm" if family.model_type in ("hy_v3", "nemotron_h") else "shared_head.norm"
    inside = {"eh_proj": prefix, "enorm": prefix, "hnorm": prefix, last: [*twins][-1]}
    names = [f"{before}{each}.weight" for each, before in inside.items()]
    if prefix != name and len(twins) == 1:
        names = [f"{name}{each}.weight" for each in ("fc", "pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")]
    joined, *norms = names
    found[joined] = (torch.randn(width, 2 * width) * 0.15).to(torch.bfloat16)
    found |= {norm: (1 + torch.randn(width) * 0.1).to(torch.bfloat16) for norm in norms}
    save_file(found, folder / "mtp.safetensors", {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    known = {name: tensor.path.name for name, tensor in checkpoint.tensors.items()}
    index.write_text(json.dumps({"metadata": {}, "weight_map": known | dict.fromkeys(found, "mtp.safetensors")}))
    return sorted(found)
