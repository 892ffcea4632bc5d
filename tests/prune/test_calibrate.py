import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from prune.calibrate import calibrate
from prune.conversations import batches, read_conversations
from prune.model import load_model
from runtime.corpus import read_segments
from runtime.errors import RequestError
from runtime.pairs import Pair

EN_DE = Pair("en", "de")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tsv"
    path.write_text(
        "The file is open.\tDie Datei ist geöffnet.\nHello.\tHallo.\nSave the page as a file\tSeite sichern\n"
    )
    return path


def test_statistics_equal_a_plain_loop_over_tokens_and_experts(tiny_checkpoint, corpus) -> None:
    """The definition, written out: for each token and chosen expert, that expert's own matrices."""
    stats, _ = calibrate(tiny_checkpoint, EN_DE, corpus, quiet=True)
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    expected = np.zeros((4, 2, 8))
    seen = {}
    module = model.get_submodule("model.layers.1.mlp.experts")
    with contextlib.closing(_Hook(module, seen)), torch.inference_mode():
        for conversation in read_conversations(tiny_checkpoint, read_segments(corpus, EN_DE), EN_DE):
            model(input_ids=torch.tensor([conversation.ids]))
            hidden, index, weights = seen["inputs"]
            for token in range(len(conversation.ids)):
                role = int(token >= conversation.prompt)
                for expert, gate in zip(index[token].tolist(), weights[token].tolist()):
                    a, b = (module.gate_up_proj[expert] @ hidden[token]).chunk(2)
                    norm = (module.down_proj[expert] @ (torch.nn.functional.silu(a) * b)).norm().item()
                    expected[:, role, expert] += (1, gate, norm, gate * norm)
    layer = stats.layers[1]
    got = np.stack([layer.count, layer.gate, layer.norm, layer.gate_norm])
    assert np.array_equal(got[0], expected[0])
    np.testing.assert_allclose(got, expected, rtol=1e-4)


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


def test_batches_hold_each_conversation_once_and_mark_its_response(tiny_checkpoint, corpus) -> None:
    conversations = read_conversations(tiny_checkpoint, read_segments(corpus, EN_DE), EN_DE)
    made = list(batches(conversations, 40))
    assert sum(len(batch.ids) for batch in made) == 3
    for batch in made:
        assert int(batch.response.sum()) > 0 and not (batch.response & ~batch.mask.bool()).any()


def test_a_missing_corpus_is_one_sentence(tiny_checkpoint, tmp_path) -> None:
    with pytest.raises(RequestError, match="no corpus file"):
        calibrate(tiny_checkpoint, EN_DE, tmp_path / "none.tsv", quiet=True)
