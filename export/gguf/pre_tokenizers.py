"""The pre-tokenisations that llama.cpp implements, by name, as tokenizer.json spells them (llama-vocab.cpp).

A vocabulary's splits are a sequence of regular expressions, each of which cuts what the ones before left; line ends in
them are written as escapes. Names that split alike differ in what else llama.cpp does with them: ``merges`` False looks
a whole split up in the vocabulary before it merges (ignore_merges), and ``cleans`` removes spaces before punctuation
when token ids become text.
"""

from dataclasses import dataclass

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PUNCTUATION = "punctuation"  # of the step of this name, contiguous
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_LLAMA3 = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+CONTRACTION|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*CONTRACTION|"
    r"NUMBER| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT4O = _CASED.replace("CONTRACTION", f"{_CONTRACTION}?").replace("NUMBER", r"\p{N}{1,3}")
_TEKKEN = _CASED.replace("CONTRACTION", "").replace("NUMBER", r"\p{N}")
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    r""" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}")
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED_CODER = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_QWEN35 = _QWEN2.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"^\s\p{L}", r"^\s\p{L}\p{M}")


@dataclass(frozen=True)
class PreTokenizer:
    """One name and what it stands for; ``normalizer`` is what its tokenizers do first, which llama.cpp leaves out."""

    name: str
    splits: tuple[str, ...]
    normalizer: str | None = None
    merges: bool = True
    cleans: bool = False


# Of names that stand for the same, the most common one.
PRE_TOKENIZERS = (
    PreTokenizer("gpt-2", (GPT2,), cleans=True),
    PreTokenizer("trillion", (GPT2,)),
    PreTokenizer("olmo", (GPT2,), "NFC", cleans=True),
    PreTokenizer("starcoder", (r"\p{N}", GPT2), cleans=True),
    PreTokenizer("smollm", (r"\p{N}", GPT2)),
    PreTokenizer("command-r", (r"\p{N}", GPT2), "NFC"),
    PreTokenizer("falcon", (PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), cleans=True),
    PreTokenizer("qwen2", (_QWEN2,), "NFC"),
    PreTokenizer("hunyuan", (_QWEN2,)),
    PreTokenizer("stablelm2", (_QWEN2,), cleans=True),
    PreTokenizer("qwen35", (_QWEN35,), "NFC"),
    PreTokenizer("ufakzeka", (_QWEN2.removeprefix(f"{_CONTRACTION}|"),)),
    PreTokenizer("llama-bpe", (_LLAMA3,), merges=False, cleans=True),
    PreTokenizer("dbrx", (_LLAMA3,), cleans=True),
    PreTokenizer("minicpm5", (r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")), merges=False),
    PreTokenizer("gpt-4o", (_GPT4O,)),
    PreTokenizer("tiny_aya", (r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O)),
    PreTokenizer("tekken", (_TEKKEN,), merges=False),
    PreTokenizer("deepseek-v3", (r"\p{N}{1,3}", _CJK, _DEEPSEEK3)),
    PreTokenizer("deepseek-coder", _DEEPSEEK_CODER),
    PreTokenizer("bailingmoe", (_BAILING,)),
    PreTokenizer("seed-coder", (_SEED_CODER,)),
    PreTokenizer("exaone-moe", (_EXAONE_MOE,)),
)

# Every name that --pre may force.
_NAMES = """
a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx deepseek-coder
deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon falcon-h1 falcon3 gemma4
gigachat glm4 glm5 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-311m granite-embed-multi-97m grok-2
hunyuan hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-v5-nano
joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3 llama4 megrez mellum mellum2 midm-2.0
minerva-7b minicpm5 minimax-m2 modern-bert mpt olmo phi-2 pixtral poro-chat qwen2 qwen35 refact roberta-bpe sarvam-moe
seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder superbpe talkie tekken tiny_aya trillion ufakzeka
viking whitespace youtu
"""
NAMES = frozenset(_NAMES.split())
