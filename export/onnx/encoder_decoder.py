"""The two graphs of an MoE model with an encoder, put together as the family's [decoder] section says.

The encoder's: ``input_ids`` [B, source] and ``attention_mask`` (0: padding, on either side) give ``last_hidden_state``
[B, source, hidden]; where there is padding, it means nothing.

The decoder's: ``input_ids`` [B, S], ``encoder_hidden_states``, ``encoder_attention_mask`` [B, source] and
``past_key_values.N.decoder/encoder.key/value`` [B, heads, past, head] give ``logits`` [B, S, vocabulary] and the same as
``present.N...``. All past is empty at first. ``present.N.encoder`` then holds the keys and values of the encoder's output;
a caller that passes them on, or keeps passing the first ones, has them computed once. There is no ``use_cache_branch``, since
both cases are the same nodes. Targets are not padded before they end.

Expert capacity: routers that drop tokens beyond one are refused. At ``moe_eval_capacity_token_fraction`` 1 none is
dropped, since no expert can be the choice of more tokens than there are; and without dropping, normalising before or
after it and prioritising within the batch are the same.
"""

from collections.abc import Callable

from onnx import ModelProto, TensorProto

from export.onnx.builder import Builder
from export.onnx.cross_attention import CrossAttention, SourceAttention, TargetAttention
from export.onnx.experts import FeedForward
from export.onnx.quantise import Storage
from export.onnx.sinusoidal import sinusoidal
from export.onnx.tensors import Matrix
from export.onnx.weights import Weights
from prune.checkpoint import Checkpoint

STEMS = ("encoder_model", "decoder_model_merged")  # names of their files, as optimum and transformers.js have them
IDS, MASK, STATES, SOURCE_MASK = "input_ids", "attention_mask", "encoder_hidden_states", "encoder_attention_mask"

Part = Callable[[str, int], str]  # of a layer: takes normed hidden states and the layer's number


def _stack(builder: Builder, x: str, layers: range, parts: dict[str, Part], final: str) -> str:
    """Layers whose parts each add to the hidden states, by the role of the norm before them; then the ``final`` norm."""
    places = [(role, layer) for layer in layers for role in parts]
    normed = builder.norm(next(iter(parts)), x, layers.start)
    for (role, layer), (norm, of) in zip(places, [*places[1:], (final, None)], strict=True):
        normed, x = builder.add_norm(norm, x, parts[role](normed, layer), of)
    return normed


def _padding(builder: Builder, mask: str) -> str:
    """A mask as the attention operator takes it."""
    return builder.graph.node("Cast", [mask], f"{mask}.int32", to=TensorProto.INT32)


def _embedded(builder: Builder, past: str = "") -> tuple[str, Matrix]:
    """What the first layer takes, and the embedding's table."""
    x, table = builder.embedding(IDS)
    return builder.graph.node("Add", [x, sinusoidal(builder, IDS, past)], "embedded"), table


def _encoder(builder: Builder) -> ModelProto:
    config, graph = builder.config, builder.graph
    attention = SourceAttention(builder, config["encoder_attention_heads"], _padding(builder, MASK))
    parts: dict[str, Part] = {"input_norm": attention, "post_norm": FeedForward(builder)}
    x, table = _embedded(builder)
    x = _stack(builder, x, range(config["encoder_layers"]), parts, "encoder_norm")
    output = graph.node("Identity", [x], "last_hidden_state")
    tokens, states = ["batch_size", "source"], ["batch_size", "source", table.shape[1]]
    inputs: dict[str, tuple[int, list]] = {name: (TensorProto.INT64, tokens) for name in (IDS, MASK)}
    return graph.model(inputs, {output: (TensorProto.FLOAT, states)}, "encoder")


def _decoder(builder: Builder) -> ModelProto:
    config, graph, heads = builder.config, builder.graph, builder.config["decoder_attention_heads"]
    first = config["encoder_layers"]
    layers = range(first, first + config["decoder_layers"])
    target = TargetAttention(builder, heads, first)
    cross = CrossAttention(builder, heads, first, STATES, _padding(builder, SOURCE_MASK))
    parts: dict[str, Part] = {"input_norm": target, "cross_norm": cross, "post_norm": FeedForward(builder)}
    past = next(iter(target.cache(first, "past", "decoder")))
    x, table = _embedded(builder, graph.node("Shape", [past], "positions.past", start=2, end=3))
    vocabulary = builder.logits(_stack(builder, x, layers, parts, "final_norm"), table)

    def caches(side: str) -> dict[str, tuple[int, list]]:
        of = [target.cache(layer, side, of) for layer in layers for of in ("decoder", "encoder")]
        return {name: kind for each in of for name, kind in each.items()}

    inputs = {
        IDS: (TensorProto.INT64, ["batch_size", "sequence"]),
        STATES: (TensorProto.FLOAT, ["batch_size", "source", table.shape[1]]),
        SOURCE_MASK: (TensorProto.INT64, ["batch_size", "source"]),
    }
    logits = TensorProto.FLOAT, ["batch_size", "sequence", vocabulary]
    return graph.model(inputs | caches("past"), {"logits": logits} | caches("present"))


def build_encoder_decoder(checkpoint: Checkpoint, storage: Storage, weights: list[Weights]) -> list[ModelProto]:
    """Both graphs, in the order of ``STEMS``; each of ``weights`` then knows what has to be written beside its graph.

    Both hold the embedding: consumers load the files apart.

    Raises:
        RequestError: the model has parts that the graphs do not know.
        WorkError: tensors are missing.
    """
    encoder = Builder(checkpoint, storage, weights[0])
    decoder = Builder(checkpoint, storage, weights[1], encoder.tensors)
    models = [_encoder(encoder), _decoder(decoder)]
    encoder.tensors.check()
    return models
