"""A process of its own for llama.cpp's converter, which is a script: tell it what it does not know, then run it.

``python converter_process.py SOURCE FOLDER OUTPUT OUTTYPE EXTRA``, EXTRA being a JSON object of ``keys`` (GGUF keys to
add), ``defaults`` and ``fixed`` (see ``prune.families.Gguf``).
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


def _complete(config: dict[str, Any], defaults: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """The config with what only transformers' code knows; ends the process where llama.cpp would compute another."""
    for key, expected in fixed.items():
        value = config.get(key)
        if (bool(value) if isinstance(expected, bool) else value or expected) != expected:
            sys.exit(f"its config has {key} {value!r}, and llama.cpp computes this family only with {expected!r}.")
    rope = config.get("rope_parameters") or {}
    if config.get("head_dim") and rope.get("partial_rotary_factor"):
        config.setdefault("rotary_dim", int(config["head_dim"] * rope["partial_rotary_factor"]))
    return defaults | config


def _let_every_class_read_transformers_folders(folder: Path) -> None:
    """Some of the converter's classes know only the files of their first publisher, and may even run code of his."""
    import conversion  # type: ignore[reportMissingImports]
    import transformers
    from conversion.base import ModelBase, TextModel  # type: ignore[reportMissingImports]
    from conversion.hunyuan import HunYuanModel, HunYuanMoEModel  # type: ignore[reportMissingImports]

    load_tokenizer, sentencepiece = transformers.AutoTokenizer.from_pretrained, TextModel._set_vocab_sentencepiece
    load_class = conversion.get_model_class

    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        return load_tokenizer(*arguments, **options | {"trust_remote_code": False})

    def set_vocab_sentencepiece(self: Any, *arguments: Any, **options: Any) -> None:
        if (folder / "tokenizer.model").exists():
            sentencepiece(self, *arguments, **options)
        else:
            self._set_vocab_gpt2()

    def get_model_class(name: str, *arguments: Any, **options: Any) -> type[ModelBase]:
        known = {each.lower(): each for each in conversion.TEXT_MODEL_MAP}  # PhiMoE is Phimoe in transformers
        return load_class(known.get(name.lower(), name), *arguments, **options)

    transformers.AutoTokenizer.from_pretrained = from_pretrained
    TextModel._set_vocab_sentencepiece = set_vocab_sentencepiece
    HunYuanMoEModel.set_vocab = HunYuanModel.set_vocab
    conversion.get_model_class = get_model_class


def main(source: str, folder: str, output: str, outtype: str, extra: dict[str, dict[str, Any]]) -> None:
    """Run the converter of ``source``; a failure ends the process with its reason as the last line."""
    sys.path[:1] = [source, f"{source}/gguf-py"]  # in the place of this file's folder
    from conversion.base import ModelBase, TextModel  # type: ignore[reportMissingImports]
    from gguf import GGUFValueType

    known_pre_tokenizer, known_metadata = TextModel.get_vocab_base_pre, ModelBase.prepare_metadata
    known_config = ModelBase.load_hparams

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
        for key, value in extra["keys"].items():
            kind = GGUFValueType.FLOAT64 if isinstance(value, float) else GGUFValueType.get_type(value)
            self.gguf_writer.add_key_value(key, value, kind)

    def load_hparams(*arguments: Any, **options: Any) -> dict[str, Any]:
        return _complete(known_config(*arguments, **options), extra["defaults"], extra["fixed"])

    TextModel.get_vocab_base_pre, ModelBase.prepare_metadata = get_vocab_base_pre, prepare_metadata
    ModelBase.load_hparams = staticmethod(load_hparams)
    _let_every_class_read_transformers_folders(Path(folder))
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", output, "--outtype", outtype]
    runpy.run_path(f"{source}/convert_hf_to_gguf.py", run_name="__main__")


if __name__ == "__main__":
    _, where, model, result, plain, metadata = sys.argv
    main(where, model, result, plain, json.loads(metadata))
