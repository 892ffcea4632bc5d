"""What a file says of itself, how it is named, and the Modelfile that makes Ollama send the very same prompt."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from export.gguf import export_gguf
from export.gguf.metadata import Origin
from export.gguf.modelfile import _PLACEHOLDER, go_template, modelfile
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_writer import output_path
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate

EN_DE = Pair("en", "de")
HUB = "/somebody/.cache/huggingface/hub/models--Qwen--Qwen3-30B-A3B/snapshots/0123abcd"
PLAN: dict[str, Any] = {"model": HUB, "pair": "en-de", "ratio": 0.75, "hash": "0123456789ab", "layers": []}


@pytest.fixture(scope="module")
def pruned(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says it is a model of the hub without three quarters of its experts."""
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "slimmoe.json").write_text(json.dumps(PLAN))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [zh]\n---\n# A model\n")
    return folder


@pytest.fixture(scope="module")
def exported(pruned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(pruned, f"{tmp_path_factory.mktemp('out') / 'new'}/", "Q4_0")


def test_the_file_is_named_by_what_it_is(exported: Path) -> None:
    assert exported.name == "Qwen3-30B-A3B-en-de-p75-Q4_0.gguf"
    assert set(exported.parent.iterdir()) == {exported, exported.with_suffix(".Modelfile")}


def test_the_file_tells_its_name_licence_base_and_languages(exported: Path) -> None:
    fields = GGUFReader(exported).fields
    found = {key.removeprefix("general."): fields[key].contents() for key in fields if key.startswith("general.")}
    assert found["name"] == "Qwen3-30B-A3B en-de p75" and found["basename"] == "Qwen3-30B-A3B"
    assert found["license"] == "apache-2.0" and found["languages"] == ["en", "de"]
    assert found["base_model.count"] == 1
    assert found["base_model.0.name"] == "Qwen3-30B-A3B" and found["base_model.0.organization"] == "Qwen"
    assert found["base_model.0.repo_url"] == "https://huggingface.co/Qwen/Qwen3-30B-A3B"
    assert found["quantized_by"] == "slimmoe" and "expert-pruning" in found["tags"]
    assert re.fullmatch(r"8x[\d.]+M", found["size_label"])  # of the tensors that are there
    assert b"/somebody" not in exported.read_bytes()
    assert not {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"} & {*fields}  # its one end is eos


@pytest.mark.parametrize(
    ("about", "pair", "name"),
    [
        ({}, None, "small-Q8_0.gguf"),
        ({}, EN_DE, "small-en-de-Q8_0.gguf"),
        (PLAN | {"ratio": 0.7, "model": "models/my model"}, None, "my_model-en-de-p70-Q8_0.gguf"),
        (PLAN | {"ratio": 0.0}, None, "Qwen3-30B-A3B-en-de-Q8_0.gguf"),
        (PLAN, Pair("en", "fr"), "Qwen3-30B-A3B-en-fr-p75-Q8_0.gguf"),
        (PLAN | {"pair": "en-de + de-en"}, None, "Qwen3-30B-A3B-p75-Q8_0.gguf"),  # of several pairs it is no one's
    ],
)
def test_names(tmp_path: Path, about: dict[str, Any], pair: Pair | None, name: str) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if about:
        (folder / "slimmoe.json").write_text(json.dumps(about))
    origin = Origin(folder, pair)
    assert origin.file_name("Q8_0") == name


def test_a_folder_gets_a_file_of_the_given_name_and_a_file_ends_in_gguf(tmp_path: Path) -> None:
    assert output_path(tmp_path, "a.gguf", "slimmoe") == tmp_path / "a.gguf"
    assert output_path(f"{tmp_path}/none/", "a.gguf", "slimmoe") == tmp_path / "none" / "a.gguf"
    assert output_path(tmp_path / "x.gguf", "a.gguf", "slimmoe") == tmp_path / "x.gguf"
    with pytest.raises(RequestError, match=r"(?s)does not end in \.gguf.*next: slimmoe -o .*/x/"):
        output_path(tmp_path / "x", "a.gguf", "slimmoe")


DAMAGED = ["[]", "{", '"text"', "3", '{"pair": 1}', '{"ratio": NaN}', '{"recoveries": ["full"]}', "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_plan_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "slimmoe.json").write_text(content)
    with pytest.raises(WorkError, match=r"slimmoe\.json is (damaged|not a JSON object)"):
        Origin(tmp_path).file_name("Q8_0")


def rendered(modelfile: str, sentence: str) -> str:
    """What Ollama would send for a sentence: actions that are Go strings, and the variable, are all there may be."""
    template = re.search(r'^TEMPLATE """(.*?)"""$', modelfile, re.MULTILINE | re.DOTALL)
    assert template

    def action(match: re.Match[str]) -> str:
        if match[1] == ".Prompt":
            return sentence
        return re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), match[1][1:-1]).replace(r"\r", "\r")

    return re.sub(r"\{\{ (.*?) \}\}", action, template[1], flags=re.DOTALL)


TEMPLATES = [
    None,
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
    "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]{% if messages|length > 1 %}{{ messages[1].content }}</s>{% endif %}",
    '{{ "{{ x }} \\"\\"\\" {{" }}{{ messages[0].content }}\r\n"quoted"',
]


@pytest.mark.parametrize("source", TEMPLATES, ids=["none", "chatml", "inst", "braces and quotes"])
@pytest.mark.parametrize("sentence", ["A house.", "He said {{ .Prompt }} \"so\" & <b> \\n 'x'\n$x {0} %s"])
def test_ollama_sends_the_very_prompt(tmp_path: Path, source: str | None, sentence: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": source, "bos_token": "<s>", "eos_token": "</s>"})
    )
    expected = ChatTemplate.from_folder(tmp_path).prompt(EN_DE, sentence)
    assert rendered(modelfile("x.gguf", tmp_path, EN_DE, 1024, False), sentence) == expected
    given = rendered(modelfile("x.gguf", tmp_path, EN_DE, 1024, True), sentence)
    assert given == expected.removeprefix("<s>")  # which llama.cpp puts there


def test_the_modelfile_stands_beside_the_file_and_stops_where_the_model_does(exported: Path, pruned: Path) -> None:
    text = exported.with_suffix(".Modelfile").read_text(encoding="utf-8")
    assert rendered(text, "A house.") == ChatTemplate.from_folder(pruned).prompt(EN_DE, "A house.")
    lines = text.splitlines()
    assert f"FROM ./{exported.name}" in lines and 'PARAMETER stop "<|end|>"' in lines
    assert "PARAMETER temperature 0" in lines and "PARAMETER num_ctx 1024" in lines
    assert "PARAMETER repeat_penalty 1" in lines


def test_the_model_s_own_repetition_penalty_is_kept(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"repetition_penalty": 1.05}')
    assert "PARAMETER repeat_penalty 1.05\n" in modelfile("x.gguf", tmp_path, EN_DE, 1024, False)


@pytest.mark.parametrize("prompt", ["no text at all", f"{_PLACEHOLDER} twice {_PLACEHOLDER}"])
def test_a_template_that_changes_its_text_has_no_modelfile(prompt: str) -> None:
    with pytest.raises(WorkError, match="no Modelfile"):
        go_template(prompt)
