"""A process of its own for llama.cpp's converter, which is a script: tell it a tokenizer and add keys, then run it.

``python converter_process.py SOURCE FOLDER OUTPUT OUTTYPE KEYS``, KEYS being a JSON object of GGUF keys.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

# The pre-tokenisation of Qwen2's tokenizer.json, which llama.cpp implements under the name "qwen2".
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _splits_like_qwen2(tokenizer: dict[str, Any]) -> bool:
    """Whether everything that decides how text is cut, but the vocabulary itself, equals Qwen2's."""
    steps = (tokenizer.get("pre_tokenizer") or {}).get("pretokenizers", [])
    # trim_offsets moves character offsets, not tokens
    steps = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    model = tokenizer["model"]
    return (
        tokenizer.get("normalizer") == {"type": "NFC"}
        and steps
        == [
            {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]
        and model["type"] == "BPE"
        and not any(model.get(key) for key in ("ignore_merges", "byte_fallback", "dropout"))
    )


def main(source: str, folder: str, output: str, outtype: str, keys: dict[str, Any]) -> None:
    """Run the converter of ``source``; a failure ends the process with its reason as the last line."""
    sys.path[:1] = [source, f"{source}/gguf-py"]  # in the place of this file's folder
    from conversion.base import ModelBase, TextModel  # type: ignore[reportMissingImports]
    from gguf import GGUFValueType

    known_pre_tokenizer, known_metadata = TextModel.get_vocab_base_pre, ModelBase.prepare_metadata

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return known_pre_tokenizer(self, tokenizer)  # by a hash over sample text, so any new vocabulary is unknown
        except NotImplementedError:
            path = Path(folder) / "tokenizer.json"
            if path.exists() and _splits_like_qwen2(json.loads(path.read_text(encoding="utf-8"))):
                return "qwen2"
            sys.exit("its tokenizer is unknown to llama.cpp, and does not split text as Qwen2's does.")

    def prepare_metadata(self: Any, *arguments: Any, **options: Any) -> None:
        known_metadata(self, *arguments, **options)
        for key, value in keys.items():
            kind = GGUFValueType.FLOAT64 if isinstance(value, float) else GGUFValueType.get_type(value)
            self.gguf_writer.add_key_value(key, value, kind)

    TextModel.get_vocab_base_pre, ModelBase.prepare_metadata = get_vocab_base_pre, prepare_metadata
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", output, "--outtype", outtype]
    runpy.run_path(f"{source}/convert_hf_to_gguf.py", run_name="__main__")


if __name__ == "__main__":
    _, where, model, result, plain, metadata = sys.argv
    main(where, model, result, plain, json.loads(metadata))
