"""The graph of an MoE decoder, put together as the family's [decoder] section says.

Inputs ``input_ids`` [B, S], ``attention_mask`` [B, past + S] and ``past_key_values.N.key/value`` [B, KV heads, past,
head]; outputs ``logits`` [B, S, vocabulary] and ``present.N.key/value``. Layers with a convolution instead of attention
have ``past_conv.N`` and ``present_conv.N`` (convolution.py), delta nets ``past_recurrent.N``, too (delta_net.py).
Positions come from the mask. Where past and present share
one buffer, it may be longer than the mask, which says how much of it is in use.
The optional input ``num_logits_to_keep`` [1] restricts ``logits`` to the last positions (0, the default: all of them).

Prompts of a batch may be padded on the right or on the left, and the mask of each later token goes on as it began:
``1 1 0`` then ``1 1 1 0``, or ``0 1 1`` then ``0 1 1 1``. The cache holds each sequence without its padding, from the
front. Later steps add one token to each sequence, or any number where the batch is one sequence.
"""

import numpy as np
from onnx import ModelProto, TensorProto

from export.onnx.attention import Attention
from export.onnx.builder import Builder
from export.onnx.convolution import Convolution
from export.onnx.delta_net import DeltaNet
from export.onnx.experts import FeedForward
from export.onnx.gated_attention import GatedAttention
from export.onnx.kimi_delta import KimiDelta
from export.onnx.latent_attention import LatentAttention
from export.onnx.positions import Positions
from export.onnx.quantise import Storage
from export.onnx.selective_state import SelectiveState
from export.onnx.state_space import StateSpace
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint
from prune.families.decoder import Decoder
from runtime.errors import RequestError

# What layers have instead of attention, by a role of which they alone have a tensor; the first that fits.
_MIXERS: dict[str, type[Convolution]] = {
    "delta_decay": DeltaNet,
    "state_decay": StateSpace,
    "channel_decay": SelectiveState,
    "kimi_decay": KimiDelta,
    "convolution_input": Convolution,
}
KEEP = "num_logits_to_keep"


class _Decoder:
    """Strings the parts together; ``builder`` holds what they share."""

    def __init__(self, builder: Builder) -> None:
        self.builder, self.graph = builder, builder.graph
        self.parts = self._parts(builder)
        self.positions = positions = Positions(builder.graph)
        self.attention = self._attention(builder.decoder)(builder, positions)
        self.others = {
            role: kind(builder, positions) for role, kind in _MIXERS.items() if role in builder.decoder.layer
        }
        if builder.graph.half and self.others:
            raise RequestError(
                "Layers that keep a state add up what float16 is too coarse for: --activations fp16 is for attention."
            )
        self.feed_forward = FeedForward(builder)

    @staticmethod
    def _attention(decoder: Decoder) -> type[Attention]:
        if "latent" in decoder.layer:
            return LatentAttention
        return GatedAttention if decoder.gated_query else Attention

    @staticmethod
    def _parts(builder: Builder) -> list[tuple[int, str, bool]]:
        """What follows each other: number of the layer, role of the norm before it, and whether tokens see each other."""
        layers = range(builder.config["num_hidden_layers"])
        if not builder.decoder.one_part:
            return [(n, role, role == "input_norm") for n in layers for role in ("input_norm", "post_norm")]
        routed, has = builder.checkpoint.moe_layers, builder.tensors.has
        return [(n, "input_norm", not (n in routed or has("dense_up", layer=n))) for n in layers]

    def mixer(self, layer: int) -> Attention | Convolution:
        """What lets a layer's tokens see each other."""
        others = (mixer for role, mixer in self.others.items() if self.builder.tensors.has(role, layer=layer))
        return next(others, self.attention)

    def normed(self, role: str, x: str, layer: int) -> str:
        """What a layer adds, by the norm that some families have there."""
        return self.builder.norm(role, x, layer) if role in self.builder.decoder.layer else x

    def keep(self, *names: str) -> list[str]:
        """Of hidden states [B, S, hidden] the last ``num_logits_to_keep`` positions, or all where that is 0.

        Positions are then the caller's again.
        """
        graph = self.graph
        start = graph.node("Neg", [graph.optional_input(KEEP, np.array([0]))], "kept.start")
        end = graph.constant("kept.end", np.array([np.iinfo(np.int64).max]))
        axis = graph.constant("kept.axis", np.array([1]))
        rows = graph.node("Slice", [self.positions.as_given, start, end, axis], "kept.rows")
        return [graph.node("GatherND", [name, rows], f"{name}.kept", batch_dims=1) for name in names]

    def build(self) -> ModelProto:
        builder, decoder = self.builder, self.builder.decoder
        residual = builder.factor(decoder.residual_multiplier)
        x, embedding = builder.embedding(self.positions.padded_right("input_ids"))
        normed = builder.norm("input_norm", x, 0) if "input_norm" in decoder.layer else x
        last = max(place for place, (_, _, mixes) in enumerate(self.parts) if mixes)
        following = [(role, layer) for layer, role, _ in self.parts[1:]] + [("final_norm", None)]
        for place, (layer, _, mixes) in enumerate(self.parts):
            if mixes:
                mixer = self.mixer(layer)
                added = mixer.mix(normed, layer)
                if place == last:  # nothing after the last attention looks at other positions
                    x, added = self.keep(x, added)
                added = self.normed("mixed_norm", mixer.output(added, layer), layer)
            else:
                added = self.normed("fed_norm", self.feed_forward(normed, layer), layer)
            role, of = following[place]
            normed, x = builder.add_norm(role, x, builder.scaled(added, residual), of)
        vocabulary = builder.logits(normed, embedding)
        builder.tensors.check()
        # transformers.js knows batch_size by that name
        ids, mask = (TensorProto.INT64, ["batch_size", "sequence"]), (TensorProto.INT64, ["batch_size", "total"])
        logits = (TensorProto.FLOAT, ["batch_size", "sequence", vocabulary])
        return self.graph.model(
            {"input_ids": ids, "attention_mask": mask} | self.caches("past"),
            {"logits": logits} | self.caches("present"),
        )

    def caches(self, side: str) -> dict[str, tuple[int, list]]:
        layers = [layer for layer, _, mixes in self.parts if mixes]
        return {name: kind for n in layers for name, kind in self.mixer(n).cache(n, side).items()}


def build_graph(checkpoint: Checkpoint, storage: Storage, weights: Weights, half: bool = False) -> ModelProto:
    """The model's graph; ``weights`` then knows what has to be written beside it. With ``half`` it computes in float16.

    Raises:
        RequestError: the family has no [decoder] section, or the model has parts that the graph does not know.
        WorkError: tensors are missing.
    """
    return _Decoder(Builder(checkpoint, storage, weights, half=half)).build()
