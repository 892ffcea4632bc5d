"""The vocabulary of a GGUF file is cut without torch, to what the GGUF file of the cut checkpoint has."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slimmoe
from export.gguf import export_gguf
from export.gguf.tokenizer import compare
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.rewrite import prune
from prune.vocabulary.choose import choose_vocabulary
from prune.vocabulary.selection import Amount, Selection, from_ranges
from runtime.engines.llama import LlamaEngine
from runtime.errors import RequestError, WorkError
from runtime.formats.artefact import provenance_of
from runtime.formats.gguf_file import GgufFile
from runtime.text.corpus import SHIPPED
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.prune.test_gguf_cut import metadata, tensors
from tests.prune.test_vocabulary import CALIBRATION, EN_DE, changed, lines, with_every_way
from tests.tiny import DEFAULT, write_tiny_checkpoint


@pytest.mark.parametrize(
    ("change", "kind", "tied"),
    [
        pytest.param(with_every_way, "BF16", True, marks=pytest.mark.slow),
        (lambda _: None, "Q4_K_M", True),
        pytest.param(lambda _: None, "Q8_0", False, marks=pytest.mark.slow),
    ],
)
def test_a_cut_file_is_the_file_of_the_cut_checkpoint(change: Any, kind: str, tied: bool, tmp_path: Path) -> None:
    plain = write_tiny_checkpoint(tmp_path / "plain", tokenizer=DEFAULT, hidden_size=256, tie_word_embeddings=tied)
    folder = changed(plain, tmp_path / "model", change)
    file = export_gguf(folder, tmp_path / "whole.gguf", kind)
    plan = plan_for(folder, [0, 1, 2], [5, 6, 7])
    models = Checkpoint(folder), GgufModel(file)
    chosen, same = (choose_vocabulary(each, Amount.parse("coverage=0.99"), EN_DE, CALIBRATION) for each in models)
    assert same == chosen and len(chosen.keep) < 4000
    small = prune(folder, plan, tmp_path / "cut", vocabulary=chosen)
    expected, found = export_gguf(small, tmp_path / "expected.gguf", kind), tmp_path / "found.gguf"
    prune(file, plan, found, vocabulary=chosen)
    assert metadata(found) == metadata(expected)
    assert tensors(found) == tensors(expected)
    assert tensors(found)["token_embd.weight"][1] == (len(chosen.keep), 256)
    assert ("output.weight" in tensors(found)) != tied
    assert not compare(found, small, lines()).different
    assert provenance_of(found).vocabulary == provenance_of(small).vocabulary


def test_tokens_go_before_or_after_experts_and_more_than_once(wide_checkpoint: Path, tmp_path: Path) -> None:
    file = export_gguf(wide_checkpoint, tmp_path / "whole.gguf", "F16")
    plan = plan_for(wide_checkpoint, [0, 1, 2], [5, 6, 7])
    chosen = choose_vocabulary(GgufModel(file), Amount.parse("4096"), EN_DE, CALIBRATION)
    both = prune(file, plan, tmp_path / "both.gguf", vocabulary=chosen)
    tokens_last = prune(prune(file, plan, tmp_path / "e.gguf"), None, tmp_path / "et.gguf", vocabulary=chosen)
    tokens_first = prune(prune(file, None, tmp_path / "t.gguf", vocabulary=chosen), plan, tmp_path / "te.gguf")
    for path in (tokens_last, tokens_first):
        assert tensors(path) == tensors(both) and metadata(path) == metadata(both)
        assert provenance_of(path) == provenance_of(both)
    again = slimmoe.prune(both, None, f"{tmp_path}/", vocabulary="2816")
    assert again.name == "both-en-de-v2816.gguf" and again.with_suffix(".Modelfile").exists()
    about = provenance_of(again)
    assert (about.vocabulary["before"], about.vocabulary["after"], about.hash) == (12288, 2816, plan.hash)
    old, new = (GgufFile(each).get("tokenizer.ggml.tokens") for each in (file, again))
    assert [old[number] for number in from_ranges(about.vocabulary["keep"])] == new


def test_logits_of_kept_tokens_are_the_whole_file_s(wide_checkpoint: Path, tmp_path: Path) -> None:
    file = export_gguf(wide_checkpoint, tmp_path / "whole.gguf", "F32")
    chosen = choose_vocabulary(GgufModel(file), Amount.parse("coverage=1"), EN_DE, CALIBRATION)
    small = prune(file, None, tmp_path / "small.gguf", vocabulary=chosen)
    text = (SHIPPED / "calibration.en").read_text("utf-8").splitlines()[0]
    found = []
    for path in (file, small):
        engine = LlamaEngine(path, 1, 512, exact=True)
        ids = engine.encode(text)
        found.append((ids, engine.logits(ids)))
        engine.close()
    (old, expected), (new, logits) = found
    assert [chosen.keep[number] for number in new] == old
    assert np.abs(logits - expected[:, chosen.keep]).max() < 1e-4 * expected.std()


def test_it_takes_no_torch(wide_checkpoint: Path, tmp_path: Path) -> None:
    export_gguf(wide_checkpoint, tmp_path / "whole.gguf", "F16")
    code = (
        "import sys, slimmoe; slimmoe.prune('whole.gguf', None, 'small.gguf', vocabulary='0.5', corpus=sys.argv[1], "
        "pair='en-de'); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(SHIPPED / "calibration")]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=True, timeout=120)
    assert GgufModel(tmp_path / "small.gguf").tensors["token_embd.weight"].shape == (6144, 256)


def test_every_row_of_a_token_and_every_id_goes_with_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"attn_norm.weight": (32,), "ffn_gate_inp.weight": (8, 32), "nextn.eh_proj.weight": (32, 64)}
    shapes |= {f"ffn_{name}_exps.weight": (8, 4, 32) for name in ("gate", "up", "down")}
    shapes |= {f"nextn.{name}.weight": (16, 32) for name in ("embed_tokens", "shared_head_head")}
    extra = {f"blk.2.{name}": rng.random(shape, np.float32) for name, shape in shapes.items()}
    extra |= {"output.bias": rng.random(16, np.float32), "per_layer_token_embd.weight": rng.random((16, 8), np.float32)}
    change: dict[str, Any] = {"glm4moe.block_count": 3, "glm4moe.nextn_predict_layers": 1, "glm4moe.vocab_size": 16}
    change |= {f"tokenizer.ggml.{name}_token_id": number for name, number in (("eos", 5), ("bos", 4), ("eot", 13))}
    change |= {"tokenizer.ggml.tokens": [*"abcdefghijklmnop"], "tokenizer.ggml.scores": [0.5 + i for i in range(16)]}
    file = write_moe(tmp_path / "mtp.gguf", change, extra, architecture="glm4moe")
    keep = [1, 5, 6, 13]
    chosen = Selection(keep, 16, 4, 1.0, 1.0, "4", "en-de", "", "")
    small = GgufFile(prune(file, None, tmp_path / "small.gguf", vocabulary=chosen))
    whole = GgufFile(file)
    by_token = {"output.bias", "per_layer_token_embd.weight", "token_embd.weight"}
    by_token |= {name for name in extra if "embed_tokens" in name or "shared_head" in name}
    assert small.tensors.keys() == whole.tensors.keys()
    for name in small.tensors:
        old, new = (np.frombuffer(each.read(name), np.uint8) for each in (whole, small))
        assert (new == (old.reshape(16, -1)[keep].reshape(-1) if name in by_token else old)).all(), name
    found = {key: small.get(key) for key in small.metadata}
    assert found["tokenizer.ggml.tokens"] == [*"bfgn"] and found["tokenizer.ggml.scores"] == [1.5, 5.5, 6.5, 13.5]
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (1, 3)
    assert "tokenizer.ggml.bos_token_id" not in found and found["glm4moe.vocab_size"] == 4


def other_files() -> list[dict[str, Any]]:
    usual = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.token_type": [1, 1, 1]}
    return [
        {},
        usual | {"tokenizer.ggml.model": "bert"},
        usual | {"tokenizer.ggml.token_type": [1, 1]},
        usual | {"tokenizer.ggml.merges": None},
        usual,
    ]


@pytest.mark.parametrize("metadata", other_files())
def test_other_files_are_refused(metadata: dict[str, Any], tmp_path: Path) -> None:
    file = write_moe(tmp_path / "x.gguf", metadata)
    with pytest.raises((RequestError, WorkError), match=r"of the kind|no list with|256 bytes"):
        slimmoe.prune(file, None, tmp_path / "out.gguf", vocabulary="0.5", pair="en-de")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]
