import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen3MoeForCausalLM

from models.recipe.batches import WEIGHTS, batches
from models.recipe.clean import sentence_pairs
from models.recipe.extract import Row
from models.recipe.optimiser import orthogonalise
from models.recipe.split import document_split, split
from models.recipe.train import configuration, rate_factor


def test_markup_and_accelerators_go_and_mismatched_pairs_are_dropped() -> None:
    pairs = list(sentence_pairs("Open the <b>new</b> _file", "Die <b>neue</b> _Datei öffnen", "de", "[_]"))
    assert pairs == [("Open the new file", "Die neue Datei öffnen")]
    assert not list(sentence_pairs("There are 3 files here", "Es gibt hier 4 Dateien", "de"))
    assert not list(sentence_pairs("Open the file", "Open the file", "de"))
    two = list(sentence_pairs("It is open. Please close it.", "Sie ist offen. Bitte schließen Sie sie.", "de"))
    assert len(two) == 2 and two[1] == ("Please close it.", "Bitte schließen Sie sie.")


def test_no_held_out_sentence_leaks_into_training() -> None:
    words = [f"w{i}" for i in range(40)]
    rng = np.random.default_rng(0)

    def sentence() -> str:
        return "The " + " ".join(rng.choice(words, 12)) + "."

    rows = [Row("libreoffice", f"d{i}", "de", sentence(), sentence()) for i in range(400)]
    held = [row for row in rows if document_split(row) == "test"]
    assert held
    leaks = [row._replace(document=f"copy{i}", source="gettext", other=sentence()) for i, row in enumerate(held)]
    leaks = [row for row in leaks if document_split(row) == "train"]
    parts = split(rows + leaks)
    test = {row.english for row in parts["test"]}
    assert test and leaks
    assert not test & {row.english for row in parts["train"]}
    assert {row.document for row in parts["test"]}.isdisjoint(row.document for row in parts["train"])


def test_a_document_is_held_out_in_every_language_alike() -> None:
    for i in range(50):
        row = Row("libreoffice", f"d{i}", "de", "a", "b")
        assert document_split(row) == document_split(row._replace(language="fr", english="x"))


@pytest.mark.parametrize("shape", [(64, 128), (3, 32, 96), (96, 32)])
def test_orthogonalise_brings_singular_values_near_one(shape) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
    assert values.min() > 0.4 and values.max() < 1.4


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    assert rate_factor(0) < 0.02 and rate_factor(0.3) == 1 and rate_factor(1) == 0


def test_batches_are_of_fixed_size_and_weigh_every_response_token(tmp_path) -> None:
    for name in WEIGHTS:
        ids = np.arange(10, 30, dtype=np.uint16)
        prompt = 0 if name == "plain" else 8
        starts = np.array([0, 20])
        np.savez(tmp_path / f"{name}.npz", tokens=ids, starts=starts, prompt=np.array([prompt], np.int16))
    tokens, labels, weights, real = next(batches(tmp_path, 512, seed=0))
    assert labels.shape == weights.shape == real.shape == (512,)
    rows, length = tokens.shape
    grid = weights[: rows * length].view(rows, length)
    assert (grid[:, 7:19] == 1).all() and (grid[:, 19:] == 0).all()
    assert torch.equal(labels[: rows * length].view(rows, length)[:, :19], tokens[:, 1:20])
    assert int(real.sum()) == rows * 20


@pytest.mark.slow  # compiling the elementwise parts takes about a minute
def test_the_fast_training_pass_is_transformers_own_function() -> None:
    from models.recipe.network import training_loss

    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(configuration())
    tokens = torch.randint(4, 8192, (24, 40))
    labels, weights, real = torch.zeros(1024, dtype=torch.long), torch.zeros(1024), torch.zeros(1024, dtype=torch.bool)
    labels[:960] = F.pad(tokens[:, 1:], (0, 1)).reshape(-1)
    weights[:960] = F.pad(torch.ones(24, 39), (0, 1)).reshape(-1)
    real[:960] = True
    loss, balance, load = training_loss(model, tokens, labels, weights, real)
    (loss / weights.sum()).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = model(tokens, use_cache=False).logits[:, :-1]
    reference = F.cross_entropy(logits.reshape(-1, 8192), tokens[:, 1:].reshape(-1))
    reference.backward()
    assert loss.item() / weights.sum().item() == pytest.approx(reference.item(), abs=2e-3)
    assert load.sum() == 6 * 4 * 960 and 6 <= balance.item() < 9
    for name, parameter in model.named_parameters():
        assert F.cosine_similarity(gradients[name].flatten(), parameter.grad.flatten(), 0) > 0.97, name
