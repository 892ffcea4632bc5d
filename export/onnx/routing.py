"""From a router's logits to what the MoE operators take: logits, of which they take the top k and their softmax.

Routers that do anything else are computed in plain operators. The experts that a token takes then get the logarithms
of their gates, and the others a number so low that the operator's softmax gives exactly the gates, divided by their
sum. Where their sum should not be 1, it multiplies the operator's output: QMoE always makes it 1.
"""

from typing import Any

import numpy as np

from export.onnx.builder import Builder

_NEVER = np.float32(3e4)  # below the logits of others: of no expert that a token takes; float16 holds it


class Router:
    """The router of every layer; appends nodes."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        normalise = builder.decoder.normalise_gates
        self.normalise = bool(builder.config.get(normalise)) if isinstance(normalise, str) else normalise
        # DeepSeek-V2 says by this key whether its groups are used.
        self.groups = 1 if builder.config.get("topk_method") == "greedy" else builder.checkpoint.groups

    def __call__(self, x: str, layer: int, count: int) -> tuple[str, int, str]:
        """Route hidden states [B, S, hidden] among ``count`` experts.

        Returns:
            Logits [B * S, experts] for the operator, how many experts a token takes, and the sum of its gates [B, S, 1]
            by which the operator's output is to be multiplied (empty where it is 1).
        """
        builder, label = self.builder, f"{layer}.router"
        k = min(self._top_k(layer), count)
        # Never quantised: a little noise in a router changes which experts run.
        logits = builder.linear("router", x, layer, exact=True)
        if builder.decoder.score == "sparsemixer":
            logits, total = self._sparsemixer(logits, label)
        else:
            logits, total = self._scored(logits, layer, k, count)
        rows = builder.graph.constant(f"{label}.shape", np.array([-1, count]))
        logits = self._node("Reshape", [builder.graph.narrowed(logits), rows], f"{label}.rows")
        return logits, k, builder.graph.narrowed(total) if total else ""

    def _top_k(self, layer: int) -> int:
        """Experts of a token; a config may give them by layer."""
        checkpoint, keys = self.builder.checkpoint, self.builder.checkpoint.family.config.top_k
        found = [] if isinstance(keys, int) else [checkpoint.config[key] for key in keys if key in checkpoint.config]
        return int(found[0][layer]) if found and isinstance(found[0], list) else checkpoint.top_k

    def _scored(self, logits: str, layer: int, k: int, count: int) -> tuple[str, str]:
        """Gates are the k highest scores, or those that are the highest with a bias or within the best groups."""
        builder, label = self.builder, f"{layer}.router"
        biased = builder.tensors.has("selection_bias", layer=layer)
        plain = builder.decoder.score == "softmax" and not biased and self.groups == 1
        if plain and self.normalise:
            return logits, ""
        score = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[builder.decoder.score]
        scores = choice = self._node(score, [logits], f"{label}.scores")
        if plain:
            return logits, self._sum(self._top(scores, k, label)[0], f"{label}.total")
        if biased:
            bias = builder.tensors.values("selection_bias", layer=layer).reshape(-1)
            bias = builder.graph.constant(f"{label}.selection", bias, exact=True)
            choice = self._node("Add", [scores, bias], f"{label}.biased")
        if self.groups > 1:
            choice = self._within_groups(choice, label, count)
        chosen = self._among_top(choice, k, f"{label}.chosen")
        log = self._node("Log", [scores], f"{label}.log")
        logits = self._node("Where", [chosen, log, self._constant("never", -_NEVER)], f"{label}.logits")
        if self.normalise:
            return logits, ""
        gates = self._node("Where", [chosen, scores, self._constant("zero", np.float32(0))], f"{label}.gates")
        return logits, self._sum(gates, f"{label}.total")

    def _within_groups(self, choice: str, label: str, count: int) -> str:
        """The scores, those of groups that a token may not use set to never. A group's score is that of its best."""
        checkpoint = self.builder.checkpoint
        shape = self._constant(f"groups.{count}", [0, 0, self.groups, count // self.groups])
        grouped = self._node("Reshape", [choice, shape], f"{label}.grouped")
        best, _ = self._top(grouped, checkpoint.group_floor, f"{label}.best")
        used = self._among_top(self._sum(best, f"{label}.groups", 0), checkpoint.topk_groups, f"{label}.groups.used")
        used = self._node("Unsqueeze", [used, self._constant("last", [-1])], f"{label}.groups.used.each")
        grouped = self._node("Where", [used, grouped, self._constant("never", -_NEVER)], f"{label}.grouped.used")
        return self._node("Reshape", [grouped, self._constant("joined", [0, 0, -1])], f"{label}.used")

    def _sparsemixer(self, logits: str, label: str) -> tuple[str, str]:
        """Two experts in turn, each with its softmax among those not taken that come close to it (arXiv 2409.12136)."""
        values, where = self._top(logits, 2, label)
        first, second = self._constant("first", [0]), self._constant("second", [1])
        tops = [self._node("Gather", [values, i], f"{label}.{i}", axis=-1) for i in (first, second)]
        taken = self._node("Gather", [where, first], f"{label}.taken", axis=-1)
        low = self._node("Sub", [tops[0], self._constant("low", _NEVER)], f"{label}.low")
        rest = self._node("ScatterElements", [logits, taken, low], f"{label}.rest", axis=-1)
        size = self._node("Abs", [logits], f"{label}.size")
        near = self._constant("near", np.float32(-2 * self.builder.config["router_jitter_noise"]))
        sums = []
        for top, candidates in zip(tops, (logits, rest), strict=True):
            distance = self._node("Sub", [logits, top], f"{top}.distance")
            share = self._node("Div", [distance, self._node("Max", [size, top], f"{top}.size")], f"{top}.share")
            close = self._node("GreaterOrEqual", [share, near], f"{top}.close")
            weight = self._node("Exp", [self._node("Sub", [candidates, top], f"{top}.off")], f"{top}.weight")
            weight = self._node("Where", [close, weight, self._constant("zero", np.float32(0))], f"{top}.weight.close")
            sums.append(self._sum(weight, f"{top}.sum"))
        gates = self._node("Reciprocal", [self._node("Concat", sums, f"{label}.sums", axis=-1)], f"{label}.gates")
        lowest = self._node("Sub", [logits, self._constant("low", _NEVER)], f"{label}.lowest")
        log = self._node("Log", [gates], f"{label}.log")
        logits = self._node("ScatterElements", [lowest, where, log], f"{label}.logits", axis=-1)
        return logits, self._sum(gates, f"{label}.total")

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return self.builder.graph.node(operator, inputs, output, **attributes)

    def _constant(self, name: str, value: Any) -> str:
        return self.builder.graph.constant(f"router.{name}", np.array(value), exact=True)

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
