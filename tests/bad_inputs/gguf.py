"""GGUF files and importance matrices that are damaged or hostile."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

from tests.bad_inputs import NO_FILE, Damage, Table, cut, overwrite, sparse, write
from tests.bad_inputs.folders import bad_templates
from tests.gguf_files import ARCHITECTURE, T, array, entry, header, string, tensor, write_moe

BIG = 2**63 - 1
UINT32 = struct.pack("<I", 5)
DATA = bytes(128)
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "another format": (b"PK\3\4" + bytes(64), "not a GGUF file"),
    "version 1": (header([], [], version=1), "version 1"),
    "version 4": (header([], [], version=4), "version 4"),
    "version 0": (header([], [], version=0), "version 0"),
    "big-endian": (header([], [], version=3 << 24), "big-endian"),
    "more keys than bytes": (header([], [], counts=(0, 1000)), "cut short"),
    "more tensors than bytes": (header([], [], counts=(1000, 0)), "cut short"),
    "endless keys": (header([], [], counts=(0, BIG)), "claims to have"),
    "endless tensors": (header([], [], counts=(BIG, 0)), "claims to have"),
    "long key": (header([struct.pack("<Q", BIG)], []), "the name of a key"),
    "key that is no text": (header([entry(b"\xff\xfe", T.UINT32, UINT32)], []), "not UTF-8"),
    "key twice": (header([ARCHITECTURE, ARCHITECTURE], []), "twice"),
    "unknown value type": (header([entry("a", 13, UINT32)], []), "unknown type 13"),
    "unknown element type": (header([entry("a", T.ARRAY, array(99, 1, UINT32))], []), "unknown type 99"),
    "nested arrays": (header([entry("a", T.ARRAY, array(T.ARRAY, 1, array(T.UINT8, 1, b"x")))], []), "array of arrays"),
    "long string": (header([entry("a", T.STRING, struct.pack("<Q", BIG))], []), "cut short"),
    "long array": (header([entry("a", T.ARRAY, array(T.UINT64, BIG, b""))], []), "cut short"),
    "long array of strings": (header([entry("a", T.ARRAY, array(T.STRING, BIG, b""))], []), "cut short"),
    "overlong string in array": (
        header([entry("a", T.ARRAY, array(T.STRING, 1, struct.pack("<Q", BIG)))], []),
        "cut short",
    ),
    "alignment 0": (header([entry("general.alignment", T.UINT32, bytes(4))], []), "power of two"),
    "alignment 48": (header([entry("general.alignment", T.UINT32, struct.pack("<I", 48))], []), "power of two"),
    "alignment 2^31": (header([entry("general.alignment", T.UINT32, struct.pack("<I", 2**31))], []), "power of two"),
    "alignment in words": (header([entry("general.alignment", T.STRING, string("32"))], []), "not an integer"),
    "alignments": (header([entry("general.alignment", T.ARRAY, array(T.UINT32, 1, UINT32))], []), "not an integer"),
    "parts in words": (header([entry("split.count", T.STRING, string("2"))], []), "not an integer"),
    "five axes": (header([], [tensor("t", [1] * 5)]) + DATA, "5 axes"),
    "many axes": (header([], [string("t") + struct.pack("<I", 2**32 - 1)]), "4294967295 axes"),
    "unknown tensor type": (header([], [tensor("t", [32], kind=4)]) + DATA, "of type 4"),
    "half a block": (header([], [tensor("t", [48], kind=8)]) + DATA, "Q8_0 cannot have the shape"),
    "empty axis": (header([], [tensor("t", [4, 0])]) + DATA, "cannot have the shape"),
    "overflowing shape": (header([], [tensor("t", [2**32] * 4)]) + DATA, "ends beyond the file"),
    "offset past the end": (header([], [tensor("t", [8], offset=2**62)]) + DATA, "ends beyond the file"),
    "data cut short": (header([], [tensor("t", [33])]) + DATA, "ends beyond the file"),
    "unaligned": (header([], [tensor("t", [8], offset=8)]) + DATA, "not aligned"),
    "tensor twice": (header([], [tensor("t", [8]), tensor("t", [8], offset=32)]) + DATA, "twice"),
    "overlap": (header([], [tensor("a", [16]), tensor("b", [8], offset=32)]) + DATA, "'a' and 'b' overlap"),
    "tensor name of two lines": (header([], [tensor("a\nb", [8])]) + DATA, "holds control characters"),
    "long tensor name": (header([], [tensor("t" * 65, [8])]) + DATA, "has 65 bytes"),
    "tensor name that is no text": (header([], [tensor(b"\xff", [8])]) + DATA, "not UTF-8"),
}


ENDLESS_ARRAY = header([entry("a", T.ARRAY, array(T.UINT64, 2**26, b""))], [])
FILES = Table(
    "x.gguf",
    {
        "prune": "prune x.gguf --plan x-plan.json -o out/cut.gguf",
        "translate": "translate x.gguf Save. --pair en-de",
        "calibrate": "calibrate x.gguf --pair en-de --tokens 50 -o out/stats",
        "fit": "fit x.gguf --memory 8GiB",
        "prompt": "prompt x.gguf Save.",
    },
    NO_FILE
    | {kind: (write(data), sentence) for kind, (data, sentence) in WRONG.items()}
    | {
        "cut in half": cut(0.5),
        "cut in its header": cut(0.1),
        "an endless header": (sparse(ENDLESS_ARRAY, 1 << 34), "longer than 256 MiB"),
        "a value that is no text": write(header([entry("general.architecture", T.STRING, string(b"\xff"))], [])),
        "no architecture": write(header([], [])),
        "an architecture that is a number": write(header([entry("general.architecture", T.UINT32, UINT32)], [])),
        "a page of the web": write(b"<!DOCTYPE html>" + b" " * 4000),
        "noise in the header": overwrite(0.02, bytes(range(256))),
    },
    by_all=("a pipe", "endless", "cut in half", "another format", "version 1", "data cut short"),
    only={"an endless header": ("prune",)},
)


def metadata(**fields: Any) -> Damage:
    """Of a model with four groups of two experts, and with a layer of multi-token prediction."""
    usual = {"expert_group_count": 4, "expert_group_used_count": 2, "expert_gating_func": 2, "nextn_predict_layers": 1}

    def damage(path: Path) -> None:
        write_moe(path, {f"tiny.{name}": value for name, value in (usual | fields).items()})

    return damage


# For which llama.cpp would end the process.
NUMBERS = Table(
    "x.gguf",
    {
        "translate": "translate x.gguf Save. --pair en-de",
        "calibrate": "calibrate x.gguf --pair en-de -o out/stats",
        "fit": "fit x.gguf --memory 8GiB --vram 2GiB",
    },
    {
        f"{name}: {value}": (
            metadata(**{name: value}),
            rf"tiny\.{name}|no routed layers" if name != "expert_count" else "expert",
        )
        for name, value in [
            ("block_count", 0), ("block_count", 10**6), ("block_count", 10**9), ("expert_count", 0), ("expert_count", 1),
            ("expert_count", 2000),
            ("expert_used_count", 0), ("expert_used_count", 100), ("expert_used_count", None), ("nextn_predict_layers", 2),
            ("expert_group_count", 3), ("expert_group_count", 8), ("expert_group_used_count", 0),
            ("expert_group_used_count", 4), ("expert_group_used_count", 5), ("expert_gating_func", 7),
            ("attention.layer_norm_epsilon", float("nan")), ("rope.scaling.type", "x"), ("rope.scaling.type", 2),
            ("attention.head_count", 2**31), ("attention.head_count_kv", 2**31), ("attention.key_length", 2**31),
            ("attention.sliding_window", 2**31), ("embedding_length", 2**31), ("rope.dimension_count", 2**32 - 1),
        ]
    },
    crossed=True,
)  # fmt: skip


def tensors(change: dict[str, Any] | None = None, **extra: np.ndarray | None) -> Damage:
    """Of a model of two layers of 8 experts: tensors of the first one by their names without ``blk.0.`` and ``.weight``."""
    sizes = {"tiny.embedding_length": 32, "tiny.attention.head_count": 4}

    def damage(path: Path) -> None:
        named = {f"blk.0.{name}.weight": values for name, values in extra.items()}
        write_moe(path, sizes | (change or {}), named)

    return damage


def embedding(values: np.ndarray) -> Damage:
    return lambda path: write_moe(path, {"tiny.embedding_length": 32}, {"token_embd.weight": values})


NINE = np.zeros((9, 32), np.float32)
# One check of the header for every verb that reads the tensors.
TENSORS = Table(
    "x.gguf",
    {
        "fit": "fit x.gguf --memory 8GiB",
        "prune": "prune x.gguf --plan x-plan.json -o out/cut.gguf",
        "translate": "translate x.gguf Save. --pair en-de",
        "calibrate": "calibrate x.gguf --pair en-de --tokens 50 -o out/stats",
        "verify": "verify x.gguf --against y.gguf --pair en-de",
        "evaluate": "evaluate x.gguf --pair en-de",
        "bench": "bench x.gguf --pair en-de -o out/b.jsonl",
        "models add": "models add x.gguf",
    },
    {
        "a router of more experts": (tensors(ffn_gate_inp=NINE), r"\[9, 32\], .* 8 experts"),
        "a router of other inputs": (tensors(ffn_gate_inp=NINE[:8, :16]), r"\[8, 16\], .* 32 numbers"),
        "a router of one axis": (tensors(ffn_gate_inp=NINE[:8, 0]), r"has the shape"),
        "fewer experts than the router's": (
            tensors(ffn_up_exps=np.zeros((6, 4, 32), np.float16)),
            r"\[6, 4, 32\], .* 8 experts",
        ),
        "experts without a router": (tensors(ffn_gate_inp=None), "experts without a router"),
        "metadata of more experts": (tensors({"tiny.expert_count": 9}), r"\[8, 32\], .* 9 experts"),
        "metadata of no experts": (tensors({"tiny.expert_count": None, "tiny.expert_used_count": None}), " 0 experts"),
        "a layer after the last": (tensors({"tiny.block_count": 1}), "none of its 1 layers"),
        "embeddings of one axis": (embedding(np.zeros(512, np.float32)), "a row for each token"),
        "embeddings of fewer tokens": (embedding(np.zeros((15, 32), np.float32)), r"\[15, 32\], .* 16 tokens"),
        "embeddings of three axes": (embedding(np.zeros((2, 8, 32), np.float32)), "a row for each token"),
    },
    crossed=True,
)
DOWN = "blk.{}.ffn_down_exps.weight"
# Sparse files of 200 MB: what is read of them must not grow with what they claim to hold.
LARGE: dict[str, Damage | tuple[Damage, str]] = {
    "200 MB of numbers": (
        sparse(header([entry("imatrix.datasets", T.ARRAY, array(T.UINT32, 50_000_000, b""))], []), 200 << 20),
        "not an importance matrix",
    ),
    "200 MB of strings": (
        sparse(header([entry("imatrix.datasets", T.ARRAY, array(T.STRING, 26_000_000, b""))], []), 208 << 20),
        "claims to have 26000000 strings",
    ),
    "200 MB of sums": (
        sparse(
            header(
                [],
                [
                    tensor(f"{DOWN.format(0)}.in_sum2", [6_000_000, 8]),
                    tensor(f"{DOWN.format(0)}.counts", [1, 8], offset=192_000_000),
                ],
            ),
            200 << 20,
        ),
        "another model's",
    ),
}


def matrix(counts: dict[str, np.ndarray]) -> Damage:
    """``counts`` [experts, 1], float64 as float32, and as many rows of sums."""

    def damage(path: Path) -> None:
        writer = GGUFWriter(path, "")
        for name, values in counts.items():
            values = values.astype(np.float32) if values.dtype == np.float64 else values
            writer.add_tensor(f"{name}.in_sum2", np.ones((len(values), 4), np.float32))
            writer.add_tensor(f"{name}.counts", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return damage


def of_both_layers(values: np.ndarray) -> Damage:
    return matrix({DOWN.format(layer): values for layer in range(2)})


MATRICES = Table(
    "imatrix",
    {"calibrate": "calibrate x.gguf --pair en-de --imatrix imatrix -o out/stats"},
    NO_FILE
    | LARGE
    | {kind: write(data) for kind, (data, _) in [*WRONG.items()][::6]}
    | {
        "a model": lambda path: write_moe(path),
        "the older format": (write((2).to_bytes(4, "little") + bytes(100)), "GGUF format"),
        "of a dense model": (
            matrix({"blk.0.ffn_down.weight": np.ones((1, 1))}),
            "not an importance matrix of a mixture",
        ),
        "of other layers": (matrix({DOWN.format(0): np.ones((8, 1))}), "another model's"),
        "of other experts": (of_both_layers(np.ones((6, 1))), "another model's"),
        "not numbers": (of_both_layers(np.full((8, 1), np.nan)), "damaged"),
        "infinite": (of_both_layers(np.full((8, 1), np.inf)), "damaged"),
        "negative": (of_both_layers(np.full((8, 1), -1.0)), "damaged"),
        "nothing counted": (of_both_layers(np.zeros((8, 1))), "damaged"),
        "int8": (of_both_layers(np.ones((8, 1), np.int8)), "not in float32"),
        "float16": (of_both_layers(np.ones((8, 2), np.float16)), "not in float32"),
    },
)


def templated(value: Any) -> Damage:
    return lambda path: write_moe(path, {"tokenizer.chat_template": value})


TEMPLATES = Table(
    "x.gguf",
    {"prompt": "prompt x.gguf Save."},
    bad_templates(templated)
    | {
        "a number": (templated(5), "it is no text"),
        "a list": (templated(["x"]), "it is no text"),
        "tokens that are a number": (lambda path: write_moe(path, {"tokenizer.ggml.tokens": 5}), "is no list"),
        "kinds of tokens that are text": (
            lambda path: write_moe(path, {"tokenizer.ggml.token_type": "x"}),
            "is no list",
        ),
    },
)
TABLES = {
    "gguf templates": TEMPLATES,
    "gguf": FILES,
    "hyperparameters": NUMBERS,
    "tensors": TENSORS,
    "imatrix": MATRICES,
}
