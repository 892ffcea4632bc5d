"""From a router's logits to what the MoE operators take: logits, of which they take the top k and their softmax.

Routers that do anything else are computed in plain operators. The experts that a token takes then get the logarithms
of their gates, and the others a number so low that the operator's softmax gives exactly the gates, divided by their
sum. Where their sum should not be 1 it multiplies the operator's output.
"""

from dataclasses import dataclass

import numpy as np

from export.onnx.builder import Builder

_NEVER = np.float32(1e30)  # below the logits of others: no expert that a token takes


@dataclass(frozen=True)
class Routing:
    """What an MoE operator is given.

    Attributes:
        logits: name of [tokens, experts].
        k: experts of a token.
        normalise: whether the operator makes the gates of a token sum to 1.
        total: name of the sum of the gates [tokens, 1], by which its output is to be multiplied; empty where that is 1.
    """

    logits: str
    k: int
    normalise: bool
    total: str = ""


class Router:
    """The router of every layer; appends nodes."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        normalise = builder.decoder.normalise_gates
        self.normalise = bool(builder.config.get(normalise)) if isinstance(normalise, str) else normalise
        # DeepSeek-V2 has this key for its groups alone.
        self.groups = 1 if builder.config.get("topk_method") == "greedy" else builder.checkpoint.groups

    def __call__(self, x: str, layer: int, count: int) -> Routing:
        """Route hidden states [B, S, hidden] among ``count`` experts."""
        builder, label = self.builder, f"{layer}.router"
        k = min(self._top_k(layer), count)
        # Never quantised: a little noise in a router changes which experts run.
        logits = builder.linear("router", x, layer, exact=True)
        rows = builder.graph.constant(f"{label}.shape", np.array([-1, count]))
        logits = builder.graph.node("Reshape", [logits, rows], f"{label}.rows")
        score = builder.decoder.score
        if score == "sparsemixer":
            return self._sparsemixer(logits, label)
        biased = builder.tensors.has("selection_bias", layer=layer)
        if score == "softmax" and not biased and self.groups == 1:
            return Routing(logits, k, self.normalise)
        operator = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[score]
        scores = choice = self._node(operator, [logits], f"{label}.scores")
        if biased:
            bias = builder.tensors.values("selection_bias", layer=layer).reshape(-1)
            choice = self._node("Add", [scores, builder.graph.constant(f"{label}.selection", bias)], f"{label}.biased")
        if self.groups > 1:
            choice = self._within_groups(choice, label, count)
        chosen = self._among_top(choice, k, f"{label}.chosen")
        low = self._constant("never", -_NEVER)
        logits = self._node("Where", [chosen, self._node("Log", [scores], f"{label}.log"), low], f"{label}.logits")
        if self.normalise:
            return Routing(logits, k, True)
        gates = self._node("Where", [chosen, scores, self._constant("zero", np.float32(0))], f"{label}.gates")
        return Routing(logits, k, True, self._sum(gates, f"{label}.total"))

    def _top_k(self, layer: int) -> int:
        """Experts of a token; a config may give them by layer."""
        checkpoint, keys = self.builder.checkpoint, self.builder.checkpoint.family.config.top_k
        found = [] if isinstance(keys, int) else [checkpoint.config[key] for key in keys if key in checkpoint.config]
        return int(found[0][layer]) if found and isinstance(found[0], list) else checkpoint.top_k

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        return self.builder.graph.node(operator, inputs, output, **attributes)

    def _constant(self, name: str, value: object) -> str:
        return self.builder.graph.constant(f"router.{name}", np.array(value))

    def _sum(self, x: str, output: str, keepdims: int = 1) -> str:
        return self._node("ReduceSum", [x, self._constant("last", [-1])], output, keepdims=keepdims)

    def _top(self, x: str, k: int, label: str) -> tuple[str, str]:
        """The k highest values of the last axis in order, and where they are."""
        outputs = f"{label}.top", f"{label}.where"
        self.builder.graph.node("TopK", [x, self._constant(f"{k}", [k])], list(outputs), axis=-1)
        return outputs

    def _among_top(self, x: str, k: int, label: str) -> str:
        """Whether a value is one of the k highest of the last axis."""
        values, _ = self._top(x, k, label)
        least = self._node("Gather", [values, self._constant(f"{k}.least", [k - 1])], f"{label}.least", axis=-1)
        return self._node("GreaterOrEqual", [x, least], label)

    def _within_groups(self, choice: str, label: str, count: int) -> str:
        """The scores, those of groups that a token may not use set to never. A group's score is that of its best."""
        checkpoint, graph = self.builder.checkpoint, self.builder.graph
        shape = self._constant(f"groups.{count}", [-1, self.groups, count // self.groups])
        grouped = self._node("Reshape", [choice, shape], f"{label}.grouped")
        best, _ = self._top(grouped, checkpoint.group_floor, f"{label}.best")
        used = self._among_top(self._sum(best, f"{label}.groups", 0), checkpoint.topk_groups, f"{label}.groups.used")
        used = self._node("Unsqueeze", [used, self._constant("last", [-1])], f"{label}.groups.used.3d")
        grouped = self._node("Where", [used, grouped, self._constant("never", -_NEVER)], f"{label}.grouped.used")
        return self._node(
            "Reshape", [grouped, graph.constant(f"{label}.shape", np.array([-1, count]))], f"{label}.used"
        )

    def _sparsemixer(self, logits: str, label: str) -> Routing:
        """The first two experts (arXiv 2409.12136): each one's gate is its softmax among those that come close to it."""
        values, where = self._top(logits, 2, label)
        first = [self._constant("first", [0]), self._constant("second", [1])]
        tops = [self._node("Gather", [values, i], f"{label}.top.{n}", axis=-1) for n, i in enumerate(first)]
        taken = self._node("Gather", [where, first[0]], f"{label}.where.0", axis=-1)
        low = self._node("Sub", [tops[0], self._constant("low", _NEVER)], f"{label}.low")
        rest = self._node("ScatterElements", [logits, taken, low], f"{label}.rest", axis=1)
        size = self._node("Abs", [logits], f"{label}.size")
        sums = []
        for n, (top, candidates) in enumerate(zip(tops, (logits, rest), strict=True)):
            name = f"{label}.{n}"
            distance = self._node("Sub", [logits, top], f"{name}.distance")
            size_of = self._node("Max", [size, top], f"{name}.size")
            share = self._node("Div", [distance, size_of], f"{name}.share")
            bound = -2 * np.float32(self.builder.config["router_jitter_noise"])
            near = self._node("GreaterOrEqual", [share, self._constant("near", bound)], f"{name}.near")
            weight = self._node("Exp", [self._node("Sub", [candidates, top], f"{name}.off")], f"{name}.weight")
            weight = self._node("Where", [near, weight, self._constant("zero", np.float32(0))], f"{name}.weight.near")
            sums.append(self._sum(weight, f"{name}.sum"))
        sums = self.builder.graph.node("Concat", sums, f"{label}.sums", axis=-1)
        gates = self._node("Reciprocal", [sums], f"{label}.gates")
        lowest = self._node("Sub", [logits, self._constant("low", _NEVER)], f"{label}.lowest")
        log = self._node("Log", [gates], f"{label}.log")
        logits = self._node("ScatterElements", [lowest, where, log], f"{label}.logits", axis=1)
        return Routing(logits, 2, True, self._sum(gates, f"{label}.total"))
