"""Which types a checkpoint can be written as, known before any work: from config.json and headers, without torch or llama.cpp.

The rules are the writers' own. GGUF: ``export.gguf.convert.require_supported``. ONNX: its graph is built without weights.
What neither config nor headers tell is left to the writers: weights beyond float16's range. A type whose blocks do not
divide a row is no obstacle to GGUF: llama.cpp takes a larger one there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from prune.checkpoint import Checkpoint
from prune.rewrite.shape import groups_can_stay
from runtime.errors import RequestError, SlimmoeError

ONNX_TYPES = ("none", "fp16", "int8", "int4")


@dataclass(frozen=True)
class Capabilities:
    """What a checkpoint cannot be written as, and why.

    Attributes:
        gguf: why there is no GGUF of any type; None where there is.
        tokenizer: the same, for its tokenizer's sake.
        onnx: by ONNX type that cannot be written, why.
    """

    gguf: SlimmoeError | None
    onnx: dict[str, SlimmoeError]
    tokenizer: SlimmoeError | None = None

    def refusal(self, kind: str) -> SlimmoeError | None:
        """Why there is nothing of type ``kind`` (of ONNX or of GGUF); None where it can be written."""
        return self.onnx.get(kind) if kind in ONNX_TYPES else self.gguf or self.tokenizer

    def sentences(self) -> list[str]:
        """One for each format that cannot be written at all."""
        whole = [self.onnx["none"]] if len(self.onnx) == len(ONNX_TYPES) else []
        return [error.sentence for error in (self.gguf or self.tokenizer, *whole) if error]


def gguf_refusal(checkpoint: Checkpoint, kept: int | None = None) -> SlimmoeError | None:
    """Why the checkpoint, or a cut of it with ``kept`` experts in each layer, cannot be a GGUF file."""
    from export.gguf.convert import require_supported

    try:
        dissolves = kept is not None and not groups_can_stay(checkpoint, kept, min(kept, checkpoint.top_k))
        require_supported(checkpoint, 1 if dissolves else checkpoint.groups)
    except SlimmoeError as error:
        return error
    return None


def _tokenizer_refusal(checkpoint: Checkpoint) -> SlimmoeError | None:
    from export.gguf.converter_folder import tokens_past_embedding
    from export.gguf.tokenizer import require_known

    try:
        tokens_past_embedding(checkpoint)
        require_known(checkpoint.folder)
    except SlimmoeError as error:
        return error
    return None


def _onnx_refusals(checkpoint: Checkpoint) -> dict[str, SlimmoeError]:
    if find_spec("onnx") is None:  # installed for the device alone: whoever writes ONNX installs slimmoe[export]
        return {}
    from export.onnx import require_supported

    refused = {}
    for kinds in (("none", "fp16"), ("int8", "int4")):  # the graph of either differs in nothing that is refused
        try:
            require_supported(checkpoint, kinds[0])
        except SlimmoeError as error:
            refused |= dict.fromkeys(kinds, error)
    return refused


def formats_of(checkpoint: Checkpoint, kept: int | None = None) -> Capabilities:
    """What the checkpoint, or a cut of it with ``kept`` experts in each layer, can be written as."""
    return Capabilities(gguf_refusal(checkpoint, kept), _onnx_refusals(checkpoint), _tokenizer_refusal(checkpoint))


def require_writable(
    checkpoint: Checkpoint, types: Sequence[str], allocation: str = "uniform", kept: int | None = None
) -> None:
    """Refuse, before any work, types that the last stage cannot write.

    Args:
        types: of GGUF, or none, fp16, int8, int4 of ONNX.
        allocation: any but ``uniform`` leaves layers with different numbers of experts, which not every router can pad.
        kept: experts that stay in each layer; None: all.

    Raises:
        RequestError: an unknown type, or one that this model cannot be written as.
        WorkError: tensors are missing.
    """
    from export.gguf.quantise import find_type

    ggufs = [find_type(kind) for kind in types if kind not in ONNX_TYPES]
    able = formats_of(checkpoint, kept)
    for kind in types:
        if error := able.refusal(kind):
            raise error
    if ggufs and allocation != "uniform" and not checkpoint.can_pad:
        raise RequestError(
            f"{checkpoint.folder} cannot have layers of different sizes in a GGUF file: its router has no bias that would "
            "make padding exact.",
            next_command="the same command with ALLOCATION=uniform   (or with ONNX types alone: QUANT=no)",
        )
