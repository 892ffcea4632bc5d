"""Router and expert statistics of a calibration run: sums over tokens, so that shards of a corpus add up."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prune.moe_model import MoeModel
from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, require_replaceable
from runtime.formats.safetensors import read_metadata

FORMAT = "slimmoe-stats/2"
ROLES = ("prompt", "response")  # the two rows of every sum
SUMS = ("count", "gate", "norm", "gate_norm", "top1", "top1_exp_gate")  # [2, experts] each; with them goes ``gram``


@dataclass
class LayerStats:
    """Sums over the tokens of one layer, float64 [2, experts], ``gram`` [2, experts, experts]; the first axis is ROLES.

    Notation: X_j are the tokens whose top-k holds expert j, g_j a token's gate weight, f_j the expert's output for it.

    ``count`` N_j = |X_j|; ``gate`` sum of g_j; ``norm`` sum of ||f_j||_2; ``gate_norm`` sum of g_j ||f_j||_2, over X_j.
    ``top1`` number of tokens whose largest gate weight is j's; ``top1_exp_gate`` sum of exp(g_j) over those tokens
    (for the importance of Koishekenov et al., arXiv 2212.09811).
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
    gram: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) is None:
                shape = (*self.count.shape, self.experts) if f.name == "gram" else self.count.shape
                setattr(self, f.name, np.full(shape, np.nan))

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> "LayerStats":
        """From what an observer adds up: [2, len(SUMS) + experts, experts], ``gram`` in the rows after the first ones."""
        return cls(**{name: sums[:, i] for i, name in enumerate(SUMS)}, gram=sums[:, len(SUMS) :])

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
        if known != FORMAT:
            raise RequestError(f"{path} holds {known}, not {FORMAT}: calibrate again.", next_command=again)
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            about = json.loads(metadata["about"])
            names = about.pop("sums", None) or [f.name for f in fields(LayerStats)]
            ids = sorted({int(name.split(".")[1]) for name in tensors})
            layers = {i: LayerStats(**{name: tensors[f"layer.{i}.{name}"] for name in names}) for i in ids}
            return cls(layers, **about | {"routing": Routing(**about["routing"])})
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise WorkError(f"{path} is damaged ({error}); calibrate again.", next_command=again) from None


def _format_of(path: Path) -> str:
    """The format that a safetensors file says it has, ``slimmoe-stats/2`` for instance; empty for other files."""
    try:
        return read_metadata(path).get("format", "")
    except WorkError:
        return ""
