"""How a family's decoder is put together: the [decoder] section of its file, which the ONNX graph writer reads.

A family with an encoder says by the same section how that is put together: its layers have the same names, without the
attention to the encoder.

What tensors tell is not repeated there: layers without experts, shared experts, tied embeddings, and whether queries
and keys are normalised as a whole or head by head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL_ROLES = ("embedding", "encoder_norm", "final_norm", "output")
LAYER_ROLES = (
    *("input_norm", "post_norm"),  # before attention and before the feed-forward network
    *("mixed_norm", "fed_norm"),  # of what attention adds to the hidden states, and of what the network adds
    *("query", "key", "value", "attention_output", "query_norm", "key_norm"),
    *("cross_norm", "cross_query", "cross_key", "cross_value", "cross_output"),  # attention to an encoder's output
    *("query_down", "query_down_norm", "query_up"),  # of queries in two steps
    *("latent", "latent_norm", "latent_up"),  # keys and values in two steps, with one rotated part for all heads
    "sinks",  # one logit for each head that takes part in the softmax and has no value
    *("convolution_input", "convolution", "convolution_output"),  # in layers that have one instead of attention
    # Of delta nets, which have a convolution, too: one or several projections, decays and biases of the step by head.
    *(
        "delta_inputs",
        "delta_rates",
    ),  # of queries, keys, values and gates, and of rates and steps, head by head of keys
    *("delta_input", "delta_gate", "delta_rate", "delta_step"),  # the same apart: queries, keys and values in turn
    *("delta_step_bias", "delta_decay", "delta_norm", "delta_output"),
    # Of state spaces, which have a convolution, too: gates, values, keys, queries and steps in turn.
    *("state_input", "state_step_bias", "state_decay", "state_skip", "state_norm", "state_output"),
    # Of those whose decay is by channel: gates and channels, then steps, keys and queries in turn, each with a norm.
    *("channel_decay", "state_parts", "state_step", "state_step_norm", "state_key_norm", "state_query_norm"),
    # Of Kimi's delta nets: queries, keys and values as of attention, each with a convolution, or all with one.
    *("convolution_query", "convolution_key", "convolution_value"),
    *("kimi_decay", "kimi_step_down", "kimi_step_up", "kimi_step_bias", "kimi_rate"),
    *("kimi_gate_down", "kimi_gate_up", "kimi_norm"),
    *("expert_gate", "expert_up", "expert_down"),  # of one {expert}
    *("stacked_up", "stacked_down"),  # of all experts; stacked_up has the rows of gate and up projection
    *("shared_gate", "shared_up", "shared_down"),  # of the expert that every token takes
    "shared_gate_up",  # the rows of its gate and up projection, one after the other
    "shared_sigmoid",  # one row: the shared expert's gate
    *("dense_gate", "dense_up", "dense_down"),  # in layers without a router
)
ACTIVATIONS = ("swiglu", "relu", "relu2")
SCORES = ("softmax", "sigmoid", "sparsemixer")


@dataclass(frozen=True)
class Decoder:
    """Names of tensors by their role, and what they alone do not tell.

    Where several names are given for a role, the first that the checkpoint has counts. ``key`` below means a key of
    ``config.json``.
    """

    model: dict[str, str | list[str]]  # by the roles above
    layer: dict[str, str | list[str]]  # the same, after a layer's prefix
    biased: tuple[str, ...] = ()  # roles whose weight may have a bias, also "router"; it is found by the weight's name
    genai_type: str = "llama"  # what onnxruntime-genai calls this kind of decoder
    defaults: dict[str, Any] = field(default_factory=dict)  # values of keys that a published config may lack
    fixed: dict[str, Any] = field(default_factory=dict)  # keys and the one value that the graph computes

    norm: str = "rms"  # or layer
    epsilon: str = "rms_norm_eps"  # key
    latent_epsilon: float | None = None  # of the latents' norms, where their code has another
    norm_offset: float = 0.0  # what is added to the stored scales of norms, but not to that of a delta net
    embedding_root: str | None = None  # key that says whether embeddings are multiplied by the root of their size
    embedding_multiplier: str | None = None  # keys of factors
    residual_multiplier: str | None = None  # of what each layer's two parts add to the hidden states
    attention_multiplier: str | None = None  # of queries with keys, instead of 1 / sqrt(head size)
    logits_divisor: str | None = None

    sliding_window: str | None = None  # key of its size; layers by ``layer_types``, or all of them
    rotary_interleaved: bool = False  # neighbours are rotated together, not the first half with the second
    rotary_in_windows_only: bool = False  # layers that see everything have no positions, where others have windows
    norm_after_rotary: bool = False  # of queries and keys
    rotary: bool | dict[str, str] = True  # whether there is such an embedding, or the key and value that say so
    state_space: dict[str, str] = field(
        default_factory=dict
    )  # of Mamba2: keys of heads, size (of a state), groups, least_step

    gated_query: bool = False  # the query projection's rows of a head are its query, and then a gate of its output

    one_part: bool = False  # a layer is attention, a state or a network alone, after a norm of its own

    score: str = "softmax"  # how the router's logits become gates: one of SCORES
    normalise_gates: bool | str = True  # whether the gates of a token's experts sum to 1, or the key that says so
    routed_scaling: str | None = None  # key of a factor of what the routed experts add
    routed_dropout: str | None = None  # key of the share of it that training drops: what is left is the factor
    activation: str = "swiglu"  # or, of networks that have no gate, relu and its square, relu2
    swiglu: dict[str, str | float] = field(default_factory=dict)  # alpha, beta, limit: a number or a key
    stacked_interleaved: bool = False  # rows of gate and up projection in turn, instead of one after the other
    stacked_transposed: bool | str = False  # input features before output features; "by_shape": in some checkpoints

    def __post_init__(self) -> None:
        unknown = [*(self.model.keys() - MODEL_ROLES), *(self.layer.keys() - LAYER_ROLES)]
        unknown += {*self.biased} - {*self.model, *self.layer, "router"}
        if unknown:
            raise TypeError(f"[decoder] has no role {', '.join(sorted(unknown))}")
        if self.score not in SCORES or self.norm not in ("rms", "layer") or self.activation not in ACTIVATIONS:
            raise TypeError(f"[decoder] knows no {self.score!r}, no {self.norm!r} or no {self.activation!r}")

    def rotates(self, config: Mapping[str, Any]) -> bool:
        """Whether queries and keys are rotated by their positions."""
        says = self.rotary
        return says if isinstance(says, bool) else all(config.get(key) == value for key, value in says.items())

    @property
    def has_encoder(self) -> bool:
        return "cross_query" in self.layer
