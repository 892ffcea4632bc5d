"""A process of its own for llama.cpp's converter, which is a script: tell it what it does not know, run it, and start
llama.cpp with the result, since its code ends the process where it finds a number impossible.

``python converter_process.py SOURCE FOLDER OUTPUT OUTTYPE`` reads a JSON object with the fields of ``convert.Extra`` and
``prune.families.Gguf`` from standard input. It prints one line that begins with ``FOUND`` where the tokenizer needs the name
of a pre-tokenisation.
"""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOUND = "slimmoe: pre-tokenisation "
UNKNOWN_TOKENIZER = 3  # exit status
ENDS = ("eos", "eot", "eom")  # tokens of tokenizer.ggml at which llama.cpp stops: of a sequence, a turn, a message


def differences(config: dict[str, Any], fixed: dict[str, Any]) -> list[str]:
    """Sentences on the values of ``config`` that llama.cpp does not read and that are not what its code computes."""
    return [
        f"its config has {key} {config.get(key)!r}, and llama.cpp computes this family only with {expected!r}"
        for key, expected in fixed.items()
        if (bool(config.get(key)) if isinstance(expected, bool) else config.get(key) or expected) != expected
    ]


def _complete(config: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The config with what only transformers' code knows; ends the process where llama.cpp would compute another."""
    if extra["architecture"]:
        config["architectures"] = [extra["architecture"]]
    if isinstance(config.get("text_config"), dict):  # the converter lets these overrule the rest
        return config | {"text_config": _complete(config["text_config"], extra)}
    for sentence in differences(config, extra["fixed"]):
        sys.exit(f"{sentence}.")
    config = {key: value for key, value in (config | extra["overrides"]).items() if key not in extra["removed"]}
    for key, names in extra["values"].items():
        if isinstance(config.get(key), list):
            config[key] = [names.get(value, value) for value in config[key]]
    rope = config.get("rope_parameters") or {}
    if config.get("head_dim") and rope.get("partial_rotary_factor"):
        config.setdefault("rotary_dim", int(config["head_dim"] * rope["partial_rotary_factor"]))
    return extra["defaults"] | config


def _is_sentencepiece(path: Path) -> bool:
    """Whether a tokenizer.json is SentencePiece's BPE, which has bytes to fall back to."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"] if path.exists() else {}
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def _adapt_classes(folder: Path, extra: dict[str, Any]) -> None:
    """Some of the converter's classes know only the files of their first publisher, and may even run code of his."""
    import conversion  # type: ignore[reportMissingImports]
    from conversion.base import ModelBase  # type: ignore[reportMissingImports]
    from conversion.hunyuan import HunYuanModel, HunYuanMoEModel  # type: ignore[reportMissingImports]
    from conversion.mamba import Mamba2Model  # type: ignore[reportMissingImports]

    # Not imported by name: the constants above are read by code that does without it.
    transformers: Any = sys.modules["transformers"]
    load_tokenizer, load_class = transformers.AutoTokenizer.from_pretrained, conversion.get_model_class

    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        return load_tokenizer(*arguments, **options | {"trust_remote_code": False})

    def get_model_class(name: str, *arguments: Any, **options: Any) -> type[ModelBase]:
        known = {each.lower(): each for each in conversion.TEXT_MODEL_MAP}  # PhiMoE is Phimoe in transformers
        found = load_class(known.get(name.lower(), name), *arguments, **options)
        usual = found.set_vocab

        def set_vocab(self: Any) -> None:
            try:
                usual(self)
            except FileNotFoundError:  # of SentencePiece, or a tokenizer.json that does not split text as that does
                if _is_sentencepiece(folder / "tokenizer.json"):
                    self._set_vocab_llama_hf()
                else:
                    self._set_vocab_gpt2()

        found.set_vocab, found.no_mtp = set_vocab, found.no_mtp or extra["without_mtp"]
        return found

    make = Mamba2Model.__init__

    def make_completed(self: Any, folder: Path, *arguments: Any, **options: Any) -> None:
        if options.get("hparams") is None:  # it would read config.json by itself
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            options["hparams"] = _complete(config, extra)
        make(self, folder, *arguments, **options)

    Mamba2Model.__init__ = make_completed
    transformers.AutoTokenizer.from_pretrained = from_pretrained
    HunYuanMoEModel.set_vocab = HunYuanModel.set_vocab
    conversion.get_model_class = get_model_class


def _float_tensors(model: Any, folder: str) -> dict[str, Any]:
    """The tensors of a quantised checkpoint as the converter indexes those of another, each dequantised when it is read."""
    from conversion.base import LazyTorchTensor  # type: ignore[reportMissingImports]

    from prune.checkpoint import Checkpoint
    from prune.loading import LazyTensor

    checkpoint = Checkpoint(Path(folder))
    found = {}
    for name in checkpoint.floats:
        lazy = LazyTensor(checkpoint, name)
        kept = model.filter_tensors((name, lambda lazy=lazy: LazyTorchTensor.from_safetensors_slice(lazy)))
        if kept:
            found[kept[0]] = kept[1]
    return found


def main(source: str, folder: str, output: str, outtype: str, extra: dict[str, Any]) -> None:
    """Run the converter of ``source``; a failure ends the process with its reason as the last line."""
    sys.path[:1] = [source, f"{source}/gguf-py"]  # in the place of this file's folder
    sys.path.append(str(Path(__file__).parents[2]))  # this package, of which the process is run as a script
    from conversion.base import ModelBase, TextModel  # type: ignore[reportMissingImports]
    from gguf import GGUFValueType, Metadata

    known_pre_tokenizer, known_metadata = TextModel.get_vocab_base_pre, TextModel.prepare_metadata
    known_config, known_tensors = ModelBase.load_hparams, ModelBase.get_tensors
    known_index = ModelBase.index_tensors
    load_metadata = Metadata.load

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        if extra["pre"]:
            print(f"{FOUND}forced", flush=True)
            return extra["pre"]
        try:
            name = known_pre_tokenizer(self, tokenizer)  # by a hash over sample text: any new vocabulary is unknown
            print(f"{FOUND}known", flush=True)
        except NotImplementedError:
            name = extra["recognised"]
            if not name:
                sys.exit(UNKNOWN_TOKENIZER)
            print(f"{FOUND}recognised", flush=True)
        return name

    def load(*arguments: Any, **options: Any) -> Metadata:
        metadata = load_metadata(*arguments, **options)
        for name, value in extra["general"].items():
            setattr(metadata, name, value)
        return metadata

    def prepare_metadata(self: Any, *arguments: Any, **options: Any) -> None:
        known_metadata(self, *arguments, **options)
        for key, value in extra["keys"].items():
            kind = GGUFValueType.FLOAT64 if isinstance(value, float) else GGUFValueType.get_type(value)
            self.gguf_writer.add_key_value(key, value, kind)
        _add_ends(self.gguf_writer, extra["ends"])

    def load_hparams(*arguments: Any, **options: Any) -> dict[str, Any]:
        config = known_config(*arguments, **options)
        if extra["dequantised"]:
            config = {key: value for key, value in config.items() if key not in extra["dequantised"]}
        return _complete(config, extra)

    def index_tensors(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        return _float_tensors(self, folder) if extra["dequantised"] else known_index(self, *arguments, **options)

    def get_tensors(self: Any) -> Iterator[tuple[str, Any]]:
        tied = extra["separate_output"] and self.hparams.get("tie_word_embeddings")
        for name, tensor in known_tensors(self):
            if tied and name == "lm_head.weight":
                continue  # a stored copy, which transformers does not read either
            if extra["input_first"]:
                tensor = _input_first(name, tensor, self.hparams["hidden_size"])
            yield name, tensor
            if tied and name == "model.embed_tokens.weight":
                yield "lm_head.weight", tensor

    TextModel.get_vocab_base_pre, TextModel.prepare_metadata = get_vocab_base_pre, prepare_metadata
    ModelBase.load_hparams, ModelBase.get_tensors = staticmethod(load_hparams), get_tensors
    ModelBase.index_tensors = index_tensors
    _adapt_classes(Path(folder), extra)
    Metadata.load = staticmethod(load)
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", output, "--outtype", outtype]
    runpy.run_path(f"{source}/convert_hf_to_gguf.py", run_name="__main__")
    _start_llama_cpp(Path(output))


def _add_ends(writer: Any, ends: list[int]) -> None:
    """Write tokens that end an answer where the converter wrote none; it names some, by the family."""
    keys = [f"tokenizer.ggml.{end}_token_id" for end in ENDS]
    written = {key: value.value for values in writer.kv_data for key, value in values.items() if key in keys}
    further = [token for token in ends if token not in written.values()]
    for key, token in zip([key for key in keys if key not in written], further, strict=False):
        writer.add_uint32(key, token)


def _input_first(name: str, tensor: Any, hidden: int) -> Any:
    """Stacked experts [E, in, out], which transformers writes as [E, out, in]."""
    place = {"experts.gate_up_proj": 1, "experts.down_proj": 2}.get(".".join(name.split(".")[-2:]))
    return tensor.transpose(1, 2) if place and tensor.shape[place] != hidden else tensor


def _start_llama_cpp(file: Path) -> None:
    from runtime.engines.llama import LlamaEngine
    from runtime.errors import SlimmoeError

    try:
        engine = LlamaEngine(file, threads=1, context=32, mapped=True)
        engine.logits([0])
        engine.close()
    except SlimmoeError as error:
        sys.exit(error.sentence)


if __name__ == "__main__":
    _, where, model, result, plain = sys.argv
    main(where, model, result, plain, json.load(sys.stdin))
