"""What a random twin of Gemma 4 lacks: scales as training leaves them, and a tokenizer of its kind.

That is SentencePiece's BPE over characters and runs of newlines, with bytes to fall back to. llama.cpp's converter takes
no other for this family, and as many tokens as the embedding has rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair

TOKENS = 2048
NAMED = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>", "mask_token": "<mask>"}
OF_CHATS = {  # the converter takes for special what the tokenizer's settings name
    **{"sot_token": "<|turn>", "eot_token": "<turn|>", "think_token": "<|think|>", "escape_token": '<|"|>'},
    **{"soc_token": "<|channel>", "eoc_token": "<channel|>", "std_token": "<|tool>", "etd_token": "<tool|>"},
    **{"stc_token": "<|tool_call>", "etc_token": "<tool_call|>"},
    **{"str_token": "<|tool_response>", "etr_token": "<tool_response|>"},
}
BESIDE = {  # no text has them: transformers puts something else in their place
    **{"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"},
    **{"boa_token": "<|audio>", "audio_token": "<|audio|>", "eoa_token": "<audio|>"},
}
VIDEO = "<|video|>"
SPECIAL = [*NAMED.values(), *OF_CHATS.values(), *BESIDE.values(), VIDEO]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
SETTINGS = NAMED | OF_CHATS | BESIDE | {"extra_special_tokens": [VIDEO], "tokenizer_class": "GemmaTokenizer"}
TEMPLATE = """\
{{ bos_token }}
{%- for message in messages -%}
{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
{{- message['content'] | trim + '<turn|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}
"""


def with_tokens(config: dict[str, Any], tokens: int = TOKENS) -> dict[str, Any]:
    """The config with the number of this tokenizer's tokens, and the ids of those that it names."""
    ids = {
        f"{name}{suffix}": SPECIAL.index(text)
        for name, text in (NAMED | BESIDE | {"video_token": VIDEO}).items()
        for suffix in ("_id", "_index")
    }
    known = {key: value for key, value in ids.items() if key in config}
    rows = {key: tokens for key in config if key in ("vocab_size", "vocab_size_per_layer_input")}
    inner = {key: with_tokens(value, tokens) for key, value in config.items() if key == "text_config"}
    return config | known | rows | inner


def fill_scales(model: torch.nn.Module) -> None:
    """Give what starts at one a usual size: at one, scores of attention, which nothing else divides by the root of a head's
    size, choose single tokens, and those of the router are so near that rounding chooses the experts."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("q_norm.weight"):
            tensor.data.fill_(len(tensor) ** -0.5)
        elif name.endswith("router.scale"):
            tensor.data.fill_(20.0)
        elif name.endswith("per_expert_scale"):
            torch.nn.init.normal_(tensor, mean=1, std=0.3)
        elif name.endswith("layer_scalar"):
            tensor.data.fill_(0.8)
        elif name.endswith("language_model.embed_tokens.weight"):  # the output's as well
            torch.nn.init.normal_(tensor, std=0.25)


def write_tokenizer(folder: Path, text: Sequence[str] = (), tokens: int = TOKENS) -> None:
    """Train it, on the calibration text unless another is given, and write its files and a chat template."""
    text = text or [line for segment in read_segments(Path("data/calibration"), Pair("en", "de")) for line in segment]
    tokenizer: Any = Tokenizer(models.BPE(unk_token=NAMED["unk_token"], fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # while training: tokens begin words
    trainer = trainers.BpeTrainer(vocab_size=tokens, show_progress=False, special_tokens=[*SPECIAL, *BYTES])
    tokenizer.train_from_iterator([*text, "\n\n\n"], trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = NAMED["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, SPECIAL.index(bos))])
    assert tokenizer.get_vocab_size() == tokens
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = [each for each in written["added_tokens"] if each["content"] in SPECIAL]
    (folder / "tokenizer.json").write_text(json.dumps(written))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    # At the end of a turn a model stops as well, as the published file has it.
    (folder / "generation_config.json").write_text(
        json.dumps(
            {f"{name}_id": SPECIAL.index(NAMED[name]) for name in ("bos_token", "pad_token")}
            | {"eos_token_id": [SPECIAL.index(text) for text in ("<eos>", "<turn|>")]}
        )
    )
