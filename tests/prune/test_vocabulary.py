"""A vocabulary that is cut for a pair: it still encodes every text, and what it encodes as before computes as before."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.vocabularies import byte_level
from export.gguf import export_gguf
from export.gguf.tokenizer import compare
from export.onnx import export_onnx
from prune.checkpoint import Checkpoint
from prune.conversations import read_conversations
from prune.recovery.recover import recover
from prune.rewrite import prune
from prune.tokenizer import read_tokenizer
from prune.vocabulary.choose import choose_vocabulary, select
from prune.vocabulary.selection import Amount, Selection, as_ranges, from_ranges
from prune.vocabulary.tokenizer_json import read_vocabulary
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.formats.provenance import read_provenance
from runtime.text.corpus import SHIPPED, read_segments
from runtime.text.pairs import Pair
from tests.prune.test_cut import plan_for
from tests.tiny import DEFAULT, write_tiny_checkpoint

EN_DE, CALIBRATION = Pair("en", "de"), Path("data/calibration")
# Latin beyond ASCII, Greek, Cyrillic, Armenian, Hebrew, Arabic, Devanagari, Thai, Georgian, Ethiopic, kana, Han, Hangul, emoji
SCRIPTS = (0xC0, 0x391, 0x410, 0x531, 0x5D0, 0x627, 0x905, 0xE01, 0x10D0, 0x1200, 0x3041, 0x4E00, 0xAC00, 0x1F600)


def lines() -> list[str]:
    """Of the test set in all its languages, and random ones in other scripts."""
    found = [line for path in sorted(SHIPPED.glob("test.??")) for line in path.read_text("utf-8").splitlines()[:40]]
    chance = random.Random(0)
    for first in SCRIPTS:
        for _ in range(20):
            words = ("".join(chr(first + chance.randrange(24)) for _ in range(chance.randint(1, 8))) for _ in range(9))
            found.append("  ".join(words) + chance.choice(["", " 1234567.89", "\tx\n\n", "<|end|", " ... ---- ~~"]))
    return found


def with_every_way(tokenizer: dict[str, Any]) -> None:
    """Merges as of tokenizers made from tiktoken's lists: all pairs that make a token, in the order of what they make."""
    ids = tokenizer["model"]["vocab"]
    split = [[[token[:i], token[i:]] for i in range(1, len(token))] for token in ids if not token.startswith("<|")]
    ways = [way for ways in split for way in ways if {*way} <= ids.keys()]
    tokenizer["model"]["merges"] = sorted(ways, key=lambda way: ids["".join(way)])


def with_special_tokens_last(tokenizer: dict[str, Any]) -> None:
    """The four added tokens have the highest ids, and a post-processor and a padding name one."""
    ids = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: (number - 4) % len(ids) for token, number in ids.items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = (token["id"] - 4) % len(ids)
    end = len(ids) - 4
    tokenizer["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": end + 3, "pad_type_id": 0,
        "pad_token": "<|pad|>",
    }  # fmt: skip
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [end], "tokens": ["<|end|>"]}},
    }


def changed(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a checkpoint with another tokenizer.json."""
    shutil.copytree(source, target)
    stored = json.loads((target / "tokenizer.json").read_text())
    change(stored)
    (target / "tokenizer.json").write_text(json.dumps(stored))
    return target


def cut(folder: Path, output: Path, amount: str = "coverage=1") -> tuple[Path, Selection]:
    """Cut for English to German; returns what was written and what was chosen."""
    chosen = choose_vocabulary(Checkpoint(folder), Amount.parse(amount), EN_DE, CALIBRATION)
    return prune(folder, None, output, vocabulary=chosen), chosen


@pytest.mark.parametrize("change", [lambda _: None, with_every_way, with_special_tokens_last])
def test_any_text_is_encoded_and_text_of_kept_tokens_as_before(
    change: Any, wide_checkpoint: Path, tmp_path: Path
) -> None:
    folder = changed(wide_checkpoint, tmp_path / "whole", change)
    small, chosen = cut(folder, tmp_path / "cut", "coverage=0.99")
    before, after = read_tokenizer(folder), read_tokenizer(small)
    numbers = {old: new for new, old in enumerate(chosen.keep)}
    same = 0
    for line in lines():
        old, new = (each.encode(line, add_special_tokens=False).ids for each in (before, after))
        assert after.decode(new) == before.decode(old)
        if {*old} <= numbers.keys():
            assert new == [numbers[each] for each in old]
            same += 1
        else:
            assert len(new) > len(old)
    assert 20 < same < len(lines())
    assert after.get_vocab_size() == len(chosen.keep) == Checkpoint(small).config["vocab_size"] < 4000
    assert len(chosen.keep) % 256 == 0
    assert chosen.before == 12288 and 0.99 <= chosen.covered < 1


def test_ids_are_new_in_every_file(wide_checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(wide_checkpoint, tmp_path / "whole", with_special_tokens_last)
    end, pad = 12284, 12287
    config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": [end, pad], "pad_token_id": pad}
    config |= {"image_token_id": -1, "bos_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    generation = {"eos_token_id": end, "pad_token_id": pad, "suppress_tokens": [end + 1], "bad_words_ids": [[end, pad]]}
    (folder / "generation_config.json").write_text(json.dumps(generation | {"max_length": end}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {str(end): {"content": "<|end|>", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).write_text("{}")
    small, chosen = cut(folder, tmp_path / "cut")
    last = len(chosen.keep) - 1  # special tokens keep their order: end, user, assistant, pad
    tokenizer = Tokenizer.from_file(str(small / "tokenizer.json"))
    assert [tokenizer.token_to_id(f"<|{name}|>") for name in ("end", "user", "assistant", "pad")] == [
        *range(last - 3, last + 1)
    ]
    assert tokenizer.encode("a").ids[-1] == last - 3
    assert tokenizer.padding and tokenizer.padding["pad_id"] == last
    config = Checkpoint(small).config
    assert (config["vocab_size"], config["eos_token_id"], config["pad_token_id"]) == (last + 1, [last - 3, last], last)
    assert config["image_token_id"] == -1 and config["bos_token_id"] is None
    assert json.loads((small / "generation_config.json").read_text()) == {
        "eos_token_id": last - 3, "pad_token_id": last, "suppress_tokens": [last - 2], "bad_words_ids": [[last - 3, last]],
        "max_length": end,
    }  # fmt: skip
    settings = json.loads((small / "tokenizer_config.json").read_text())
    assert [*settings["added_tokens_decoder"]] == [str(last - 3)]
    assert not [name for name in ("vocab.json", "merges.txt", "added_tokens.json") if (small / name).exists()]
    plain = AutoTokenizer.from_pretrained(small)
    assert (plain.eos_token_id, plain.pad_token_id, len(plain)) == (last - 3, last, last + 1)


def test_a_short_corpus_is_told_to_lack_what_other_text_has(wide_checkpoint: Path) -> None:
    chosen = choose_vocabulary(Checkpoint(wide_checkpoint), Amount.parse("coverage=1"), EN_DE, CALIBRATION)
    assert chosen.covered == 1
    other = read_conversations(wide_checkpoint, read_segments(Path("data/test"), EN_DE), EN_DE)
    ids = [number for conversation in other for number in conversation.ids]
    assert abs(sum(number in chosen.keep for number in ids) / len(ids) - chosen.expected) < 0.05
    assert chosen.expected < 0.95


def kept_logits(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize(
    ("family", "changes"), [("qwen3_moe", {}), ("qwen3_moe", {"tie_word_embeddings": False}), ("phimoe", {})]
)  # tied, untied, with a bias of the output layer
def test_logits_of_kept_tokens_are_the_whole_model_s(family: str, changes: Any, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "whole", family, dtype=torch.float32, tokenizer=DEFAULT, **changes)
    small, chosen = cut(folder, tmp_path / "cut")
    text = (SHIPPED / "calibration.en").read_text("utf-8").splitlines()[0]
    old, new = (read_tokenizer(each).encode(text).ids for each in (folder, small))
    assert [chosen.keep[each] for each in new] == old and len(old) > 5
    expected, found = kept_logits(folder, old)[:, chosen.keep], kept_logits(small, new)
    assert found.shape == (len(new), len(chosen.keep))
    assert torch.allclose(found, expected, atol=1e-5, rtol=0)
    assert (found[:, 0] - found[:, -1]).abs().max() > 1e-3  # tokens differ at all


def test_experts_and_tokens_go_in_one_cut_or_in_two(wide_checkpoint: Path, tmp_path: Path) -> None:
    plan = plan_for(wide_checkpoint, [0, 1, 2], [5, 6, 7])
    chosen = choose_vocabulary(Checkpoint(wide_checkpoint), Amount.parse("4096"), EN_DE, CALIBRATION)
    both = prune(wide_checkpoint, plan, tmp_path / "both", vocabulary=chosen)
    first = prune(wide_checkpoint, plan, tmp_path / "experts")
    tokens = prune(first, None, tmp_path / "then-tokens", vocabulary=chosen)
    other = prune(prune(wide_checkpoint, None, tmp_path / "tokens", vocabulary=chosen), plan, tmp_path / "then-experts")
    for folder in (tokens, other):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in both.iterdir()
        }
    source, small = Checkpoint(wide_checkpoint), Checkpoint(both)
    name = "model.embed_tokens.weight"
    width = source.tensors[name].shape[1] * 2
    rows = np.frombuffer(source.raw(name), np.uint8).reshape(-1, width)
    assert (np.frombuffer(small.raw(name), np.uint8).reshape(-1, width) == rows[chosen.keep]).all()
    assert len(chosen.keep) == 4096 and {*small.moe_layers.values()} == {3}


def test_a_second_cut_still_names_the_first_model_s_tokens(wide_checkpoint: Path, tmp_path: Path) -> None:
    first, wide = cut(wide_checkpoint, tmp_path / "first", "0.5")
    second, _ = cut(first, tmp_path / "second", "2816")
    about = read_provenance(second)
    assert about and (about.vocabulary["before"], about.vocabulary["after"]) == (12288, 2816)
    kept = from_ranges(about.vocabulary["keep"])
    assert len(wide.keep) == 6144 and {*kept} < {*wide.keep}
    old, new = (read_tokenizer(each) for each in (wide_checkpoint, second))
    assert all(old.id_to_token(before) == new.id_to_token(after) for after, before in enumerate(kept))
    assert as_ranges(kept) == about.vocabulary["keep"]
    stored = json.loads((first / "slimmoe.json").read_text())
    (first / "slimmoe.json").write_text(json.dumps(stored | {"vocabulary": {"keep": "0-9 x", "before": 12288}}))
    with pytest.raises(WorkError, match="its record of the vocabulary is not that of the model"):
        cut(first, tmp_path / "third", "2816")
    assert not (tmp_path / "third").exists()


def test_a_teacher_with_other_tokens_is_refused(wide_checkpoint: Path, tmp_path: Path) -> None:
    plan = plan_for(wide_checkpoint, [0, 1, 2], [5, 6, 7])
    chosen = choose_vocabulary(Checkpoint(wide_checkpoint), Amount.parse("0.5"), EN_DE, CALIBRATION)
    small = prune(wide_checkpoint, plan, tmp_path / "cut", vocabulary=chosen)
    with pytest.raises(RequestError, match="have different tokens"):
        recover(small, EN_DE, CALIBRATION, Path("data/dev"), tmp_path / "out", teacher=wide_checkpoint)


def test_the_size_is_what_was_asked_for(wide_checkpoint: Path) -> None:
    vocabulary = read_vocabulary(wide_checkpoint)
    rare, often = vocabulary.merged[-1], vocabulary.merged[-2]
    counts = Counter({rare: 1, often: 9999})

    def chosen(text: str, needed: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
        return {*select(vocabulary, counts, Amount.parse(text), needed)}

    assert len(chosen("1000")) == 1024 and len(chosen("0.25")) == 3072 and len(chosen("1.0")) == 12288
    assert len(chosen("99999")) == 12288
    assert {rare, often} < chosen("0.25")  # however few: what the text has comes first
    assert often in chosen("coverage=0.9999")
    assert 7000 in chosen("1000", {7000})
    at_least = vocabulary.always
    assert {vocabulary.ids[byte] for byte in "0129~!ĀĠ"} | {0, 1, 2, 3} <= at_least
    with pytest.raises(RequestError, match=rf"{len(at_least)} tokens must stay .* leaves 100"):
        chosen("100")


@pytest.mark.parametrize(
    "text", ["", "0", "-5", "1.5", "nan", "half", "coverage=", "coverage=2", "coverage=0", "share=0.5"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="no size of a vocabulary"):
        Amount.parse(text)


def other_kinds() -> Iterator[Callable[[dict[str, Any]], Any]]:
    yield lambda tokenizer: tokenizer["model"].update(byte_fallback=True)
    yield lambda tokenizer: tokenizer["model"].update(type="WordLevel", unk_token="!")
    yield lambda tokenizer: tokenizer.update(pre_tokenizer={"type": "Whitespace"})
    yield lambda tokenizer: tokenizer["model"]["vocab"].update({"?": tokenizer["model"]["vocab"].pop("Ā")})
    yield lambda tokenizer: tokenizer.update(post_processor={"type": "Unheard"})
    yield lambda tokenizer: tokenizer["added_tokens"][0].update(id=12288)


@pytest.mark.parametrize("change", other_kinds())
def test_other_tokenizers_are_refused(change: Any, wide_checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(wide_checkpoint, tmp_path / "whole", change)
    with pytest.raises(RequestError, match=r"of the kind|post-processor|rows"):
        cut(folder, tmp_path / "cut")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_an_output_layer_in_blocks_of_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "whole", dtype=torch.float32, tokenizer=DEFAULT, tie_word_embeddings=False
    )
    name = Checkpoint(folder).tensors["lm_head.weight"].path
    save_file(load_file(name) | {"lm_head.weight_scale": np.ones((96, 2), np.float32)}, name)
    index = folder / "model.safetensors.index.json"
    known = json.loads(index.read_text())
    known["weight_map"]["lm_head.weight_scale"] = name.name
    index.write_text(json.dumps(known))
    with pytest.raises(
        RequestError, match=r"lm_head\.weight_scale of .* does not have one row for each of 12288 tokens"
    ):
        cut(folder, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_llama_cpp_gives_the_same_ids_and_onnx_has_the_tokens(wide_checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(wide_checkpoint, tmp_path / "whole", with_every_way)
    small, chosen = cut(folder, tmp_path / "cut", "coverage=0.99")
    text = [line for path in sorted(SHIPPED.glob("*.??")) for line in path.read_text("utf-8").splitlines()] + lines()
    agreement = compare(export_gguf(small, tmp_path / "small.gguf", "BF16"), small, text)
    assert agreement.texts > 3000 and not agreement.different, agreement
    exported = export_onnx(small, tmp_path / "onnx", "int4")
    assert (exported / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()
    about = json.loads((exported / "genai_config.json").read_text())
    assert about["model"]["vocab_size"] == len(chosen.keep)


def test_what_llama_cpp_splits_otherwise_of_the_whole_it_may_of_the_cut(
    wide_checkpoint: Path, tmp_path, caplog
) -> None:
    """llama.cpp's pattern of gpt-oss knows no combining marks. It knows the whole tokenizer by its ids, the cut one no longer."""
    folder = shutil.copytree(wide_checkpoint, tmp_path / "whole")
    text = [*lines(), *["Größe, naïve, हिन्दी में, 你好世界, it is open."] * 50]
    byte_level(folder, "gpt-4o", len(json.loads((DEFAULT / "tokenizer.json").read_text())["model"]["vocab"]), text)
    with pytest.raises(WorkError, match="looks like one that llama"):
        export_gguf(folder, tmp_path / "whole.gguf", "BF16")
    export_gguf(folder, tmp_path / "whole.gguf", "BF16", pre="gpt-4o")
    small, chosen = cut(folder, tmp_path / "cut", "4096")
    caplog.clear()
    of_cut = export_gguf(small, tmp_path / "cut.gguf", "BF16")
    assert "get other token ids" in caplog.text and GgufFile(of_cut).get("tokenizer.ggml.pre") == "gpt-4o"
    assert len(chosen.keep) == 4096


def test_the_default_model_s_tokenizer_is_of_the_kind_that_is_cut() -> None:
    assert len(read_vocabulary(DEFAULT).merged) == 12028
