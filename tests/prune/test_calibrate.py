import contextlib
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import prune.calibrate.observe
from prune.batches import batches
from prune.calibrate.from_checkpoint import calibrate
from prune.calibrate.stats import PAIR_SUMS, SUMS
from prune.checkpoint import Checkpoint
from prune.conversations import Conversation, make_conversations, read_conversations
from prune.loading import load_model
from runtime.errors import RequestError, SlimmoeError
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from tests.tiny import VOCABULARY

EN_DE = Pair("en", "de")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tsv"
    path.write_text(
        "The file is open.\tDie Datei ist geöffnet.\nHello.\tHallo.\nSave the page as a file\tSeite sichern\n"
    )
    return path


def test_statistics_equal_a_plain_loop_over_tokens_and_experts(tiny_checkpoint, corpus) -> None:
    """The definitions, written out: for each token and chosen expert, that expert's own matrices."""
    stats, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    expected = {name: np.zeros((2, 8)) for name in SUMS} | {name: np.zeros((2, 8, 8)) for name in PAIR_SUMS}
    seen, norms = {}, {}
    module = model.get_submodule("model.layers.1.mlp.experts")
    before_norm = _Hook(model.get_submodule("model.layers.1.post_attention_layernorm"), norms)
    with contextlib.closing(_Hook(module, seen)), contextlib.closing(before_norm), torch.inference_mode():
        for conversation in read_conversations(tiny_checkpoint, read_segments(corpus, EN_DE), EN_DE):
            model(input_ids=torch.tensor([conversation.ids]))
            hidden, index, weights = seen["inputs"]
            before, after = norms["inputs"][0][0], norms["inputs"][0][0] + module(hidden, index, weights)
            for token in range(len(conversation.ids)):
                turn = 1 - torch.nn.functional.cosine_similarity(before[token], after[token], dim=0).item()
                role, terms = int(token >= conversation.prompt), {}
                best = index[token][weights[token].argmax()].item()
                for expert, gate in zip(index[token].tolist(), weights[token].tolist()):
                    a, b = (module.gate_up_proj[expert] @ hidden[token]).chunk(2)
                    output = module.down_proj[expert] @ (torch.nn.functional.silu(a) * b)
                    norm = output.norm().item()
                    values = {"count": 1, "gate": gate, "norm": norm, "gate_norm": gate * norm}
                    values |= {"easy_ep": gate * norm * turn}
                    values |= {"top1": expert == best, "top1_exp_gate": (expert == best) * math.exp(gate)}
                    for name, value in values.items():
                        expected[name][role, expert] += value
                    terms[expert] = gate * output
                for i, j in itertools.product(terms, terms):
                    expected["gram"][role, i, j] += (terms[i] @ terms[j]).item()
                    expected["together"][role, i, j] += 1
    layer = stats.layers[1]
    assert np.array_equal(layer.count, expected["count"]) and np.array_equal(layer.top1, expected["top1"])
    for name, sums in expected.items():
        np.testing.assert_allclose(getattr(layer, name), sums, rtol=1e-4, atol=1e-4 * np.abs(sums).max(), err_msg=name)


def test_gram_is_the_error_of_leaving_experts_out(tiny_checkpoint, corpus) -> None:
    """Measured on the layer itself, the gate weights of three experts set to zero."""
    stats, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    dropped, seen, error = torch.tensor([0, 3, 5]), {}, 0.0
    module = model.get_submodule("model.layers.0.mlp.experts")
    for conversation in read_conversations(tiny_checkpoint, read_segments(corpus, EN_DE), EN_DE):
        with contextlib.closing(_Hook(module, seen)), torch.inference_mode():
            model(input_ids=torch.tensor([conversation.ids]))
        hidden, index, weights = seen["inputs"]
        with torch.inference_mode():
            without = module(hidden, index, weights.masked_fill(torch.isin(index, dropped), 0))
            error += (module(hidden, index, weights) - without).square().sum().item()
    d = np.isin(np.arange(8), dropped)
    assert d @ stats.layers[0].gram.sum(0) @ d == pytest.approx(error, rel=1e-4)
    assert error > 0


@pytest.mark.parametrize("row_bytes", [1, 1 << 30], ids=["token by token", "at once"])
def test_an_observed_model_computes_what_it_did(row_bytes: int, tiny_checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(prune.calibrate.observe, "ROW_BYTES", row_bytes)
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float64)
    batch = next(batches([Conversation([*range(5, 25)], 8)], 100))
    with torch.inference_mode():
        plain = model(input_ids=batch.ids).logits
        with prune.calibrate.observe.Observer(model, Checkpoint(tiny_checkpoint), torch.device("cpu")) as observer:
            observer.begin(batch)
            observed = model(input_ids=batch.ids).logits
        again = model(input_ids=batch.ids).logits
    assert (plain - observed).abs().max() <= 1e-5 and torch.equal(plain, again)
    assert observer.sums[0][:, 0].sum(1).tolist() == [16, 24]  # top-2


class _Hook:
    def __init__(self, module: torch.nn.Module, seen: dict) -> None:
        self.handle = module.register_forward_pre_hook(lambda _, args: seen.update(inputs=args))

    def close(self) -> None:
        self.handle.remove()


def test_every_token_of_a_conversation_counts_once_in_its_role(tiny_checkpoint, corpus) -> None:
    stats, device = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    used = stats.calibration
    for layer in stats.layers.values():
        assert layer.count[0].sum() == 2 * used["prompt_tokens"]  # top-2
        assert layer.count[1].sum() == 2 * used["response_tokens"]
        assert layer.gate.sum() == pytest.approx(used["prompt_tokens"] + used["response_tokens"], rel=1e-5)
    assert "(" in device  # the reason


def test_a_token_limit_stops_early(tiny_checkpoint, corpus) -> None:
    stats, _ = calibrate(tiny_checkpoint, EN_DE, corpus, limit=1, quiet=True)
    assert stats.calibration["segments"] == 1


def test_of_a_large_corpus_no_more_is_tokenised_than_the_limit_takes(tiny_checkpoint) -> None:
    segments, read = [(f"Save the file {i}.", f"Datei {i} sichern.") for i in range(20_000)], []

    def encode(texts: list[str]) -> list[list[int]]:
        read.extend(texts)
        return [[1] * len(text) for text in texts]

    template = ChatTemplate.from_folder(tiny_checkpoint)
    whole = make_conversations(template, encode, segments, EN_DE)
    assert len(whole) == 20_000
    read.clear()
    some = make_conversations(template, encode, segments, EN_DE, limit=500)
    tokens = [len(conversation.ids) for conversation in some]
    assert some == whole[: len(some)] and sum(tokens) >= 500 > sum(tokens[:-1])
    assert len(read) < 20_000  # of two texts for each segment


def test_batches_hold_each_conversation_once_and_mark_its_response(tiny_checkpoint, corpus) -> None:
    conversations = read_conversations(tiny_checkpoint, read_segments(corpus, EN_DE), EN_DE)
    made = list(batches(conversations, 40))
    assert sum(len(batch.ids) for batch in made) == 3
    for batch in made:
        assert int(batch.response.sum()) > 0 and not (batch.response & ~batch.mask.bool()).any()


def test_conversations_that_are_too_long_are_left_out_and_named(tiny_checkpoint, caplog) -> None:
    segments = [("Save the file. " * 400, "Sichern. ")] * 99 + [("Hello.", "Hallo.")]
    assert len(read_conversations(tiny_checkpoint, segments, EN_DE)) == 1
    said = caplog.text
    assert "99 of 100 segments have more than 512 tokens with their prompt and are left out: segments 1, 2" in said
    with pytest.raises(RequestError, match="No segment of the corpus fits into 512 tokens"):
        read_conversations(tiny_checkpoint, segments[:9], EN_DE)


@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["somebody/some-kernel", "nonsense", {"": "somebody/some-kernel"}])
def test_no_kernel_that_a_config_names_is_loaded(key: str, value, tiny_checkpoint, corpus, tmp_path) -> None:
    """transformers would fetch it from the hub and run its code."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    expected, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    for stream in (False, True):
        found, _ = calibrate(folder, EN_DE, corpus, quiet=True, stream=stream)
        for layer, sums in expected.layers.items():
            np.testing.assert_allclose(found.layers[layer].count, sums.count)
            np.testing.assert_allclose(found.layers[layer].gate, sums.gate, rtol=1e-4)


def test_a_missing_corpus_is_one_sentence(tiny_checkpoint, tmp_path) -> None:
    with pytest.raises(RequestError, match="no corpus file"):
        calibrate(tiny_checkpoint, EN_DE, tmp_path / "none.tsv", quiet=True)


def test_another_model_s_tokenizer_is_one_sentence(tiny_checkpoint, corpus, tmp_path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(SlimmoeError, match=rf"vocab_size is 100, and .* has {VOCABULARY} rows"):
        calibrate(folder, EN_DE, corpus, quiet=True)
