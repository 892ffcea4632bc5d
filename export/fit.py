"""What fits into a memory: file size and memory of every pruning ratio and type, from the headers of a checkpoint alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.table import Table

from export.capabilities import Capabilities, formats_of, gguf_refusal
from export.fit_device import checkpoint_bytes, cut_bytes
from export.gguf_sizes import config_of, cut_size, type_of
from export.sizes import (
    Weights,
    bits,
    cache_bytes,
    caching_layers,
    compute_bytes,
    fallback,
    metadata_bytes,
    onnx_copies,
    read_weights,
    rotary_bytes,
    sizes_of,
    type_in,
)
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.plan.budget import kept_count
from runtime.engines.split import MARGIN, ModelBytes, Split, gguf_bytes, plan_split
from runtime.formats.quantised import MXFP4

RATIOS = (0.0, 0.25, 0.5, 0.7, 0.75, 0.9)
SYSTEM_SHARE = 0.25  # of the memory is left to the system and to other programs
# The program itself, as measured: Python, the engine's code and tokenizer.
PROCESS_BYTES = {"GGUF": 40e6, "ONNX": 70e6}
GOOD_BITS = 4.0  # from this many bits on, a type costs less quality than a further step of pruning
# From the best to the worst.
TYPES = ("F16", "Q8_0", "int8", "Q6_K", "Q5_K_M", "Q4_K_M", "int4", "Q3_K_M", "Q2_K")
KEPT_MXFP4 = "MXFP4_MOE"  # for checkpoints that are in MXFP4


@dataclass(frozen=True)
class Memory:
    """Bytes that a model may take: of the machine, and of a device with memory of its own, where there is one."""

    machine: int
    device: int | None = None

    def place(self, model: Callable[[], ModelBytes], whole: float, beside: float) -> tuple[bool, Split | None]:
        """Whether a model fits, and how it is split over a device, where there is one.

        Args:
            model: gives its parts.
            whole: bytes of all of it in the machine.
            beside: bytes of the program itself.
        """
        if self.device is None:
            return whole <= self.machine, None
        room = self.device - MARGIN
        split = plan_split(model(), room)
        return split.device_bytes <= room and split.host_bytes + beside <= self.machine, split


@dataclass(frozen=True)
class Choice:
    """One ratio and type. Sizes in bytes; ``bits`` are the mean over all weights, ``split`` is what a device has of it."""

    ratio: float
    type: str
    format: str
    experts: int  # kept in a layer that has most
    bits: float
    file_bytes: int
    memory_bytes: int
    fits: bool
    refused: str = ""  # why it cannot be written; empty where it can
    split: Split | None = None


@dataclass(frozen=True)
class Fit:
    """All choices, least pruning and best type first; what is recommended (None where nothing fits), and why."""

    choices: list[Choice]
    usable_bytes: int  # of memory, for the model
    recommended: Choice | None
    reason: str


def _choices(checkpoint: Checkpoint, room: Memory, context: int, tokens: float) -> Iterator[Choice]:
    config, weights, caching = sizes_of(checkpoint), read_weights(checkpoint), caching_layers(checkpoint)
    config |= {"vocab_size": round(tokens * config["vocab_size"])}
    most, layers = max(checkpoint.moe_layers.values()), checkpoint.layer_count
    able = formats_of(checkpoint)
    metadata = {
        "GGUF": tokens * metadata_bytes(checkpoint, "GGUF"),
        "ONNX": tokens * metadata_bytes(checkpoint, "ONNX") + rotary_bytes(checkpoint, config),
    }
    tied = bool(config.get("tie_word_embeddings")) or not any(item.role == "output" for item in weights)
    weights = [item for item in weights if not (tied and item.role == "output")]
    copied = [replace(item, role="output") for item in weights if item.role == "embedding"]
    seen: set[int] = set()
    for ratio in RATIOS:
        if round(most * (1 - ratio)) < 1 or (kept := kept_count(most, ratio)) in seen:
            continue
        seen.add(kept)
        able = replace(able, gguf=gguf_refusal(checkpoint, kept))
        for name in _types(checkpoint):
            if name.startswith("int") and room.device is not None:
                continue  # ONNX folders run on the processor
            format = "ONNX" if name.startswith("int") else "GGUF"
            copies = tied and format == "GGUF" and checkpoint.family.gguf.separate_output
            choose = type_in(name, layers, tied and not copies)
            stored: list[tuple[Weights, float]] = []
            total = 0.0
            for item in [*weights, *copied] if copies else weights:
                count = item.count * (onnx_copies(checkpoint, item) if format == "ONNX" else 1)
                if item.role in ("embedding", "output"):
                    count = count * tokens
                if item.routed:
                    experts = checkpoint.moe_layers[item.layer]
                    count = count * kept_count(experts, ratio) / experts
                stored.append((item, count * bits(fallback(choose(item), item.columns)) / 8))
                total += count
            whole = sum(size for _, size in stored)
            file = whole + metadata[format]
            cache = cache_bytes(config, context, 4 if format == "ONNX" else 2)
            memory = file + cache + compute_bytes(config) + PROCESS_BYTES[format]
            parts = partial(checkpoint_bytes, checkpoint, config, caching, stored, context)
            fits, split = room.place(parts, memory, metadata[format] + PROCESS_BYTES[format])
            yield Choice(
                ratio, name, format, kept, whole * 8 / total, int(file), int(memory), fits,
                _refusal(checkpoint, able, kept, name), split,
            )  # fmt: skip


def _types(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Experts that come in MXFP4 lose nothing in it, so that no type is better, and few others are worth a column."""
    in_mxfp4 = checkpoint.quantisation and checkpoint.quantisation.formats == (MXFP4,)
    others = (kind for kind in TYPES if kind not in ("Q6_K", "Q5_K_M", "Q3_K_M"))
    return (KEPT_MXFP4, *others) if in_mxfp4 else TYPES


def _cuts(model: GgufModel, room: Memory, context: int, tokens: float) -> Iterator[Choice]:
    config, most = config_of(model), max(model.moe_layers.values())
    config |= {"vocab_size": round(tokens * config["vocab_size"])}
    beside = cache_bytes(config, context, 2) + compute_bytes(config) + PROCESS_BYTES["GGUF"]
    whole = gguf_bytes(model.file, context)
    for ratio in RATIOS:
        if round(most * (1 - ratio)) < 1:
            continue
        (file, bits), kept = cut_size(model, ratio, tokens), kept_count(most, ratio)
        memory = int(file + beside)
        parts = partial(cut_bytes, model, whole, ratio, tokens)
        fits, split = room.place(parts, memory, model.file.metadata_end * tokens + PROCESS_BYTES["GGUF"])
        yield Choice(ratio, type_of(model), "GGUF", kept, bits, file, memory, fits, split=split)


def _refusal(checkpoint: Checkpoint, able: Capabilities, kept: int, name: str) -> str:
    if kept < checkpoint.layer_floor:
        return f"The router of {checkpoint.architecture} needs {checkpoint.layer_floor} experts in a layer."
    error = able.refusal(name)
    return error.sentence if error else ""


def fit(
    model: Checkpoint | GgufModel, memory: int, context: int = 1024, tokens: float = 1.0, vram: int | None = None
) -> Fit:
    """Sizes of every ratio and type, and the one to take for ``memory`` bytes of the whole machine.

    Of a checkpoint those of every type; of a GGUF file those of its cuts, which keep the types of its tensors.

    Args:
        tokens: share of the vocabulary that stays, 0 to 1.
        vram: bytes of a GPU with memory of its own, over which and the machine GGUF files are split.

    Raises:
        RequestError: the model has no experts, or an encoder.
        WorkError: a GGUF file does not say a size that memory depends on.
    """
    room = Memory(int(memory * (1 - SYSTEM_SHARE)), vram)
    if isinstance(model, Checkpoint):
        model.require_decoder()
        choices = list(_choices(model, room, context, tokens))
    else:
        choices = list(_cuts(model, room, context, tokens))
    return _recommend(choices, room.machine)


def _base_bits(choice: Choice) -> float:
    """Bits per weight of the type's base; of a GGUF file of another mix its mean."""
    try:
        return bits(choice.type.removesuffix("_M"))
    except KeyError:
        return choice.bits


def _recommend(choices: list[Choice], usable: int) -> Fit:
    fitting = [choice for choice in choices if choice.fits and not choice.refused]
    good = [choice for choice in fitting if _base_bits(choice) >= GOOD_BITS]
    if good:
        best, reason = good[0], "the least pruning at which a type of 4 bits or more fits, and the best such type there"
    elif fitting:
        best, reason = (
            fitting[0],
            "no type of 4 bits or more fits at any ratio; the least pruning at which any type fits",
        )
    else:
        writable = [choice for choice in choices if not choice.refused]
        smallest = min(writable or choices, key=lambda choice: choice.memory_bytes)
        best, reason = None, f"nothing fits; the smallest, {smallest.type} at a ratio of {smallest.ratio:g}, needs more"
        if not writable:
            reason = "none of these types can be written"
    return Fit(choices, usable, best, reason)


def _cell(choice: Choice, number: Callable[[int], str]) -> str:
    """With a place for the mark."""
    if choice.split is None:
        return f"{number(choice.memory_bytes)}%s\n({number(choice.file_bytes)}) "
    split = choice.split
    if split.gpu_layers == split.layers:
        below = f"{split.cpu_experts} "
    else:
        below = f"{split.gpu_layers}/{split.layers} layers "
    return f"{number(split.device_bytes)} | {number(split.host_bytes)}%s\n{below}"


def table(found: Fit) -> Table:
    """A line for each ratio, a column for each type: memory, a mark on what fits, and the file's size below.

    With a card: memory of the card and of the machine, and below what the card has.
    """
    split = any(choice.split for choice in found.choices)
    large = max(choice.memory_bytes for choice in found.choices) >= 10e9
    unit, scale = ("GB", 1e9) if large else ("MB", 1e6)

    def number(size: int) -> str:
        return f"{size / scale:.{int(large and size < 10 * scale)}f}"

    types = dict.fromkeys(choice.type for choice in found.choices)
    result = Table("ratio", "kept", *types, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    if split:
        what = "memory of card | machine in {}, below: layers whose experts stay in the machine"
    else:
        what = "memory at run time and (file size) in {}"
    result.title = f"{what.format(unit)}; + fits, * recommended"
    if any(choice.refused for choice in found.choices):
        result.title += ", x refused"
    result.title_justify = "left"
    for column in result.columns[1:]:
        column.justify = "right"
    for ratio in dict.fromkeys(choice.ratio for choice in found.choices):
        row = [choice for choice in found.choices if choice.ratio == ratio]
        cells = []
        for choice in row:
            mark = "*" if choice == found.recommended else "x" if choice.refused else "+" if choice.fits else " "
            cells.append(_cell(choice, number) % mark)
        result.add_row(f"{ratio:g}", str(row[0].experts), *cells)
    return result
