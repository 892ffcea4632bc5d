"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) with its keys and values expanded for every head.

ONNX Runtime has no operator on the CPU that attends to the latents themselves. So the cache holds what other models'
caches do, keys and values of all heads, which takes more memory than the latents would.
"""

import numpy as np

from export.onnx.attention import Attention
from export.onnx.builder import Builder
from export.onnx.positions import Positions
from export.onnx.rotary import rotary
from runtime.errors import RequestError


class LatentAttention(Attention):
    """Each head's query and key have a rotated part, which comes first here and of the key is the same for all heads."""

    def __init__(self, builder: Builder, positions: Positions) -> None:
        super().__init__(builder, positions)
        config = builder.config
        self.rotated, self.plain = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
        self.epsilon = builder.decoder.latent_epsilon
        self.value, self.latent = config["v_head_dim"], config["kv_lora_rank"]
        self.head, self.kv_heads = self.rotated + self.plain, self.heads
        if self.value > self.head:
            raise RequestError(f"The ONNX graph needs values of a head no larger than its keys ({self.head}).")
        if self.positioned:
            self.rotary = rotary(config, self.rotated, whole=True)
        self.scale = self.head**-0.5 * self.rotary.sharpness

    def projections(self, x: str, layer: int) -> tuple[str, str, str]:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.latent"
        rows = np.arange(self.heads * self.head).reshape(self.heads, self.head)
        rows = np.roll(rows, self.rotated, axis=1).reshape(-1)
        if builder.tensors.has("query_down", layer=layer):
            query = builder.norm("query_down_norm", builder.linear("query_down", x, layer), layer, self.epsilon)
            query = builder.linear("query_up", query, layer, order=rows)
        else:
            query = builder.linear("query", x, layer, order=rows)

        parts = builder.split(builder.linear("latent", x, layer), [self.latent, self.rotated], "plain", "rotated")
        rows = np.arange(self.heads * (self.plain + self.value)).reshape(self.heads, -1)
        rows = np.concatenate([rows[:, : self.plain].reshape(-1), rows[:, self.plain :].reshape(-1)])
        latent = builder.norm("latent_norm", parts[0], layer, self.epsilon)
        expanded = builder.linear("latent_up", latent, layer, order=rows)
        keys, value = builder.split(expanded, [self.heads * self.plain, self.heads * self.value], "keys", "values")

        shared = graph.node("Unsqueeze", [parts[1], graph.constant("latent.axis", np.array([2]))], f"{label}.shared")
        every = graph.constant("latent.heads", np.array([1, 1, self.heads, 1]))
        shared = graph.node("Expand", [shared, every], f"{label}.shared.each")
        key = graph.node("Concat", [shared, self._by_head(keys, self.plain)], f"{label}.key", axis=-1)
        return query, self._joined(key), self._padded(value)

    def values_of(self, mixed: str) -> str:
        if self.value == self.head:
            return mixed
        graph = self.builder.graph
        bounds = [graph.constant(f"latent.{n}", np.array([v])) for n, v in (("from", 0), ("to", self.value), ("on", 3))]
        return self._joined(graph.node("Slice", [self._by_head(mixed, self.head), *bounds], f"{mixed}.values"))

    def _padded(self, value: str) -> str:
        """Values of a head as large as its keys, with zeros that ``values_of`` takes off again."""
        if self.value == self.head:
            return value
        graph = self.builder.graph
        pads = graph.constant("latent.pads", np.array([0] * 7 + [self.head - self.value]))
        return self._joined(graph.node("Pad", [self._by_head(value, self.value), pads], f"{value}.padded"))
