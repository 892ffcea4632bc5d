"""What a model thinks is no part of its answer, in either engine, and would be seen if it were."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime.engines import open_engine
from runtime.engines.decoding import Stepper, first_of_thoughts
from runtime.text import thinking
from runtime.text.pairs import Pair
from runtime.text.prompt_templates import DEFAULT
from runtime.text.prompts import ChatTemplate
from runtime.text.thinking import Thought, thoughts, without_thoughts
from runtime.translate.segments import translate
from tests.tiny import VOCABULARY, write_tiny_checkpoint

EN_DE = Pair("en", "de")
END = "\x00"


class Letters(Stepper):
    """An engine whose tokens are characters. It thinks on and on, until its thought is closed; then it answers."""

    context, template = 4096, ChatTemplate("")

    def __init__(self, thought: Thought, answer: str) -> None:
        self.thought, self.answer, self.text = thought, answer, ""
        self.first_of_thoughts = first_of_thoughts(self.encode)

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    show = decode

    def is_end(self, token: int) -> bool:
        return chr(token) == END

    def _logits(self) -> np.ndarray:
        said = self.text.partition("Q:")[2]
        closed = said.find(self.thought.close, len(self.thought.open)) if self.thought.close else 0
        if len(said) < len(self.thought.open):
            following = self.thought.open[len(said)]
        elif closed < 0:
            following = "hmm "[len(said) % 4]
        else:
            begun = said.startswith(self.thought.open)
            rest = said[closed + len(self.thought.close) if self.thought.close else len(self.thought.open) * begun :]
            following = (self.answer + 100 * END)[len(rest)]
        row = np.zeros(0x3000, np.float32)
        row[ord(following)] = 1
        return row

    def prefill(self, token_ids: Sequence[int], room: int) -> np.ndarray:
        self.text = self.decode(token_ids)
        return self._logits()

    def step(self, token: int, length: int) -> np.ndarray:
        self.text += chr(token)
        assert length == len(self.text)
        return self._logits()


@pytest.mark.parametrize("thought", thoughts(), ids=lambda thought: thought.open)
def test_every_kind_of_thought_is_closed_and_left_out(thought: Thought) -> None:
    engine = Letters(thought, "Hallo Welt")
    prompt = engine.encode("Q:")
    found = engine.generate(prompt, 60)
    assert (found.text, found.finished) == ("Hallo Welt", True)
    seen = engine.generate(prompt, 60, stop=False).text
    assert seen.startswith(thought.open) and ("hmm" in seen or not thought.end)


def test_a_model_that_only_thinks_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Letters(replace(thoughts()[0], close="never"), "Hallo")
    monkeypatch.setattr(engine, "_logits", lambda: _one_hot((engine.text.rpartition("Q:")[2], "<think>")))
    found = engine.generate(engine.encode("Q:"), 500)
    assert (found.text, found.finished) == ("", False)


def _one_hot(state: tuple[str, str]) -> np.ndarray:
    said, mark = state
    begun = next((i for i in range(len(mark) - 1, 0, -1) if said.endswith(mark[:i])), 0)
    row = np.zeros(0x3000, np.float32)
    row[ord(mark[begun])] = 1
    return row


def test_marks_that_the_source_has_are_text() -> None:
    engine = Letters(thoughts()[0], "x")
    found = engine.generate(engine.encode("Q:"), 12, source="Write <think> first.")
    assert found.text.startswith("<think>")
    assert without_thoughts("Schreib <think> zuerst.", "Write <think> first.") == "Schreib <think> zuerst."
    for answer in ("<think>a\nb</think>\n\nHallo", "a\nb</think>Hallo", "Hallo<think>a", "<thought>a</thought>Hallo"):
        assert without_thoughts(answer).strip() == "Hallo"


def test_a_repetition_penalty_lowers_what_came_before() -> None:
    class Stutters(Letters):
        def _logits(self) -> np.ndarray:
            row = np.full(256, -9.0, np.float32)
            row[[ord("a"), ord("b"), ord("c")]] = 1.0, 0.97, -0.1
            return row

    engine = Stutters(thoughts()[0], "")
    engine.template = ChatTemplate("", asking=replace(DEFAULT, repetition_penalty=1.05))
    assert engine.generate(engine.encode("Q:"), 4).text == "abaa"
    engine.template = ChatTemplate("")
    assert engine.generate(engine.encode("Q:"), 4).text == "aaaa"


CHAIN = {  # what follows each token, whatever came before: it thinks first, and answers after its thought or a line break
    "<|assistant|>": "<think>", "<think>": "image", "image": "</think>", "</think>": "file", "\n": "file",
    "\n\n": "file", "file": "list", "list": "<|turn|>", "<|turn|>": "image",
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ ('<|turn|>' if m.role == 'assistant' else '') }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_chain(folder: Path) -> Path:
    """A Qwen3-MoE that writes CHAIN: its layers add nothing, and its head has a row for each token that follows one.

    ``<|turn|>``, the template's end of turn, is not what config.json calls the end of a sequence.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import AutoModelForCausalLM

    write_tiny_checkpoint(folder, vocab_size=VOCABULARY + 64, tie_word_embeddings=False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<|turn|>", normalized=False, special=True)])
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in {*CHAIN, *CHAIN.values()}}
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj")):
                weights.zero_()
        shape = model.model.embed_tokens.weight.shape
        embedded = torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(1)), dim=1)
        model.model.embed_tokens.weight.copy_(embedded)
        model.lm_head.weight.zero_()
        for text, following in CHAIN.items():
            model.lm_head.weight[ids[following][0]] += embedded[ids[text][-1]]
    for each in folder.glob("model*"):
        each.unlink()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.gguf import export_gguf
    from export.onnx import export_onnx

    folder = tmp_path_factory.mktemp("chain")
    write_chain(folder / "model")
    if request.param == "onnx":
        return export_onnx(folder / "model", folder / "onnx", "none")
    return export_gguf(folder / "model", folder / "model.gguf", "F32")


def test_a_model_that_always_thinks_is_heard_only_where_it_answers(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(chain, threads=1)
    texts = ["Save the file.", "Say <think>!"]
    heard = [each.text for each in translate(engine, EN_DE, texts[:1])]
    assert heard == ["filelist"]
    assert all(each.generation and each.generation.finished for each in translate(engine, EN_DE, texts[:1]))
    monkeypatch.setattr(thinking, "thoughts", lambda: ())  # without what is known of thoughts it would be seen
    assert "image" in next(translate(engine, EN_DE, texts)).text
    engine.close()


def test_the_template_s_end_of_turn_stops_both_engines(chain: Path) -> None:
    engine = open_engine(chain, threads=1)
    ids = engine.encode("file")
    assert engine.generate(ids, 20).finished and not engine.generate(ids, 20, stop=False).finished
    engine.close()


def test_a_line_stays_a_line_and_a_special_token_stays_text(chain: Path) -> None:
    engine = open_engine(chain, threads=1)
    special = Path(__file__).parents[1] / "data" / "special_tokens.txt"
    for line in [*special.read_text(encoding="utf-8").splitlines(), "Use <|turn|> and <|user|> to end."]:
        prompt = engine.template.prompt(EN_DE, line)
        ids = engine.encode(prompt)
        assert engine.decode(ids).count("Translate") == 1 and line in engine.decode(ids)
        assert engine.encode(str(prompt)) != ids or "<|turn|>" not in line
    engine.close()
