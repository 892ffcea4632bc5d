"""Router and expert statistics of a calibration run: sums over tokens, so that shards of a corpus add up."""

import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prune.moe_model import MoeModel
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_replaceable
from runtime.formats.json_object import parse_object
from runtime.formats.safetensors import read_metadata
from runtime.formats.typed_json import Amount, Count, Positive, mismatch
from runtime.text.pairs import parse_pair

FORMAT = "slimmoe-stats/3"
READABLE = (FORMAT, "slimmoe-stats/2")  # the older one lacks easy_ep and together
ROLES = ("prompt", "response")  # the two rows of every sum
_NOT_NEGATIVE = ("count", "norm", "top1", "together")
MOST_EXPERTS = 1 << 16  # of a layer; above all that there are, and below what would fill the memory
SUMS = ("count", "gate", "norm", "gate_norm", "top1", "top1_exp_gate", "easy_ep")  # [2, experts] each
PAIR_SUMS = ("gram", "together")  # [2, experts, experts] each


def rows(experts: int) -> int:
    """Rows of an observer's sums for a layer."""
    return len(SUMS) + len(PAIR_SUMS) * experts


@dataclass
class LayerStats:
    """Sums over the tokens of one layer, float64 [2, experts], PAIR_SUMS [2, experts, experts]; the first axis is ROLES.

    Notation: X_j are the tokens whose top-k holds expert j, g_j a token's gate weight, f_j the expert's output for it.

    ``count`` N_j = |X_j|; ``gate`` sum of g_j; ``norm`` sum of ||f_j||_2; ``gate_norm`` sum of g_j ||f_j||_2, over X_j.
    ``top1`` number of tokens whose largest gate weight is j's; ``top1_exp_gate`` sum of exp(g_j) over those tokens
    (for the importance of Koishekenov et al., arXiv 2212.09811).
    ``easy_ep`` sum of g_j ||f_j||_2 (1 - cos(h, h + r)) over X_j, with the token's hidden state h before the layer's routed
    experts add r to it (EASY-EP, arXiv 2504.06792).
    ``together`` |X_i and X_j|: how many tokens chose both; the diagonal is ``count``.
    ``gram`` sum over X_i and X_j of g_i g_j <f_i, f_j>: for a 0/1 vector d of dropped experts, d' gram d is the summed
    squared error of leaving their terms out of the layer's output, gate weights of the others unchanged.

    Sums left out when constructing are not known: all NaN, whatever is added to them.
    """

    count: np.ndarray
    gate: np.ndarray = None  # type: ignore[assignment]
    norm: np.ndarray = None  # type: ignore[assignment]
    gate_norm: np.ndarray = None  # type: ignore[assignment]
    top1: np.ndarray = None  # type: ignore[assignment]
    top1_exp_gate: np.ndarray = None  # type: ignore[assignment]
    easy_ep: np.ndarray = None  # type: ignore[assignment]
    gram: np.ndarray = None  # type: ignore[assignment]
    together: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) is None:
                shape = (*self.count.shape, self.experts) if f.name in PAIR_SUMS else self.count.shape
                setattr(self, f.name, np.full(shape, np.nan))

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> "LayerStats":
        """From what an observer adds up: [2, ``rows(experts)``, experts], SUMS first, then each of PAIR_SUMS.

        Sums that an observer could not see are NaN throughout.
        """
        single, pairs = np.split(sums, [len(SUMS)], axis=1)
        named = dict(zip(SUMS, single.swapaxes(0, 1))) | dict(zip(PAIR_SUMS, np.split(pairs, len(PAIR_SUMS), axis=1)))
        return cls(**{name: values + 0 * values.sum() for name, values in named.items()})  # one NaN makes all NaN

    @property
    def known(self) -> list[str]:
        """Names of the sums that are known."""
        return [f.name for f in fields(self) if not np.isnan(getattr(self, f.name)).all()]

    @property
    def experts(self) -> int:
        return self.count.shape[1]

    @property
    def square(self) -> np.ndarray:
        """Sum over X_j of g_j^2 ||f_j||_2^2 [2, experts]: the diagonal of ``gram``."""
        return np.diagonal(self.gram, axis1=1, axis2=2)

    def __add__(self, other: "LayerStats") -> "LayerStats":
        return LayerStats(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


_ADDED = ("segments", "prompt_tokens", "response_tokens", "seconds")
_TOLD = ("corpus", "sha256", "engine", "device", "dtype")  # told once where equal, else both


@dataclass(frozen=True)
class Routing:
    """What a model's router asks of a plan; see the properties of the same names in prune/checkpoint.py."""

    groups: int = 1
    topk_groups: int = 1
    group_floor: int = 1
    layer_floor: int = 1

    @classmethod
    def of(cls, model: MoeModel) -> "Routing":
        return cls(model.groups, model.topk_groups, model.group_floor, model.layer_floor)


@dataclass
class Stats:
    """Statistics of one model on one pair's text, or on several pairs' (``pair`` is then "en-de + de-en")."""

    layers: dict[int, LayerStats]
    model: str
    fingerprint: str  # of the checkpoint, see prune/checkpoint.py
    pair: str
    top_k: int
    calibration: dict  # corpus, its SHA-256, segments, tokens by role, seconds, device, dtype
    routing: Routing = field(default_factory=Routing)

    def __add__(self, other: "Stats") -> "Stats":
        """Statistics of both texts together.

        Raises:
            RequestError: of another model.
        """
        for name in ("fingerprint", "top_k"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise RequestError(f"Statistics of different {name} do not add up: {mine} and {theirs}.")
        if {i: s.experts for i, s in self.layers.items()} != {i: s.experts for i, s in other.layers.items()}:
            raise RequestError("Statistics of different layers or numbers of experts do not add up.")
        a, b = self.calibration, other.calibration
        about = a | b | {name: a.get(name, 0) + b.get(name, 0) for name in _ADDED}
        for name in _TOLD:
            if name in a and name in b and a[name] != b[name]:
                about[name] = f"{a[name]} + {b[name]}"
        layers = {i: layer + other.layers[i] for i, layer in self.layers.items()}
        pair = self.pair if other.pair in self.pair.split(" + ") else f"{self.pair} + {other.pair}"
        return replace(self, layers=layers, pair=pair, calibration=about)

    @property
    def known(self) -> list[str]:
        """Names of the sums that are known of every layer."""
        return [f.name for f in fields(LayerStats) if all(f.name in layer.known for layer in self.layers.values())]

    @staticmethod
    def check_output(path: Path) -> None:
        """Refuse a path where statistics would replace something else.

        Raises:
            RequestError: it is a folder, or another kind of file.
        """
        require_replaceable(path, "a statistics file", lambda file: _format_of(file).startswith("slimmoe-stats/"))

    def save(self, path: Path) -> None:
        """Write the file, in the place of older statistics.

        Raises:
            RequestError: see ``check_output``.
        """
        self.check_output(path)
        known = self.known
        tensors = {
            f"layer.{i}.{f.name}": np.ascontiguousarray(getattr(layer, f.name))
            for i, layer in self.layers.items()
            for f in fields(layer)
            if f.name in known
        }
        about = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("layers", "routing")}
        about["routing"] = asdict(self.routing)
        about["sums"] = known
        metadata = {"format": FORMAT, "about": json.dumps(about)}
        with new_file(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path) -> "Stats":
        """Read what ``save`` wrote.

        Raises:
            RequestError: no such file, not a statistics file, or one of an older format.
            WorkError: the file is damaged.
        """
        again = "slimmoe calibrate MODEL --pair en-de -o stats.safetensors"
        path = Path(path)
        if not path.is_file():
            raise RequestError(f"There is no statistics file {path}.", next_command=again)
        if not (known := _format_of(path)):
            raise RequestError(f"{path} is not a statistics file ({FORMAT}).", next_command=again)
        if known not in READABLE:
            raise RequestError(f"{path} holds {known}, not {FORMAT}: calibrate again.", next_command=again)
        try:
            about = parse_object(read_metadata(path)["about"].encode())
            if why := mismatch(about, _About, "what it says of itself"):
                raise ValueError(why)
            for pair in about["pair"].split(" + "):
                parse_pair(pair)
            names = about.pop("sums", None) or [*SUMS[:6], "gram"]
            with safe_open(path, "numpy") as file:
                layers = _read_layers(file, names, about["top_k"])
            told: dict[str, Any] = about | {"routing": Routing(**about["routing"])}
            return cls(layers, **told)
        except (SafetensorError, KeyError, ValueError, TypeError, RequestError) as error:
            reason = error.sentence.rstrip(".") if isinstance(error, RequestError) else error
            raise WorkError(f"{path} is damaged ({reason}); calibrate again.", next_command=again) from None


class _RoutingFields(TypedDict):
    groups: Positive
    topk_groups: Positive
    group_floor: Positive
    layer_floor: Positive


class _Calibration(TypedDict, total=False):
    corpus: str
    sha256: str
    segments: Count
    prompt_tokens: Count
    response_tokens: Count
    seconds: Amount


class _About(TypedDict):
    """What a file of statistics says of them, beside the sums."""

    model: str
    fingerprint: str
    pair: str
    top_k: Positive
    calibration: _Calibration
    routing: _RoutingFields
    sums: NotRequired[list[str]]


def _read_layers(file: Any, names: list[str], top_k: int) -> dict[int, LayerStats]:
    """The sums of an open file, all of them known, by layer.

    Raises:
        ValueError: sums of another shape, that are no numbers, or of fewer experts than a token goes to.
        KeyError: one is missing.
    """
    found: dict[int, LayerStats] = {}
    matches = {name: re.fullmatch(r"layer\.([0-9]{1,9})\.\w+", name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    if strange := [name for name, match in matches.items() if not match]:
        raise ValueError(f"{strange[0][:40]!r} is no sum of a layer")
    for layer in sorted({int(match[1]) for match in matches.values() if match}):
        experts = (file.get_slice(f"layer.{layer}.count").get_shape() or [0])[-1]
        if not top_k <= experts <= MOST_EXPERTS:
            raise ValueError(f"layer {layer} has {experts} experts, of which {top_k} get each token")
        sums: dict[str, np.ndarray] = {}
        for name in names:
            shape = [2, experts, experts] if name in PAIR_SUMS else [2, experts]
            if file.get_slice(f"layer.{layer}.{name}").get_shape() != shape:
                raise ValueError(f"{name} of layer {layer} has not the shape {shape}")
            sums[name] = file.get_tensor(f"layer.{layer}.{name}")
            if not np.isfinite(sums[name]).all() or (name in _NOT_NEGATIVE and (sums[name] < 0).any()):
                raise ValueError(f"{name} of layer {layer} holds what is no sum")
        found[layer] = LayerStats(**sums)
    if not found:
        raise ValueError("it has no layers")
    return found


def _format_of(path: Path) -> str:
    """The format that a safetensors file says it has, ``slimmoe-stats/2`` for instance; empty for other files."""
    try:
        return read_metadata(path).get("format", "")
    except WorkError:
        return ""
