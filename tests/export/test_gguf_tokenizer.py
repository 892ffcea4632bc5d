"""Tokenizers: what llama.cpp does not know by its hash is recognised by how it splits, and ids are compared always."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter

from export.capabilities import require_writable
from export.gguf import export_gguf
from export.gguf.pre_tokenizers import GPT2, NAMES, PRE_TOKENIZERS, PUNCTUATION, PreTokenizer
from export.gguf.tokenizer import SAMPLE, compare, recognise
from prune.checkpoint import Checkpoint
from runtime.errors import RequestError, WorkError
from runtime.text.pairs import Pair
from tests.tiny import TOKENIZER

EN_DE = Pair("en", "de")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def steps_of(known: PreTokenizer) -> list[dict[str, Any]]:
    """The pre_tokenizer that a publisher would write for it."""
    steps: list[dict[str, Any]] = []
    for split in known.splits:
        if split == PUNCTUATION:
            steps.append({"type": "Punctuation", "behavior": "Contiguous"})
        elif split == GPT2:
            steps.append(BYTES | {"use_regex": True})
        elif split in (r"\p{N}", r"\p{N}+"):
            steps.append({"type": "Digits", "individual_digits": split == r"\p{N}"})
        else:
            steps.append({"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False})
    return steps if GPT2 in known.splits else [*steps, BYTES]


def write_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None], **settings: Any) -> Path:
    """The default tokenizer with a change to its tokenizer.json, and to its settings."""
    folder.mkdir(exist_ok=True)
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))
    change(tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    known = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(known | settings))
    return folder


def as_published(known: PreTokenizer) -> Callable[[dict[str, Any]], None]:
    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps_of(known)}
        tokenizer["normalizer"] = {"type": known.normalizer} if known.normalizer else None
        tokenizer["model"]["ignore_merges"] = not known.merges

    return change


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Callable[..., Path]:
    """Writes a GGUF file of the default vocabulary (or its start) and no weights, with the name of a pre-tokenisation."""
    folder = tmp_path_factory.mktemp("vocabulary")
    fields = GGUFReader(export_gguf(tiny_checkpoint, folder / "whole.gguf", "BF16")).fields
    keys = [key for key in fields if key.startswith(("tokenizer.", "qwen3moe.")) and key != "tokenizer.ggml.pre"]

    def write(name: str, size: int | None = None) -> Path:
        writer = GGUFWriter(folder / f"{name}.gguf", "qwen3moe")
        writer.add_string("tokenizer.ggml.pre", name)
        for key in keys:
            value = fields[key].contents()
            value = value[:size] if isinstance(value, list) else value
            writer.add_key_value(key, value, fields[key].types[0], *fields[key].types[1:])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return folder / f"{name}.gguf"

    return write


@pytest.mark.parametrize("known", PRE_TOKENIZERS, ids=lambda known: known.name)
def test_a_published_pattern_is_recognised_and_gives_the_same_ids(
    known: PreTokenizer, vocabulary: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_tokenizer(tmp_path / "x", as_published(known), clean_up_tokenization_spaces=known.cleans)
    assert recognise(folder) == known.name
    texts = list(SAMPLE)
    if known.name == "falcon":
        # It looks for digits after bytes became characters, where some bytes are digits: 0xB2, the end of Cyrillic's в,
        # is written ². llama.cpp looks for them in the text. A vocabulary that has merges across such bytes shows it.
        cyrillic = "Привет мир, "
        assert compare(vocabulary(known.name), folder, [cyrillic]).different
        texts = [text.replace(cyrillic, "") for text in texts]
    result = compare(vocabulary(known.name), folder, texts)
    assert not result.different, result


def test_every_name_that_may_be_forced_is_one_of_llama_cpp_s(vocabulary: Callable[..., Path]) -> None:
    assert {known.name for known in PRE_TOKENIZERS} <= NAMES
    for name in sorted(NAMES):
        compare(vocabulary(name, 500), TOKENIZER, [])
    with pytest.raises(WorkError, match="cannot load the vocabulary"):
        compare(vocabulary("no-such-name", 500), TOKENIZER, [])


def test_line_ends_may_be_written_as_themselves_or_as_escapes(tmp_path: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        pattern = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        pattern["Regex"] = pattern["Regex"].replace(r"\r", "\r").replace(r"\n", "\n")

    assert recognise(write_tokenizer(tmp_path / "x", change)) == "qwen2"


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: tokenizer.update(pre_tokenizer=None),
        lambda tokenizer: tokenizer.update(normalizer={"type": "Lowercase"}),
        lambda tokenizer: tokenizer["model"].update(byte_fallback=True),
        lambda tokenizer: tokenizer["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        lambda tokenizer: tokenizer["pre_tokenizer"]["pretokenizers"].pop(),  # no bytes
        lambda tokenizer: tokenizer["pre_tokenizer"]["pretokenizers"][0].update(behavior="MergedWithNext"),
    ],
)
def test_what_llama_cpp_would_not_do_is_not_recognised(change: Callable[[Any], None], tmp_path: Path) -> None:
    assert recognise(write_tokenizer(tmp_path / "x", change)) is None


@pytest.fixture
def strange(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A model whose tokenizer splits digits in fives, as no other does."""

    def change(tokenizer: dict[str, Any]) -> None:
        pattern = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        pattern["Regex"] = pattern["Regex"].replace(r"\p{N}|", r"\p{N}{5}|\p{N}|")

    shutil.copytree(tiny_checkpoint, tmp_path / "strange")
    return write_tokenizer(tmp_path / "strange", change)


def test_an_unknown_tokenizer_is_refused_asking_for_a_name_and_nothing_is_left(strange: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "x.gguf"
    with pytest.raises(RequestError, match=r"(?s)unknown to llama\.cpp.*--pre NAME"):
        export_gguf(strange, output, "Q8_0")
    assert not output.parent.exists()
    with pytest.raises(RequestError, match="unknown to llama"):  # before hours of other work
        require_writable(Checkpoint(strange), ["Q8_0"])
    require_writable(Checkpoint(strange), ["int4"])


def test_a_forced_name_is_taken_and_its_differences_told(
    strange: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = export_gguf(strange, tmp_path / "x.gguf", "Q8_0", pre="gpt-2", pair=EN_DE, corpus=Path("data/dev"))
    assert GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert f"of {len(SAMPLE) + 40} texts get other token ids" in caplog.text


def test_a_recognised_name_that_gives_other_ids_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.gguf.recognise", lambda folder: "falcon")
    with pytest.raises(WorkError, match=r"(?s)get other token ids.*--pre NAME"):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "Q8_0")
    assert not list(tmp_path.iterdir())


def test_a_name_that_llama_cpp_does_not_have_is_refused_at_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no pre-tokenisation 'qwen9'.*qwen2"):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "Q8_0", pre="qwen9")
