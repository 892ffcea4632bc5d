"""Which part of a model lies on a device, and which in the machine's memory: layers, and apart from them their experts.

Counted as llama.cpp does: the output layer is one more after a model's own, the last layers go to the device first, and
the experts of the first layers are the first to stay behind. The table of embeddings always stays in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.formats.gguf_file import GgufFile
from runtime.formats.gguf_names import EMBEDDING, split_layer, tensor_role

Count = int | Literal["all", "auto"]
MARGIN = 1 << 30  # bytes of a device that a plan leaves free: for the screen, and for what a driver takes beside
ROWS = 512  # tokens that are evaluated at once; each has its logits on the device
_CACHE_STEP = 256  # tokens, of which a cache always has a multiple
# Architectures in which one layer of so many sees all tokens and the others a window, where the file does not say it.
_WINDOWED = {"gpt-oss": 2}


@dataclass(frozen=True)
class LayerBytes:
    """Bytes of one layer: its experts' stacked weights, all other weights, and its cache."""

    experts: int
    other: int
    cache: int


@dataclass(frozen=True)
class GraphBytes:
    """What is computed for a batch of ROWS tokens, in bytes of float32.

    Attributes:
        hidden: one hidden state of each token.
        logits: of each token, where the output layer is.
        masks: of attention, one for each kind of layer.
        experts: activations of one layer's experts.
    """

    hidden: int
    logits: int
    masks: int
    experts: int

    @property
    def whole(self) -> int:
        """Of the place that computes layers and output: the larger of the two, which follow each other."""
        return max(self.logits + self.hidden, self.experts + self.masks + 4 * self.hidden)

    def beside(self, has_experts: bool) -> int:
        """Of the machine beside a device: the embeddings, and the experts that stayed."""
        return self.hidden + self.masks + (self.experts if has_experts else 0)


@dataclass(frozen=True)
class ModelBytes:
    """What a model is made of, in bytes.

    Attributes:
        output: the last norm and the output layer.
        embedding: its table, which a tied output layer needs once more on a device.
    """

    layers: tuple[LayerBytes, ...]
    output: int
    embedding: int
    graph: GraphBytes


@dataclass(frozen=True)
class Split:
    """A split, and the bytes that it takes: ``gpu_layers`` of ``layers``, without the experts of the first ``cpu_experts``."""

    gpu_layers: int
    cpu_experts: int
    layers: int
    device_bytes: int
    host_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the model is on the device."""
        return self.gpu_layers == self.layers and not self.cpu_experts

    @property
    def experts_behind(self) -> range:
        """The layers on the device whose experts stay in the machine's memory; those before them are there anyway."""
        first = self.layers - self.gpu_layers
        return range(first, first + self.cpu_experts)

    def __str__(self) -> str:
        if not self.gpu_layers:
            return "nothing on it"
        told = "all of it" if self.gpu_layers == self.layers else f"{self.gpu_layers} of {self.layers} layers"
        if not self.cpu_experts:
            return told
        return f"{told} but the experts of {self.cpu_experts} layer{'s' * (self.cpu_experts > 1)}"


def split_bytes(model: ModelBytes, gpu_layers: int, cpu_experts: int) -> Split:
    """The bytes of a split: of device and machine, weights, cache and what is computed together."""
    count = len(model.layers)
    first = max(count + 1 - gpu_layers, 0)
    device = host = 0
    for index, layer in enumerate(model.layers):
        here, apart = layer.other + layer.cache, layer.experts
        on_device = index >= first
        device += on_device * (here + (apart if index >= cpu_experts else 0))
        host += (not on_device) * here + (apart if not on_device or index < cpu_experts else 0)
    experts_here = any(layer.experts for layer in model.layers[: max(first, cpu_experts)])
    if gpu_layers:
        device += model.output + model.graph.whole
        host += model.embedding + model.graph.beside(experts_here)
    else:
        host += model.output + model.embedding + model.graph.whole
    behind = max(cpu_experts - first, 0)  # of layers that are on the device
    return Split(min(gpu_layers, count + 1), behind if gpu_layers else 0, count + 1, device, host)


def splits(model: ModelBytes, gpu_layers: Count = "auto", cpu_experts: Count = "auto") -> Iterator[Split]:
    """Every split that is as asked for, the one with most on the device first, then those that leave ever less there.

    Layers without their experts stay there longest: each token needs all of the former, and few of the latter.
    """
    count = len(model.layers)
    has_experts = any(layer.experts for layer in model.layers)
    layers = count + 1 if gpu_layers in ("all", "auto") else min(int(gpu_layers), count + 1)
    first = max(count + 1 - layers, 0)
    if cpu_experts == "auto":
        behind = range(first, count + 1) if has_experts and layers else range(first, first + 1)
    else:
        behind = (count if cpu_experts == "all" else min(int(cpu_experts), count),)
    for experts in behind:
        yield split_bytes(model, layers, experts)
    if gpu_layers == "auto":
        experts = behind[-1]
        for fewer in range(count, -1, -1):
            yield split_bytes(model, fewer, experts)


def plan_split(model: ModelBytes, budget: int, gpu_layers: Count = "auto", cpu_experts: Count = "auto") -> Split:
    """The split with most on a device of ``budget`` bytes; where none fits, the one with least."""
    split = None
    for split in splits(model, gpu_layers, cpu_experts):
        if split.device_bytes <= budget:
            break
    assert split is not None
    return split


def cache_tokens(context: int, window: int | None = None) -> int:
    """Tokens that a layer's cache has room for; with a window, for those in sight and a batch."""
    tokens = context if window is None else min(context, window + ROWS)
    return -(-tokens // _CACHE_STEP) * _CACHE_STEP


def graph_bytes(hidden: int, vocabulary: int, top_k: int, width: int, cached: Iterable[int]) -> GraphBytes:
    """What llama.cpp was seen to take (benchmarks/device_fit.py).

    Args:
        width: of an expert.
        cached: tokens in the cache, of each kind of layer.
    """
    row = 4 * ROWS
    # Of each chosen expert its output twice, before and after its weight; or gate, up and their product, if these are more.
    experts = row * top_k * max(2 * hidden, 3 * width)
    return GraphBytes(row * hidden, row * vocabulary, row * sum(cached), experts)


def gguf_bytes(file: GgufFile, context: int, width: int = 2) -> ModelBytes:
    """What a GGUF file is made of, from its header.

    Args:
        context: tokens that all sequences may have together.
        width: bytes of a number in the cache.
    """
    count = max(file.numbers("block_count"), default=0) - max(file.numbers("nextn_predict_layers"), default=0)
    experts, other = [0] * count, [0] * count
    output = embedding = 0
    tied, vocabulary, hidden = "output.weight" not in file.tensors, 0, max(file.numbers("embedding_length"), default=0)
    most = max(file.numbers("expert_count"), default=0)
    for name, tensor in file.tensors.items():
        size = tensor.stop - tensor.start
        layer, rest = split_layer(name)
        if layer is None:
            if name == EMBEDDING:
                embedding, vocabulary = size, tensor.shape[0]
            output += size if name != EMBEDDING or tied else 0
        elif layer < count:
            where = experts if tensor_role(rest, tensor.shape, most or None) == "stacked" else other
            where[layer] += size
    windows = _windows(file, count)
    layers = tuple(map(LayerBytes, experts, other, _caches(file, windows, context, width)))
    inner = max(file.numbers("expert_feed_forward_length") or file.numbers("feed_forward_length"), default=0)
    top_k, cached = max(file.numbers("expert_used_count"), default=0), {cache_tokens(context, each) for each in windows}
    return ModelBytes(layers, output, embedding, graph_bytes(hidden, vocabulary, top_k, inner, cached))


def _windows(file: GgufFile, count: int) -> list[int | None]:
    """Of each layer the tokens that it sees; None: all."""
    window, period = max(file.numbers("attention.sliding_window"), default=0), _WINDOWED.get(file.architecture)
    return [window if window and period and (layer + 1) % period else None for layer in range(count)]


def _caches(file: GgufFile, windows: list[int | None], context: int, width: int) -> list[int]:
    """Bytes of each layer's cache; none where it has no attention."""
    count = len(windows)

    def each(name: str, default: int) -> list[int]:
        values = file.numbers(name) or [default]
        return (values * count)[:count] if len(values) == 1 else (values + [0] * count)[:count]

    hidden, heads = each("embedding_length", 0), each("attention.head_count", 1)
    of_keys = each("attention.head_count_kv", heads[0] if heads else 1)
    latent = max(file.numbers("attention.kv_lora_rank"), default=0)
    caches = []
    for layer in range(count):
        default = hidden[layer] // max(heads[layer], 1)
        row = of_keys[layer] * (
            each("attention.key_length", default)[layer] + each("attention.value_length", default)[layer]
        )
        if latent:  # multi-head latent attention: one compressed vector for keys and values
            row = latent + max(file.numbers("rope.dimension_count"), default=0)
        caches.append(row * cache_tokens(context, windows[layer]) * width)
    return caches
