"""llama.cpp's converter reads a folder as transformers does, whatever else lies in it and whatever its tokenizer is."""

import json
import shutil
from pathlib import Path

import pytest
from gguf import GGUFReader
from sentencepiece import SentencePieceProcessor

from export.gguf import export_gguf
from export.gguf.tokenizer import compare
from export.onnx import export_onnx
from export.verify import verify
from prune.conversations import read_conversations
from prune.tokenizer import read_tokenizer
from runtime.errors import RequestError
from runtime.formats.model_folder import INDEX, SINGLE
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from tests.tiny import VOCABULARY, train_sentencepiece, write_tiny_checkpoint

EN_DE = Pair("en", "de")


def weights_of(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize("kind", ["two sets", "shards below"])
def test_weights_are_those_that_transformers_loads(kind: str, tiny_checkpoint: Path, tmp_path) -> None:
    expected = weights_of(export_gguf(tiny_checkpoint, tmp_path / "plain.gguf", "BF16"))
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    if kind == "two sets":  # the single file counts, as another model's shards lie beside it
        from safetensors.torch import load_file, save_file

        whole = {name: value for shard in model.glob("*.safetensors") for name, value in load_file(shard).items()}
        save_file(whole, model / SINGLE, {"format": "pt"})
        other = write_tiny_checkpoint(tmp_path / "other", seed=1)
        for shard in other.glob("model-*.safetensors"):
            shutil.copy(shard, model)
    else:
        index = json.loads((model / INDEX).read_text())
        (model / "parts").mkdir()
        for shard in {*index["weight_map"].values()}:
            (model / shard).rename(model / "parts" / f"{shard[6:11]}.safetensors")
        index["weight_map"] = {key: f"parts/{shard[6:11]}.safetensors" for key, shard in index["weight_map"].items()}
        del index["weight_map"]["model.norm.weight"]  # transformers loads what a shard holds, named or not
        (model / INDEX).write_text(json.dumps(index))
    path = export_gguf(model, tmp_path / "model.gguf", "BF16")
    assert weights_of(path) == expected
    assert GGUFReader(path).fields["general.name"].contents() == "model"


def test_added_tokens_past_the_embedding_are_left_out_and_a_larger_vocabulary_is_refused(
    tiny_checkpoint: Path, tmp_path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    extra = {"content": "[PAD]", "special": True, "normalized": False} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip"), False
    )
    tokenizer["added_tokens"].append({"id": VOCABULARY} | extra)
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "[PAD]"}))
    fields = GGUFReader(export_gguf(model, tmp_path / "model.gguf", "BF16")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == VOCABULARY and "[PAD]" not in tokens
    config = json.loads((model / "config.json").read_text())
    small = write_tiny_checkpoint(tmp_path / "small", vocab_size=1000)
    with pytest.raises(RequestError, match=rf"up to {config['vocab_size'] - 1}, and an embedding of 1000"):
        export_gguf(small, tmp_path / "small.gguf", "BF16")
    assert not (tmp_path / "small.gguf").exists()


def test_a_larger_vocabulary_is_refused_for_onnx_too_and_added_tokens_past_the_embedding_are_not(
    tiny_checkpoint: Path, tmp_path
) -> None:
    nearly = write_tiny_checkpoint(tmp_path / "nearly", vocab_size=VOCABULARY - 1)
    for quant in ("none", "int4"):
        with pytest.raises(RequestError, match=rf"up to {VOCABULARY - 1}, and an embedding of {VOCABULARY - 1}"):
            export_onnx(nearly, tmp_path / "small", quant)
    assert not (tmp_path / "small").exists()
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][-1] | {"id": VOCABULARY, "content": "[PAD]"})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert verify(export_onnx(model, tmp_path / "onnx", "none"), model, Path("data/dev"), EN_DE).passed


@pytest.mark.slow
def test_a_tokenizer_of_sentencepiece_alone_goes_the_whole_way(tmp_path) -> None:
    segments = read_segments(Path("data/dev"), EN_DE)
    text = (line for segment in read_segments(Path("data/calibration"), EN_DE) for line in segment)
    model = write_tiny_checkpoint(tmp_path / "model", "mixtral", vocab_size=600)
    train_sentencepiece(model, text, 600)
    sentences = [source for source, _ in segments]
    own = SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    found = read_tokenizer(model)
    assert [found.encode(each, add_special_tokens=False).ids for each in sentences] == own.encode(sentences)
    assert read_conversations(model, segments, EN_DE)
    assert compare(export_gguf(model, tmp_path / "x.gguf", "F32"), model, sentences).different == 0
    assert (export_onnx(model, tmp_path / "onnx", "none") / "tokenizer.json").exists()


def test_a_list_of_tiktoken_is_refused_by_what_it_lacks(tiny_checkpoint: Path, tmp_path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    (model / "tokenizer.json").unlink()
    (model / "tiktoken.model").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(RequestError, match="tiktoken"):
        read_tokenizer(model)
