"""llama.cpp's names of the tensors of a mixture of experts (llama-arch.cpp), as GGUF files and importance matrices have them."""

import re
from itertools import dropwhile
from typing import Literal

EMBEDDING = "token_embd.weight"
ROUTER = "ffn_gate_inp.weight"
EXPERT_WEIGHTS = r"ffn_.*_exps\.weight"  # a pattern: the weights of all experts of a layer, stacked
# Of each group, experts have at least one.
NEEDED_EXPERTS = (("ffn_down_exps.weight",), ("ffn_up_exps.weight", "ffn_gate_up_exps.weight"))

# Where a layer predicts the token after the next, with which llama.cpp drafts: architectures that have a graph for it
# (``graph_mtp`` of src/models, as of llama-cpp-python 0.3.36). Others skip these layers when they load a file.
PREDICTION = "nextn.eh_proj.weight"
DRAFTING = frozenset({
    "bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "deepseek4", "glm-dsa", "glm4moe", "hy_v3", "mimo2",
    "nemotron_h_moe", "qwen35moe", "qwen3next", "step35",
})  # fmt: skip

# One number for each expert by which its output is multiplied: of these architectures the router's, and part of the gates.
# Of others it belongs to the type of the weights.
OUTPUT_SCALE = "ffn_down_exps.scale"
SCALED_GATES = frozenset({"gemma4"})

_IN_LAYER = re.compile(r"blk\.(0|[1-9][0-9]*)\.(.*)", re.DOTALL)
_EXPERT_WEIGHTS = re.compile(EXPERT_WEIGHTS)
_ROLES: tuple[tuple[Literal["router", "router_bias", "selection_bias", "stacked"], re.Pattern[str]], ...] = (
    ("router", re.compile(re.escape(ROUTER))),
    ("router_bias", re.compile(r"ffn_gate_inp\.bias")),
    ("selection_bias", re.compile(r"exp_probs_b(_vl)?(\.bias|\.weight)?")),
    ("stacked", re.compile(r"ffn_(gate|up|down|gate_up)_exps\.(weight|bias|scale|input_scale)")),
)
# What else looks like a part of the experts: read as one expert's, or one value for each, by its name alone.
_SUSPECT = re.compile(r"ffn_\w+\.\d+\..*|\w*(?<!sh)exps?(_\w+)?(\..*)?|\w*tid2eid.*")
_WHOLE = re.compile(r"ffn_(norm|post_norm|norm_exps|pre_norm_2|post_norm_1|post_norm_2)\..*|ffn_\w+_shexp\..*")


def in_layer(layer: int | str, rest: str) -> str:
    """The whole name of a layer's tensor."""
    return f"blk.{layer}.{rest}"


def split_layer(name: str) -> tuple[int | None, str]:
    """A tensor's layer, None outside the layers, and its name within the layer."""
    match = _IN_LAYER.fullmatch(name)
    return (int(match[1]), match[2]) if match else (None, name)


def layer_of_experts(name: str) -> int | None:
    """The layer whose stacked expert weights the tensor holds; None for any other."""
    layer, rest = split_layer(name)
    return layer if _EXPERT_WEIGHTS.fullmatch(rest) else None


def is_down_projection(name: str) -> bool:
    """Whether stacked expert weights are those of the last projection, whose inputs are neurons of the expert's own."""
    return "ffn_down_exps" in name


def tensor_role(
    rest: str, shape: tuple[int, ...], experts: int | None
) -> Literal["router", "router_bias", "selection_bias", "stacked", "suspect", "other"]:
    """What a tensor is to a layer of so many experts (None: it has no router), by its name within the layer and its shape.

    ``suspect``: it seems to hold a part of each expert, and no rule knows which.
    """
    for role, pattern in _ROLES:
        if pattern.fullmatch(rest):
            return role
    if experts is None or _WHOLE.fullmatch(rest):
        return "other"
    stacked = len(shape) > 2 and shape[0] == experts
    by_shape = rest.startswith("ffn_") and (stacked or shape == (experts,))
    return "suspect" if by_shape or _SUSPECT.fullmatch(rest) else "other"


def expert_shape(rest: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a layer's tensor with the axis of the experts outermost, by its name; None where it has no such axis.

    ggml does not tell outermost axes of 1 from none: llama-quantize drops that of a single expert.
    """
    role = tensor_role(rest, shape, None)
    if role == "other":
        return None
    axes = {"router": 2, "stacked": {"weight": 3, "bias": 2}.get(rest.rsplit(".", 1)[-1], 1)}.get(role, 1)
    inner = tuple(dropwhile(lambda length: length == 1, shape))
    return (1,) * (axes - len(inner)) + inner
