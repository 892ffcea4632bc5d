"""Every token that ends an answer stops stock llama.cpp and both engines, before a cut and after it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from export.gguf import export_gguf
from export.onnx import export_onnx
from prune.rewrite import prune
from runtime.engines.llama import LlamaEngine
from runtime.engines.onnx import OnnxEngine
from runtime.formats.gguf_file import GgufFile
from runtime.text.asked import read_asked
from runtime.text.pairs import Pair
from tests.prune.test_cut import plan_for
from tests.tiny import VOCABULARY, write_tiny_checkpoint

TURNS = "{% for m in messages %}<|user|>{{ m.content }}END\n{% endfor %}"
HARMONY = (Path(__file__).parents[1] / "templates" / "channels.jinja").read_text()


@dataclass(frozen=True)
class Ends:
    """A model's tokens: the first is the tokenizer's end; of ``stated`` generation_config.json says that they end."""

    tokens: tuple[str, ...]
    stated: tuple[str, ...]
    template: str
    keys: dict[str, str]  # of tokenizer.ggml
    goes_on: str  # a token that ends no answer


ENDS = {
    "gpt-oss": Ends(
        ("<|return|>", "<|endoftext|>", "<|call|>", "<|start|>", "<|message|>"),
        ("<|return|>", "<|endoftext|>", "<|call|>"),
        HARMONY,
        {"eos": "<|return|>", "eot": "<|endoftext|>", "eom": "<|call|>"},
        "<|message|>",
    ),
    "Gemma": Ends(
        ("<eos>", "<end_of_turn>"),
        ("<eos>", "<end_of_turn>"),
        TURNS.replace("END", "<end_of_turn>"),
        {"eos": "<eos>", "eot": "<end_of_turn>"},
        "<|assistant|>",
    ),
    "Llama": Ends(
        ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        TURNS.replace("END", "<|eot_id|>"),
        {"eos": "<|eot_id|>", "eot": "<|end_of_text|>", "eom": "<|eom_id|>"},
        "<|assistant|>",
    ),
    "names that llama.cpp does not know": Ends(
        ("<fin>", "<over>", "<halt>", "<go>"),
        ("<fin>", "<halt>"),
        TURNS.replace("END", "<over>"),
        {"eos": "<fin>", "eot": "<over>", "eom": "<halt>"},
        "<go>",
    ),
}


@pytest.fixture(scope="module", params=ENDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ends, Path, Any]:
    ends: Ends = ENDS[request.param]
    folder = write_tiny_checkpoint(
        tmp_path_factory.mktemp("ends") / "model", vocab_size=VOCABULARY + 16, num_hidden_layers=1
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ends.tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"eos_token": ends.tokens[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(ends.template)
    stated = {"eos_token_id": [tokenizer.token_to_id(text) for text in ends.stated]}
    (folder / "generation_config.json").write_text(json.dumps(stated))
    config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": tokenizer.token_to_id(ends.tokens[0])}
    (folder / "config.json").write_text(json.dumps(config))
    return ends, folder, tokenizer


def assert_stops(file: Path, ends: Ends, tokenizer: Any) -> None:
    found, ids = GgufFile(file), {text: tokenizer.token_to_id(text) for text in (*ends.tokens, ends.goes_on)}
    keys = {end: found.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom")}
    assert {end: number for end, number in keys.items() if number is not None} == {
        end: ids[text] for end, text in ends.keys.items()
    }
    engine = LlamaEngine(file, threads=1)
    assert all(engine.is_end(ids[text]) for text in (*ends.stated, *ends.keys.values()))
    assert not engine.is_end(ids[ends.goes_on])
    stock = engine._vocab.ends_sequence  # as any program on llama.cpp asks
    assert all(stock(ids[text]) for text in ends.keys.values()) and not stock(ids[ends.goes_on])
    if ends.template == HARMONY:  # what ends a thought there is no end of the answer
        assert not stock(tokenizer.token_to_id("<|end|>"))
    engine.close()


def test_a_gguf_file_names_every_end_and_keeps_it_when_it_is_cut(model: tuple[Ends, Path, Any], tmp_path: Path) -> None:
    ends, folder, tokenizer = model
    file, plan = export_gguf(folder, tmp_path / "model.gguf", "BF16"), plan_for(folder, [0, 1, 2])
    assert_stops(file, ends, tokenizer)
    assert_stops(prune(file, plan, tmp_path / "cut.gguf"), ends, tokenizer)
    assert {*ends.stated} <= {*read_asked(file, Pair("en", "de"), "x").stops}


def test_the_onnx_engine_stops_at_every_end_of_a_cut_checkpoint(model: tuple[Ends, Path, Any], tmp_path: Path) -> None:
    ends, folder, tokenizer = model
    cut = prune(folder, plan_for(folder, [0, 1, 2]), tmp_path / "cut")
    engine = OnnxEngine(export_onnx(cut, tmp_path / "onnx", "none"), threads=1)
    assert all(engine.is_end(tokenizer.token_to_id(text)) for text in (*ends.stated, *ends.keys.values()))
    assert not engine.is_end(tokenizer.token_to_id(ends.goes_on))
    engine.close()
