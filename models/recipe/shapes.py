"""The models that the recipe trains: the default one, and a smaller one of another family to check its findings on."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from models.recipe.tokenizer import VOCABULARY

BALANCE = 0.01  # weight of the router balance loss
SPECIALISATION = 0.05  # weight of the loss on kinds of text that use the same experts
EXPERT_SHARE = 0.25  # share of the experts that one kind of text may use without cost
_COMMON: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=256,
    num_attention_heads=4,
    max_position_embeddings=1024,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    tie_word_embeddings=True,
    router_aux_loss_coef=BALANCE,
    bos_token_id=None,
    eos_token_id=0,
    pad_token_id=3,
    initializer_range=0.02,
)
SHAPES: dict[str, dict[str, Any]] = {
    # 42 M parameters, of them 38 M in experts; 6 M active for a token without the embedding. Every row is divisible by 256.
    "default": _COMMON
    | dict(
        model_type="qwen3_moe",
        num_hidden_layers=6,
        num_key_value_heads=2,
        head_dim=64,
        num_experts=32,
        num_experts_per_tok=4,
        moe_intermediate_size=256,
        intermediate_size=1024,
        norm_topk_prob=True,
    ),
    # 17 M parameters, of them 13 M in experts: twice as many, a quarter as wide, in fewer layers; 8 of 64 are active.
    # Gates are not normalised, and queries and keys are normalised as a whole instead of head by head.
    "olmoe": _COMMON
    | dict(
        model_type="olmoe",
        num_hidden_layers=4,
        num_key_value_heads=4,
        num_experts=64,
        num_experts_per_tok=8,
        intermediate_size=64,
        norm_topk_prob=False,
    ),
}


def configuration(shape: str) -> PretrainedConfig:
    """The configuration of one of SHAPES."""
    return AutoConfig.for_model(**SHAPES[shape])
