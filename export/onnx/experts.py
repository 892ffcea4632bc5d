"""Feed-forward networks: routed experts as one MoE or QMoE node, the shared expert, and layers without a router."""

from export.onnx.builder import Builder
from export.onnx.routing import Router

# As attributes of the MoE operators. SiLU(gate) * up: their general form is gate * sigmoid(alpha * gate) * (up + beta).
# The CPU kernels know interleaved rows (swiglu_fusion=1) only.
_ACTIVATIONS: dict[str, dict[str, float | str]] = {
    "swiglu": {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0},
    "relu": {"activation_type": "relu"},
    # There is none for the square of relu: where gate and up projection are the same and alpha is large, the above is one.
    "relu2": {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1e4, "activation_beta": 0.0},
}


class FeedForward:
    """The feed-forward network of every layer; appends nodes and returns the output's name."""

    def __init__(self, builder: Builder) -> None:
        self.builder, self.router = builder, Router(builder)
        names = {"alpha": "activation_alpha", "beta": "activation_beta", "limit": "swiglu_limit"}
        values = {name: builder.config[v] if isinstance(v, str) else v for name, v in builder.decoder.swiglu.items()}
        self.gated = builder.decoder.activation == "swiglu"
        self.activation = _ACTIVATIONS[builder.decoder.activation] | {
            names[name]: float(value) for name, value in values.items()
        }
        dropout = builder.decoder.routed_dropout
        self.scaling = builder.factor(builder.decoder.routed_scaling) * (1 - builder.config[dropout] if dropout else 1)

    def __call__(self, x: str, layer: int) -> str:
        """Of hidden states [B, S, hidden]."""
        builder = self.builder
        count = builder.checkpoint.moe_layers.get(layer)
        if not count:
            return self._network("dense", x, layer)
        routed = self._routed(x, layer, count)
        if not builder.tensors.has("shared_down", layer=layer):
            return routed
        shared = self._network("shared", x, layer)
        if builder.tensors.has("shared_sigmoid", layer=layer):
            gate = builder.linear("shared_sigmoid", x, layer, exact=True)
            gate = builder.graph.narrowed(builder.graph.node("Sigmoid", [gate], f"{gate}.gate"))
            shared = builder.graph.node("Mul", [shared, gate], f"{layer}.shared.gated")
        return builder.graph.node("Add", [routed, shared], f"{layer}.experts.all")

    def _routed(self, x: str, layer: int, count: int) -> str:
        builder, graph, label = self.builder, self.builder.graph, f"{layer}.experts"
        logits, k, total = self.router(x, layer, count)
        experts = builder.tensors.experts(layer, count)
        biases = {f"{label}.up.bias": experts.up_bias, f"{label}.down.bias": experts.down_bias}
        names = [graph.constant(name, bias) if bias is not None else "" for name, bias in biases.items()]
        routed = builder.storage.experts(
            graph,
            x,
            logits,
            experts.up,
            experts.down,
            label,
            *names,
            k=k,
            normalize_routing_weights=1,
            **self.activation,
        )
        if total:
            routed = graph.node("Mul", [routed, total], f"{label}.weighted")
        return builder.scaled(routed, self.scaling)

    def _network(self, kind: str, x: str, layer: int) -> str:
        """silu(gate) * up, then down; or relu(up) or its square, then down."""
        builder, graph = self.builder, self.builder.graph
        if not self.gated:
            inner = graph.node("Relu", [builder.linear(f"{kind}_up", x, layer)], f"{layer}.{kind}.inner")
            if builder.decoder.activation == "relu2":
                inner = graph.node("Mul", [inner, inner], f"{inner}.square")
            return builder.linear(f"{kind}_down", inner, layer)
        if builder.tensors.has(f"{kind}_gate_up", layer=layer):
            both = builder.linear(f"{kind}_gate_up", x, layer)
        else:
            both = builder.linears([f"{kind}_gate", f"{kind}_up"], f"{kind}_gate_up", x, layer)
        gate, up = f"{both}.gate", f"{both}.up"
        graph.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        silu = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{gate}.sigmoid")], f"{gate}.silu")
        return builder.linear(f"{kind}_down", graph.node("Mul", [silu, up], f"{layer}.{kind}.inner"), layer)
