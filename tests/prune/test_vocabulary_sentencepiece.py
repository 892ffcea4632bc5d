"""SentencePiece's BPE with fewer tokens: any text is still encoded, in tokenizers, SentencePiece itself and llama.cpp."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from export.gguf import export_gguf
from export.gguf.tokenizer import compare
from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.rewrite import prune
from prune.tokenizer import read_tokenizer, write_tokenizer
from prune.vocabulary.choose import choose_vocabulary
from prune.vocabulary.selection import Amount
from runtime.text.corpus import SHIPPED, read_segments
from tests.prune.test_gguf_cut import metadata, tensors
from tests.prune.test_vocabulary import CALIBRATION, EN_DE, lines
from tests.published import gemma
from tests.tiny import train_sentencepiece, write_tiny_checkpoint

LIMIT = 2500


def mixtral(folder: Path) -> Path:
    """With SentencePiece's file and the tokenizer.json that transformers makes of it, as published."""
    text = [line for path in sorted(SHIPPED.glob("calibration.*")) for line in path.read_text("utf-8").splitlines()]
    model = write_tiny_checkpoint(folder, "mixtral", vocab_size=LIMIT)
    train_sentencepiece(model, text, LIMIT)
    write_tokenizer(model, model / "tokenizer.json")
    return model


def gemma4(folder: Path) -> Path:
    model = write_tiny_checkpoint(folder, "gemma4_text", vocab_size=gemma.TOKENS)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(gemma.with_tokens(config)))
    gemma.write_tokenizer(model)
    return model


@pytest.mark.parametrize(("write", "amount"), [(mixtral, "coverage=0.97"), (gemma4, "1536")])
def test_the_cut_tokenizer_encodes_any_text_everywhere(
    write: Callable[[Path], Path], amount: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "whole")
    file = export_gguf(folder, tmp_path / "whole.gguf", "BF16")
    models = Checkpoint(folder), GgufModel(file)
    chosen, same = (choose_vocabulary(each, Amount.parse(amount), EN_DE, CALIBRATION) for each in models)
    assert same == chosen and len(chosen.keep) < chosen.before
    small = prune(folder, None, tmp_path / "cut", vocabulary=chosen)
    before, after = read_tokenizer(folder), read_tokenizer(small)
    numbers, unchanged = {old: new for new, old in enumerate(chosen.keep)}, 0
    for line in lines():
        old, new = (each.encode(line, add_special_tokens=False).ids for each in (before, after))
        assert after.decode(new) == before.decode(old)
        if {*old} <= numbers.keys():
            assert new == [numbers[each] for each in old]
            unchanged += 1
    assert 5 < unchanged < len(lines())

    of_cut = export_gguf(small, tmp_path / "of-cut.gguf", "BF16")
    cut = prune(file, None, tmp_path / "cut.gguf", vocabulary=chosen)
    assert metadata(cut) == metadata(of_cut) and tensors(cut) == tensors(of_cut)
    assert not compare(cut, small, lines()).different


def test_sentencepiece_reads_its_own_file_again(tmp_path: Path) -> None:
    folder = mixtral(tmp_path / "whole")
    chosen = choose_vocabulary(Checkpoint(folder), Amount.parse("1024"), EN_DE, CALIBRATION)
    small = prune(folder, None, tmp_path / "cut", vocabulary=chosen)
    own, tokenizer = SentencePieceProcessor(model_file=str(small / "tokenizer.model")), read_tokenizer(small)
    assert (own.vocab_size(), own.unk_id(), own.bos_id(), own.eos_id(), own.pad_id()) == (1024, 0, 1, 2, -1)
    sentences = [source for source, _ in read_segments(Path("data/dev"), EN_DE)]
    assert own.encode(sentences) == [tokenizer.encode(each, add_special_tokens=False).ids for each in sentences]
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")  # a list of tiktoken's under that name
    assert not (prune(folder, None, tmp_path / "other", vocabulary=chosen) / "tokenizer.model").exists()
