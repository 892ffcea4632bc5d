"""The doctor says what is so, whatever kind of model it is given, and stays with headers."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

import slimmoe
from export.gguf import export_gguf
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate
from slimmoe.doctor import diagnose
from tests.bad_inputs.folders import DAMAGE
from tests.tiny import VOCABULARY, write_tiny_checkpoint
from tests.warm_command import run_command

EN_DE = Pair("en", "de")


def test_a_checkpoint_is_told_by_its_headers_alone(tiny_checkpoint: Path, tmp_path) -> None:
    found = diagnose(str(tiny_checkpoint), EN_DE)
    assert (found.kind, found.family, found.works) == ("checkpoint", "qwen3_moe", True)
    assert "2 layers, 2 of them with 8 experts, top-2" in found.layout
    assert found.prompt == ChatTemplate.from_folder(tiny_checkpoint).prompt(EN_DE, "The file could not be opened.")
    assert found.bytes == sum(found.stored.values()) and f"{VOCABULARY} tokens" in found.tokenizer
    assert found.writable["ONNX"] == "none, fp16, int8, int4" and found.writable["GGUF"].startswith("every type")
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    for shard in model.glob("*.safetensors"):
        size = shard.stat().st_size
        with shard.open("r+b") as file:
            header = int.from_bytes(file.read(8), "little")
            file.truncate(8 + header)
            file.truncate(size)
    again = diagnose(str(model), EN_DE)
    assert (again.layout, again.stored, again.writable) == (found.layout, found.stored, found.writable)


def test_the_same_model_has_the_same_prompt_as_gguf_and_as_onnx(
    tiny_checkpoint: Path, tiny_onnx: Path, tmp_path
) -> None:
    gguf = export_gguf(tiny_checkpoint, tmp_path / "model.gguf", "Q8_0")
    found = {kind: diagnose(str(path), EN_DE) for kind, path in (("gguf", gguf), ("onnx", tiny_onnx))}
    expected = diagnose(str(tiny_checkpoint), EN_DE)
    for kind, each in found.items():
        assert each.kind == kind and each.works and each.prompt == expected.prompt
        assert each.memory["run"] > 0 and each.commands
    assert "8 experts, top-2" in found["gguf"].layout and "Q8_0" in found["gguf"].stored


def test_what_is_to_be_typed_is_accepted(tiny_checkpoint: Path, tmp_path) -> None:
    for command in diagnose(str(tiny_checkpoint), EN_DE).commands:
        name, *words = shlex.split(command)
        more = ["-o", str(tmp_path / "run"), "--dry-run"] if words[0] == "export" else []
        done = run_command(*words, *more, seconds=60)
        assert name == "slimmoe" and done.status == 0, done.errors


def test_what_the_writers_refuse_is_told(tmp_path) -> None:
    model = write_tiny_checkpoint(tmp_path / "model", "phimoe", vocab_size=VOCABULARY)
    found = diagnose(str(model), EN_DE)
    assert found.works and found.writable["GGUF"].startswith("no: ") and found.writable["ONNX"].startswith("none, fp16")


def test_a_repository_in_the_cache_and_a_run_s_folder_are_looked_into(tiny_checkpoint: Path, tmp_path) -> None:
    repository = tmp_path / "models--a--b"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in tiny_checkpoint.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert diagnose(str(repository), EN_DE).works and diagnose(str(snapshot), EN_DE).works
    run = tmp_path / "run"
    run.mkdir()
    export_gguf(tiny_checkpoint, run / "model.gguf", "BF16")
    assert diagnose(str(run), EN_DE).kind == "gguf"


def test_an_adapter_is_told_what_it_lacks_and_a_missing_model_is_a_wrong_request(tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(slimmoe.RequestError, match="is an adapter"):
        diagnose(str(tmp_path), EN_DE)
    with pytest.raises(slimmoe.RequestError):
        diagnose(str(tmp_path / "nowhere"), EN_DE)


def test_json_is_one_object_and_the_status_says_whether_all_is_well(tiny_checkpoint: Path, tmp_path) -> None:
    done = run_command("doctor", str(tiny_checkpoint), "--json", seconds=60)
    assert done.status == 0 and json.loads(done.output)["works"] is True
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    DAMAGE["a shard: missing"](model)
    done = run_command("doctor", str(model), "--json", seconds=60)
    assert done.status == 1 and "missing" in json.loads(done.output)["problems"][0]


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_line_of_the_diagnosis(kind: str, tiny_checkpoint: Path, tmp_path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    DAMAGE[kind](model)
    done = run_command("doctor", str(model), seconds=20)
    assert "Traceback" not in done.errors and done.status is not None
    told = "no: " in done.output or "problem " in done.output
    assert told, done.output
