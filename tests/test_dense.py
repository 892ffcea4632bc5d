"""A dense model through CTranslate2: it writes what transformers writes, and its row stands beside ours."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from benchmarks.dense import Marks, convert, join, marks_for, measure
from runtime.errors import RequestError, WorkError
from runtime.report import write_report
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair

PAIR = Pair("en", "de")
TEST = Path(__file__).parents[1] / "runtime/text/data" / "test"
MODEL = Path(__file__).parents[1] / "models" / "default"
SEGMENTS = 6


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    # Padding is token 1, as in all published models of this architecture: CTranslate2 counts positions from it.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(MODEL / "tokenizer.json")),
        pad_token="<|user|>", eos_token="<|end|>", bos_token="<|assistant|>", unk_token="<|pad|>",
        additional_special_tokens=["eng_Latn", "deu_Latn"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of NLLB's architecture."""
    folder = tmp_path_factory.mktemp("dense") / "model"
    tokenizer = save_tokenizer(folder)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_start_token_id=ids["eos_token_id"], **ids,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)  # so that the output depends on the source
    model.save_pretrained(folder)
    return folder


def test_a_dense_model_writes_what_transformers_writes_and_joins_the_rows(dense: Path, tmp_path: Path) -> None:
    folder = convert(dense, tmp_path / "converted", "float32")
    row = measure(dense, folder, PAIR, TEST, threads=1, segments=SEGMENTS)
    tokenizer = AutoTokenizer.from_pretrained(dense)
    model = M2M100ForConditionalGeneration.from_pretrained(dense).eval()
    target, expected = tokenizer.convert_tokens_to_ids("deu_Latn"), []
    for source, _ in read_segments(TEST, PAIR)[:SEGMENTS]:
        ids = tokenizer(f"eng_Latn{source.strip()}<|end|>", return_tensors="pt", add_special_tokens=False).input_ids
        written = model.generate(
            ids, forced_bos_token_id=target, max_length=2 * ids.shape[1] + 18, do_sample=False, num_beams=1
        )
        expected.append(tokenizer.decode(written[0], skip_special_tokens=True).strip())
    found = [" ".join(text.split()) for text in row["hypotheses"]]
    same = [a[:60] == " ".join(b.split())[:60] for a, b in zip(found, expected, strict=True)]
    assert all(same) and len(set(found)) > 1, (found, expected)
    assert row["engine"].startswith("CTranslate2 4.") and row["type"] == "float32" and row["segments"] == SEGMENTS
    assert row["peak_anonymous_bytes"] > 1e6 and row["sentences_per_second"] > 0 and "prefill_seconds" not in row

    bench = tmp_path / "run" / "bench.jsonl"
    ours = {
        "artefact": "ours.gguf",
        "type": "Q4_K_M",
        "engine": "llama.cpp 0.3.36",
        "pair": "en-de",
        "size_bytes": 1,
        "peak_bytes": 1,
    }
    bench.parent.mkdir()
    bench.write_text(json.dumps(ours) + "\n")
    for _ in range(2):  # the second takes the place of the first
        join(row, bench)
    assert [json.loads(line)["engine"].split()[0] for line in bench.read_text().splitlines()] == [
        "llama.cpp",
        "CTranslate2",
    ]
    write_report(bench.parent, tmp_path / "report.md", "a run")
    assert "| model | CTranslate2 | float32 |" in (tmp_path / "report.md").read_text()


def test_how_a_model_is_told_the_pair() -> None:
    def found(*names: str) -> Marks:
        return marks_for(dict.fromkeys(names, 0), PAIR)

    assert found("eng_Latn", "deu_Latn") == Marks(("eng_Latn",), ("deu_Latn",))
    assert found("__en__", "__de__") == Marks(("__en__",), ("__de__",))
    assert found("en_XX", "de_DE") == Marks(("en_XX",), ("de_DE",))
    assert found("<2en>", "<2de>") == Marks(("<2de>",))
    assert found(">>deu<<", ">>nld<<") == Marks((">>deu<<",))
    assert found("the", "der") == Marks()


def test_what_is_no_dense_translation_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="CTranslate2 cannot convert"):
        convert(MODEL, tmp_path / "moe", "int8")
    assert not (tmp_path / "moe").exists()
    save_tokenizer(tmp_path / "decoder")
    config = LlamaConfig(
        vocab_size=8200, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "decoder")
    folder = convert(tmp_path / "decoder", tmp_path / "converted", "int8")
    with pytest.raises(WorkError, match="CTranslate2 cannot translate with"):
        measure(tmp_path / "decoder", folder, PAIR, TEST, 1, 1)
