"""The llama.cpp engine computes what transformers computes, and tells broken files from good ones."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from export.fit import fit
from export.gguf import export_gguf
from prune.gguf_model import GgufModel
from runtime.engines.llama import LlamaEngine
from runtime.engines.threads import active_bytes, default_threads
from runtime.errors import RequestError, SlimmoeError
from runtime.formats.artefact import find_artefact
from runtime.formats.gguf_file import GgufFile
from runtime.measure.bench import file_size
from runtime.text.asked import read_asked
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from runtime.translate.segments import translate
from tests.tiny import VOCABULARY

TEXTS = [
    "The file could not be opened.",
    "Dzień dobry! Zażółć gęślą jaźń – „cudzysłów”…",
    "Größe: 1234567,89 € (±5 %)",
    "Cafe\u0301 and Café, A\u030angstro\u0308m",  # combining accents: the tokenizer composes them
    "日本語のテキスト, 한국어, русский, ελληνικά, العربية",
    "👩‍👩‍👧 🇩🇪 🚀✨",
    "  leading,\ttabs\t\tand trailing  ",
    "line\r\n\r\n  indented\n\n\n",
    "I'm can't WE'LL they'd",
    "<|user|>Translate into German:\nHello<|assistant|>Hallo<|end|>",
    "almost <|special|> and <|end",
    "%(name)s {count} <b>&amp;</b> https://example.org/?q=1&r=2",
    "",
]


@pytest.fixture(scope="module")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in float32, so that only the order of additions differs from transformers."""
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "F32")


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    with contextlib.closing(LlamaEngine(tiny_gguf, threads=1, context=1024, exact=True)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()


@pytest.mark.parametrize("text", TEXTS)
def test_token_ids_equal_the_tokenizers(engine: LlamaEngine, tiny_checkpoint: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert engine.encode(text) == ids
    assert engine.decode(ids) == tokenizer.decode(ids)


def test_broken_utf8_is_replaced(engine: LlamaEngine) -> None:
    assert engine.decode(engine.encode("🚀")[:-1]).endswith("\ufffd")


# 700 tokens take two batches. llama.cpp multiplies rotary angles up in float32, so its error grows with the position.
@pytest.mark.parametrize(("length", "bar"), [(1, 1e-4), (40, 1e-4), (700, 1e-3)])
def test_logits_equal_transformers(engine: LlamaEngine, reference: Any, length: int, bar: float) -> None:
    ids = np.random.default_rng(length).integers(4, VOCABULARY, length).tolist()
    with torch.inference_mode():
        expected = reference(input_ids=torch.tensor([ids])).logits[0].numpy()
    logits = engine.logits(ids)
    assert logits.shape == expected.shape and logits.dtype == np.float32
    assert np.abs(logits - expected).max() <= bar


def test_greedy_decoding_equals_transformers(engine: LlamaEngine, reference: Any) -> None:
    ids = engine.encode(engine.template.prompt(Pair("en", "de"), "The file could not be opened."))
    with torch.inference_mode():
        expected = reference.generate(torch.tensor([ids]), max_new_tokens=48, do_sample=False)[0, len(ids) :].tolist()
    for _ in range(2):  # the second from a cache that held the first
        generation = engine.generate(ids, 48)
        assert list(generation.token_ids) == [token for token in expected if token != 0]
        assert generation.prompt_tokens == len(ids)
        assert generation.text == engine.decode(generation.token_ids)


def test_end_of_sequence_finishes_and_is_left_out(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = engine.encode("Hello")
    written = engine.generate(ids, 8).token_ids
    last = written[5]
    monkeypatch.setattr(engine._lib, "llama_vocab_is_eog", lambda _, token: token == last)
    generation = engine.generate(ids, 8)
    assert generation.finished and generation.token_ids == written[: written.index(last)]
    assert engine.generate(ids, 8, stop=False).token_ids == written


def test_template_is_the_model_s_own(engine: LlamaEngine, tiny_checkpoint: Path) -> None:
    pair, own = Pair("en", "de"), ChatTemplate.from_folder(tiny_checkpoint)
    assert engine.template.prompt(pair, "Hello") == own.prompt(pair, "Hello")
    assert engine.template.completion(pair, "Hello", "Hallo") == own.completion(pair, "Hello", "Hallo")


def test_prompt_that_fills_the_context_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(RequestError, match="context"):
        engine.generate([5] * 1024, 1)
    assert len(engine.generate([5] * 1020, 100).token_ids) <= 4


@pytest.mark.parametrize("damage", ["cut short", "foreign", "more experts used than there are"])
def test_broken_file_is_one_sentence(tiny_gguf: Path, tmp_path: Path, damage: str) -> None:
    data = tiny_gguf.read_bytes()
    broken = tmp_path / "broken.gguf"
    used = GgufFile(tiny_gguf).metadata["qwen3moe.expert_used_count"]
    changed = data[: used.start] + b"d" + data[used.start + 1 :]  # of which llama.cpp itself ends the process
    others = {"cut short": data[: len(data) // 2], "foreign": b"PK\x03\x04" * 100}
    broken.write_bytes(others.get(damage, changed))
    with pytest.raises(SlimmoeError) as caught:
        LlamaEngine(broken)
    assert "\n" not in caught.value.sentence


def test_closing_twice_does_no_harm(tiny_gguf: Path) -> None:
    engine = LlamaEngine(tiny_gguf, context=64)
    engine.close()
    engine.close()


def test_exact_workers_write_what_one_engine_writes(tiny_gguf: Path) -> None:
    segments = [f"The file {'number ' * (i % 5)}{i} could not be opened." for i in range(30)]
    with contextlib.closing(LlamaEngine(tiny_gguf, threads=1)) as engine:
        one, many = (list(translate(engine, Pair("en", "de"), segments, count, exact=True)) for count in (1, 3))
        assert [(each.source, each.text) for each in one] == [(each.source, each.text) for each in many]
        ids = engine.encode(engine.template.prompt(Pair("en", "de"), segments[3]))
        assert many[3].generation and many[3].generation.token_ids == engine.generate(ids, 2 * len(ids) + 16).token_ids


def test_threads_are_chosen_by_the_weights_that_a_token_reads(tiny_gguf: Path, tiny_checkpoint: Path) -> None:
    tensors = {}
    for file in tiny_checkpoint.glob("*.safetensors"):
        tensors |= load_file(file)
    experts = sum(4 * tensor.numel() for name, tensor in tensors.items() if ".experts." in name)
    rest = sum(4 * tensor.numel() for name, tensor in tensors.items() if ".experts." not in name)
    assert active_bytes(tiny_gguf) == pytest.approx(rest + experts * 2 / 8, rel=0.01)  # top-2 of 8 experts
    assert default_threads(active_bytes(tiny_gguf)).count == 1
    assert default_threads(1 << 40).workers == 1


def split(source: Path, stem: Path, first_is_empty: bool) -> list[Path]:
    """A GGUF file in parts, as llama-gguf-split writes it: the first with half of the tensors, or with metadata alone."""
    reader = GGUFReader(source)
    half = len(reader.tensors) // 2
    parts = [reader.tensors[:half], reader.tensors[half:]]
    parts = [[], *parts] if first_is_empty else parts
    paths = [Path(f"{stem}-{number:05}-of-{len(parts):05}.gguf") for number in range(1, len(parts) + 1)]
    for number, (path, tensors) in enumerate(zip(paths, parts, strict=True)):
        writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
        for key, field in reader.fields.items() if number == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                writer.add_key_value(key, field.contents(), field.types[0], *field.types[1:2])
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", len(parts))
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


@pytest.mark.parametrize("first_is_empty", [False, True])
def test_of_a_split_file_the_whole_counts_whichever_part_is_named(
    first_is_empty: bool, tiny_gguf: Path, engine: LlamaEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = split(tiny_gguf, tmp_path / "tiny", first_is_empty)
    total = sum(part.stat().st_size for part in parts)
    ids = engine.encode("Hello")
    loaded = []
    load = engine._lib.llama_model_load_from_file
    monkeypatch.setattr(
        engine._lib, "llama_model_load_from_file", lambda path, params: loaded.append(params) or load(path, params)
    )
    for left in (2 * total, total):  # memory that holds the whole with its cache, or each part but not the whole
        monkeypatch.setattr("runtime.engines.llama_load.memory_left", lambda left=left: left)
        with contextlib.closing(LlamaEngine(parts[-1], threads=1, exact=True)) as other:
            assert other.generate(ids, 8, stop=False).token_ids == engine.generate(ids, 8, stop=False).token_ids
    assert [bool(params.use_extra_bufts) for params in loaded] == [True, False]
    assert file_size(parts[0]) == file_size(parts[-1]) == total
    assert active_bytes(parts[0]) == active_bytes(tiny_gguf)
    assert find_artefact(tmp_path) == parts[0]


@pytest.mark.parametrize("first_is_empty", [False, True])
def test_what_is_told_of_a_split_file_is_told_of_the_whole(
    first_is_empty: bool, tiny_gguf: Path, tmp_path: Path
) -> None:
    expected = fit(GgufModel(tiny_gguf), 2**33), read_asked(tiny_gguf, Pair("en", "de"), "Save.")
    for part in split(tiny_gguf, tmp_path / "tiny", first_is_empty):
        found = fit(GgufModel(part), 2**33)
        sizes = [choice.memory_bytes for choice in found.choices]
        whole = [choice.memory_bytes for choice in expected[0].choices]
        assert sizes == pytest.approx(whole, rel=1e-4)  # a header more for each part
        asked = read_asked(part, Pair("en", "de"), "Save.")
        assert (asked.prompt, asked.stops) == (expected[1].prompt, expected[1].stops)
