import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from prune.batches import batches
from prune.checkpoint import Checkpoint
from prune.conversations import read_conversations
from prune.device import choose_training_dtype, has_fast_bf16
from prune.families import families
from prune.loading import load_model
from prune.plan.plan import Plan
from prune.recovery.objective import Objective, logit_divergence, response_logits, router_loss
from prune.recovery.recover import recover
from prune.recovery.settings import EPOCHS, MOST_STEPS, Settings
from prune.recovery.trainer import newest_checkpoint
from prune.rewrite import prune
from runtime.errors import RequestError, WorkError
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from tests.processes import run_slimmoe
from tests.prune.test_cut import plan_for
from tests.tiny import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
EN_DE = Pair("en", "de")


@pytest.fixture(scope="module")
def cut(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny model with half of its experts. Read only."""
    folder = tmp_path_factory.mktemp("cut") / "cut"
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2, 3], [1, 3, 5, 7]), folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.tsv"
    lines = ["The file is open.\tDie Datei ist offen.", "No.\tNein.", "A new window\tEin neues Fenster"]
    path.write_text("\n".join(lines * 4))
    return path


def changed(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ between two checkpoints of the same shapes."""
    a, b = Checkpoint(before), Checkpoint(after)
    assert {n: t.shape for n, t in a.tensors.items()} == {n: t.shape for n, t in b.tensors.items()}
    return {name for name in a.tensors if bytes(a.raw(name)) != bytes(b.raw(name))}


def test_recovery_lowers_the_dev_loss_and_keeps_plan_and_types(cut, corpus, tmp_path) -> None:
    about = recover(cut, EN_DE, corpus, corpus, tmp_path / "out", Settings(steps=10, rate=3e-3), quiet=True)
    assert about["dev_loss_after"] < about["dev_loss_before"] - 0.5
    assert Plan.load(tmp_path / "out" / "slimmoe.json") == Plan.load(cut / "slimmoe.json")
    assert json.loads((tmp_path / "out" / "slimmoe.json").read_text())["recoveries"] == [about]
    assert {t.dtype for t in Checkpoint(tmp_path / "out").tensors.values()} == {"BF16"}
    assert {"gate", "experts", "self_attn"} <= {
        part for name in changed(cut, tmp_path / "out") for part in name.split(".")
    }
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # the checkpoints are gone
    with pytest.raises(RequestError, match="exists already"):
        recover(cut, EN_DE, corpus, corpus, tmp_path / "out", quiet=True)


def test_the_written_weights_have_the_dev_loss_that_is_told(cut, corpus, tmp_path) -> None:
    """The dev set is other text, so the best step is not the last one; its experts must be read back too."""
    other, settings = tmp_path / "dev.tsv", Settings(steps=20, rate=0.01, patience=9)
    other.write_text("The window is closed.\tDas Fenster ist geschlossen.\n")
    about = recover(cut, EN_DE, corpus, other, tmp_path / "out", settings, quiet=True)
    assert 0 < about["best_step"] < about["steps"] == 20
    model = load_model(tmp_path / "out", CPU, torch.float32)
    total = count = 0
    for batch in batches(read_conversations(cut, read_segments(other, EN_DE), EN_DE), 4096):
        logits, wanted = response_logits(model, batch)
        total, count = total + F.cross_entropy(logits, wanted, reduction="sum").item(), count + len(wanted)
    assert total / count == pytest.approx(about["dev_loss_after"], abs=0.02)  # bf16 on disk


def test_nothing_gained_keeps_the_weights(cut, corpus, tmp_path) -> None:
    about = recover(cut, EN_DE, corpus, corpus, tmp_path / "out", Settings(steps=2, rate=0.9), quiet=True)
    assert about["best_step"] == 0 and about["dev_loss_after"] == about["dev_loss_before"]
    assert not changed(cut, tmp_path / "out")


def test_training_stops_early(cut, corpus, tmp_path) -> None:
    settings = Settings(steps=40, rate=0.9, patience=1)
    assert recover(cut, EN_DE, corpus, corpus, tmp_path / "out", settings, quiet=True)["steps"] < 40


def test_a_frozen_router_stays(cut, corpus, tmp_path) -> None:
    settings = Settings(steps=2, rate=3e-3, freeze_router=True)
    recover(cut, EN_DE, corpus, corpus, tmp_path / "out", settings, quiet=True)
    names = changed(cut, tmp_path / "out")
    assert names and not [name for name in names if ".gate." in name]


def test_lora_merges_back_to_a_plain_checkpoint(cut, corpus, tmp_path) -> None:
    settings = Settings(steps=6, rate=0.01, method="lora", rank=2)
    about = recover(cut, EN_DE, corpus, corpus, tmp_path / "out", settings, quiet=True)
    assert about["dev_loss_after"] < about["dev_loss_before"] and about["best_step"] > 0
    names = changed(cut, tmp_path / "out")
    assert [name for name in names if ".experts." in name] and [name for name in names if "q_proj" in name]
    assert not [name for name in names if "embed" in name]  # LoRA leaves it alone


def test_the_teacher_brings_the_routers_nearer_to_its_own(tiny_checkpoint, cut, corpus, tmp_path) -> None:
    """With the routers' part alone to be learnt, the student routes more like the teacher than before."""
    settings = Settings(steps=10, rate=1e-3, logit_weight=1.0, router_weight=10.0)
    recover(cut, EN_DE, corpus, corpus, tmp_path / "out", settings, tiny_checkpoint, quiet=True)
    (batch,) = batches(read_conversations(cut, read_segments(corpus, EN_DE), EN_DE), 4096)
    keep = {layer.layer: layer.keep for layer in Plan.load(cut / "slimmoe.json").layers}

    def distance(folder: Path) -> float:
        def routed(path: Path) -> tuple:
            model = load_model(path, CPU, torch.float32)
            return model(input_ids=batch.ids, attention_mask=batch.mask, output_router_logits=True).router_logits

        with torch.inference_mode():
            pairs = list(zip(routed(folder), routed(tiny_checkpoint)))
        real = batch.mask.reshape(-1).bool()
        return sum(float(router_loss(mine, its, keep[i], real)) for i, (mine, its) in enumerate(pairs))

    assert distance(tmp_path / "out") < distance(cut)


def test_distillation_is_least_where_student_and_teacher_agree() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    for temperature in (1.0, 2.0):
        assert logit_divergence(teacher, teacher, temperature).abs() < 1e-6
        assert logit_divergence(student, teacher, temperature) > 0.1
    p, q = teacher.softmax(-1), student.softmax(-1)
    assert logit_divergence(student, teacher, 1.0) == pytest.approx(float((p * (p / q).log()).sum() / 5), rel=1e-5)
    keep, real = [1, 4, 6], torch.tensor([True, True, False, True, True])
    kept = p[:, keep] / p[:, keep].sum(-1, keepdim=True)
    entropy = float(-(kept * kept.log()).sum(-1)[real].mean())
    assert router_loss(teacher[:, keep], teacher, keep, real) == pytest.approx(entropy, rel=1e-5)
    assert router_loss(student[:, keep], teacher, keep, real) > entropy


def test_response_logits_are_those_of_the_whole_forward_pass(cut, corpus) -> None:
    model = load_model(cut, CPU, torch.float32)
    (batch,) = batches(read_conversations(cut, read_segments(corpus, EN_DE), EN_DE), 4096)
    with torch.inference_mode():
        logits, wanted = response_logits(model, batch)
        whole = model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1][batch.response[:, 1:]]
    assert torch.equal(wanted, batch.ids[batch.response])
    assert (logits - whole).abs().max() < 1e-5


@pytest.mark.parametrize("family", [name for name in families() if name != "nllb_moe"])
def test_bf16_gives_the_loss_and_float32_gradients_in_every_family(family, tmp_path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", family)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 500, (3, 40), generator=generator)
    response = (torch.arange(40) >= 20).expand_as(ids)
    losses, slopes = [], []
    for dtype in (torch.float32, torch.bfloat16):
        objective = Objective(load_model(folder, CPU, torch.float32), {}, Settings(), dtype=dtype).train()
        loss = objective(ids, torch.ones_like(ids), response)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients = [weight.grad for weight in objective.parameters() if weight.grad is not None]
        assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)
        slopes.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert losses[1] != losses[0] and abs(losses[1] - losses[0]) < 0.02 * losses[0]
    assert F.cosine_similarity(*slopes, dim=0) > 0.85  # a token whose router is undecided may take other experts


def test_only_training_of_all_weights_computes_in_bf16() -> None:
    for method in ("lora", "least-squares"):
        assert choose_training_dtype(CPU, method) == (torch.float32, "the exact type")
    dtype, reason = choose_training_dtype(CPU, "full")
    assert dtype == (torch.bfloat16 if has_fast_bf16(CPU) else torch.float32) and "cpu" in reason


def test_a_killed_recovery_goes_on_from_its_last_checkpoint(cut, corpus, tmp_path) -> None:
    command = [
        *(sys.executable, "-m", "slimmoe", "recover", str(cut), "--pair", "en-de", "--corpus", str(corpus)),
        *("--dev", str(corpus), "--steps", "12", "--rate", "0.003", "-o", str(tmp_path / "out")),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    work = tmp_path / ".out.recovery"
    while not (first := newest_checkpoint(work)) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first and not (tmp_path / "out").exists()
    (work / "checkpoint-11").mkdir()  # as if it had been killed while this one was written
    with pytest.raises(RequestError, match="other settings"):
        recover(cut, EN_DE, corpus, corpus, tmp_path / "out", Settings(steps=13), quiet=True)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on from checkpoint-" in done.stdout and "of 12)" in done.stdout
    once = recover(cut, EN_DE, corpus, corpus, tmp_path / "once", Settings(steps=12, rate=0.003), quiet=True)
    resumed = json.loads((tmp_path / "out" / "slimmoe.json").read_text())["recoveries"][0]
    assert resumed["dev_loss_after"] == pytest.approx(once["dev_loss_after"], abs=1e-3)
    assert not work.exists()


@pytest.mark.slow
def test_two_processes_share_each_step_and_train_as_one(tiny_checkpoint, cut, corpus, tmp_path) -> None:
    (tmp_path / "corpus.tsv").write_text((corpus.read_text() + "\n") * 40)  # more than one step
    arguments = ["recover", str(cut), "--pair", "en-de", "--corpus", str(tmp_path / "corpus.tsv"), "--dev", str(corpus)]
    sft = ("--steps", "20", "--rate", "0.003")
    told = {}
    for processes, name in ((1, "one"), (2, "two")):
        result = run_slimmoe(*arguments, *sft, "-o", str(tmp_path / name), processes=processes)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("recovery: 20 steps") == 1
        told[name] = json.loads((tmp_path / name / "slimmoe.json").read_text())["recoveries"][0]
    refit = ("--method", "least-squares", "--teacher", str(tiny_checkpoint))
    result = run_slimmoe(*arguments, *refit, "-o", str(tmp_path / "three"), processes=2)
    assert "Least squares runs in one process." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.tsv", "one", "two"]
    gained = told["one"]["dev_loss_before"] - told["one"]["dev_loss_after"]
    assert told["two"]["processes"] == 2 and gained > 0
    assert told["two"]["dev_loss_after"] == pytest.approx(told["one"]["dev_loss_after"], abs=gained / 10)


def test_a_loss_that_is_no_number_is_refused(tiny_checkpoint, corpus, tmp_path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1], [0, 1]), tmp_path / "cut")
    checkpoint = Checkpoint(tmp_path / "cut")
    tensor = checkpoint.tensors["model.norm.weight"]
    with tensor.path.open("r+b") as file:
        file.seek(tensor.start)
        file.write(b"\xff\x7f")  # NaN in bf16
    with pytest.raises(WorkError, match="not a number"):
        recover(tmp_path / "cut", EN_DE, corpus, corpus, tmp_path / "out", Settings(steps=2), quiet=True)
    assert not (tmp_path / "out").exists()


def test_another_model_is_no_teacher(cut, corpus, tmp_path) -> None:
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match="not the model that was pruned"):
        recover(cut, EN_DE, corpus, corpus, tmp_path / "out", Settings(steps=1), other, quiet=True)


@pytest.mark.parametrize("settings", [Settings(method="magic"), Settings(steps=0), Settings(rate=-1.0)])
def test_a_wrong_setting_is_refused(settings: Settings, cut, corpus, tmp_path) -> None:
    with pytest.raises(RequestError):
        recover(cut, EN_DE, corpus, corpus, tmp_path / "out", settings, quiet=True)
    assert not list(tmp_path.iterdir())


def test_steps_and_rate_are_chosen_with_a_reason() -> None:
    assert Settings().choose_steps(3)[0] == 3 * EPOCHS and Settings().choose_steps(10**6)[0] == MOST_STEPS
    assert Settings(steps=7).choose_steps(10**6) == (7, "as asked")
    assert Settings().choose_rate(512)[0] == Settings().choose_rate(256)[0] / 2
