"""GGUF files made by hand, whole or wrong: every field of the header can be given as any bytes."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType, GGUFWriter

T = GGUFValueType


def string(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def tensor(name: str | bytes, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    """``shape`` innermost axis first, as the file has it."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = entry("general.architecture", T.STRING, string("tiny"))


def header(
    entries: list[bytes],
    tensors: list[bytes],
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensors_said, keys_said = counts or (len(tensors), len(entries))
    data = magic + struct.pack("<IQQ", version, tensors_said, keys_said) + b"".join(entries + tensors)
    return data + bytes(-len(data) % 32)


def write_moe(
    path: Path,
    change: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray | None] | None = None,
    parts: int = 1,
    layers: int = 2,
    architecture: str = "tiny",
) -> Path:
    """A small MoE of 8 experts by the gguf package's own writer, in one file or several; returns the (first) file.

    Args:
        change: metadata that replaces or adds to the usual; None leaves a key out.
        extra: tensors that replace or add to the usual; None leaves one out.
    """
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray | None] = {"token_embd.weight": rng.random((16, 32), np.float32)}
    for layer in range(layers):
        at = f"blk.{layer}."
        tensors[at + "attn_norm.weight"] = rng.random(32, np.float32)
        tensors[at + "ffn_gate_inp.weight"] = rng.random((8, 32), np.float32)
        for name in ("gate", "up", "down"):
            tensors[at + f"ffn_{name}_exps.weight"] = rng.random((8, 4, 32), np.float32).astype(np.float16)
    metadata: dict[str, Any] = {
        f"{architecture}.block_count": layers, f"{architecture}.expert_count": 8, f"{architecture}.expert_used_count": 2,
        "tokenizer.ggml.tokens": ["a", "b", "ü", *"cdefghijklmno"], f"{architecture}.rope.freq_base": 10000.0,
    }  # fmt: skip
    metadata |= change or {}
    writer = GGUFWriter(path, architecture, split_max_tensors=0 if parts == 1 else -(-len(tensors) // parts))
    for key, value in metadata.items():
        if value is not None:
            kind = T.UINT32 if type(value) is int and value >= 0 else T.get_type(value)
            sub = T.UINT32 if isinstance(value, list) and isinstance(value[0], int) else None
            writer.add_key_value(key, value, kind, sub_type=sub)
    for name, values in (tensors | (extra or {})).items():
        if values is not None:
            writer.add_tensor(name, values)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if parts == 1 else path.with_name(f"{path.stem}-00001-of-{parts:05}.gguf")
