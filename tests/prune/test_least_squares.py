"""Recovery in closed form: the equations against torch's own solver, and the hidden states against the unpruned model's."""

from pathlib import Path

import pytest
import torch

from prune.batches import Batch, batches
from prune.checkpoint import Checkpoint
from prune.conversations import read_conversations
from prune.loading import load_model
from prune.recovery.equations import Equations
from prune.recovery.least_squares import refit
from prune.recovery.recover import recover
from prune.recovery.settings import Settings
from prune.rewrite import prune
from runtime.errors import RequestError
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from tests.prune.test_cut import plan_for
from tests.tiny import VOCABULARY, write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
EN_DE = Pair("en", "de")
LEAST_SQUARES = Settings(method="least-squares", batch_tokens=512)


def text(folder: Path, name: str, tokens: int) -> list[Batch]:
    segments = read_segments(ROOT / "runtime/text/data" / name, EN_DE)
    return list(batches(read_conversations(folder, segments, EN_DE), tokens))


@torch.inference_mode()
def hidden_states(folder: Path, given: list[Batch], refitted: dict[int, torch.Tensor] | None = None) -> torch.Tensor:
    """The last layer's hidden states of all real tokens, each scaled to a mean square of 1."""
    model, checkpoint = load_model(folder, CPU, torch.float32), Checkpoint(folder)
    for layer, down in (refitted or {}).items():
        model.get_submodule(checkpoint.module("experts", layer)).down_proj.data.copy_(down)
    found = []
    for batch in given:
        hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)[0]
        found.append(hidden[batch.mask.bool()])
    return torch.cat(found)


def test_the_equations_have_the_solution_of_the_dense_problem() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, experts, k, size, width = 200, 5, 2, 4, 3
    inputs = torch.randn(tokens, k, size, generator=generator)
    index = torch.rand(tokens, experts, generator=generator).topk(k).indices
    lacking = torch.randn(tokens, width, generator=generator)
    dense = torch.zeros(tokens, experts, size)
    dense.scatter_(1, index[..., None].expand(-1, -1, size), inputs)
    dense = dense.view(tokens, -1)
    equations = Equations.zeros(experts * size, width, CPU)
    for part in (slice(0, 90), slice(90, None)):
        equations.add(inputs[part], index[part], lacking[part])
    expected = torch.linalg.lstsq(dense, lacking).solution
    torch.testing.assert_close(equations.solve(0.0), expected, atol=1e-4, rtol=1e-4)
    for update in (expected, torch.randn_like(expected)):
        left = (lacking - dense @ update).square().sum().item()
        assert equations.error(update) == pytest.approx(left, rel=1e-4)
    assert equations.error(equations.solve(0.1)) > equations.error(equations.solve(0.0))


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "deepseek_v3", "granitemoe"])
def test_hidden_states_come_nearer_to_the_unpruned_model_s_on_other_text(family: str, tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", family, seed=1, vocab_size=VOCABULARY)
    layers = len(Checkpoint(source).moe_layers)
    prune(source, plan_for(source, *([0, 2, 5, 7], [1, 3, 4, 6])[:layers]), tmp_path / "cut")
    given, other = text(source, "calibration", 512), text(source, "dev", 4096)
    with torch.inference_mode():
        refitted = refit(
            Checkpoint(source), Checkpoint(tmp_path / "cut"), given, CPU, tmp_path / "work", lambda _: None
        )
    wanted = hidden_states(source, other)
    before = (hidden_states(tmp_path / "cut", other) - wanted).square().mean()
    after = (hidden_states(tmp_path / "cut", other, refitted) - wanted).square().mean()
    assert after < 0.95 * before


@pytest.mark.parametrize("family", ["granitemoe", "deepseek_v3"])
def test_a_larger_or_smaller_update_of_the_last_layer_helps_less(family: str, tmp_path: Path) -> None:
    """Granite multiplies what goes into the residual stream, and the update must know."""
    source = write_tiny_checkpoint(tmp_path / "source", family, vocab_size=VOCABULARY)
    last = max(Checkpoint(source).moe_layers)
    layers = len(Checkpoint(source).moe_layers)
    prune(source, plan_for(source, *[[0, 2, 5, 7]] * layers), tmp_path / "cut")
    given = text(source, "calibration", 512)
    with torch.inference_mode():
        refitted = refit(
            Checkpoint(source), Checkpoint(tmp_path / "cut"), given, CPU, tmp_path / "work", lambda _: None
        )
    model = load_model(tmp_path / "cut", CPU, torch.float32)
    old = model.get_submodule(Checkpoint(tmp_path / "cut").module("experts", last)).down_proj.data
    wanted = hidden_states(source, given)

    def error(times: float) -> float:
        scaled = refitted | {last: old + times * (refitted[last] - old)}
        return (hidden_states(tmp_path / "cut", given, scaled) - wanted).square().mean().item()

    assert error(1.0) < min(error(0.5), error(1.6))


def test_layers_that_are_done_are_not_refitted(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2, 3], [1, 3, 5, 7]), tmp_path / "cut")
    given = text(tiny_checkpoint, "dev", 512)

    def run() -> dict[int, torch.Tensor]:
        with torch.inference_mode():
            source, cut = Checkpoint(tiny_checkpoint), Checkpoint(tmp_path / "cut")
            return refit(source, cut, given, CPU, tmp_path / "work", lambda _: None)

    first = run()
    monkeypatch.delattr(Equations, "solve")
    second = run()
    assert first.keys() == second.keys() and all(torch.equal(first[i], second[i]) for i in first)
    (tmp_path / "work" / "layer-1.safetensors").unlink()
    with pytest.raises(AttributeError):
        run()


def test_the_stage_writes_other_output_matrices_and_nothing_else(tiny_checkpoint: Path, tmp_path: Path) -> None:
    cut = prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2, 3], [1, 3, 5, 7]), tmp_path / "cut")
    corpus = tmp_path / "corpus.tsv"
    # The unpruned model knows nothing, so its hidden states help no translation, and the cut's weights may stay
    corpus.write_text("The file is open.\tDie Datei ist offen.\nA new window\tEin neues Fenster\n" * 40)
    about = recover(cut, EN_DE, corpus, corpus, tmp_path / "out", LEAST_SQUARES, tiny_checkpoint, quiet=True)
    assert about["rate"] is None and about["method"] == "least-squares"
    a, b = Checkpoint(cut), Checkpoint(tmp_path / "out")
    changed = {name for name in a.tensors if bytes(a.raw(name)) != bytes(b.raw(name))}
    assert all("down_proj" in name for name in changed)
    assert bool(changed) == (about["dev_loss_after"] < about["dev_loss_before"]) == (about["best_step"] > 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.tsv", "cut", "out"]


def test_what_it_needs_is_said(tiny_checkpoint: Path, tmp_path: Path) -> None:
    cut = prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2, 3], [1, 3, 5, 7]), tmp_path / "cut")
    data = ROOT / "runtime/text/data" / "dev"
    with pytest.raises(RequestError, match=r"needs the unpruned model.*\n.*--teacher"):
        recover(cut, EN_DE, data, data, tmp_path / "out", LEAST_SQUARES, quiet=True)
    with pytest.raises(RequestError, match="learning rate"):
        recover(
            cut, EN_DE, data, data, tmp_path / "out", Settings(method="least-squares", rate=1e-3), tiny_checkpoint, True
        )
    assert not (tmp_path / "out").exists()
