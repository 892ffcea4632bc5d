"""GGUF files: exact in float32, the same types for every number of experts, and whole or not there at all."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from export.gguf import export_gguf
from export.gguf.quantise import quantise
from prune.rewrite import prune
from runtime import llama_paths
from runtime.errors import RequestError, WorkError
from tests.prune.test_cut import plan_for
from tests.tiny import write_tiny_checkpoint

PROVENANCE = {"hash": "0123456789ab", "pair": "en-de", "criterion": "reap", "ratio": 0.7, "fingerprint": "f" * 32}


def types_of(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


def expert_count(path: Path) -> int:
    return int(GGUFReader(path).fields["qwen3moe.expert_count"].contents())


@pytest.fixture(scope="module")
def cut_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bf16 file of a folder that carries a plan."""
    folder = tmp_path_factory.mktemp("cut") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "slimmoe.json").write_text(json.dumps(PROVENANCE | {"layers": [], "recovery": {"steps": 5}}))
    return export_gguf(folder, folder.parent / "model.gguf", "BF16")


@pytest.fixture(scope="module")
def mixed_types(cut_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Q4_K_M files of models with 8 and with 6 experts."""
    folder = tmp_path_factory.mktemp("mixed")
    six = write_tiny_checkpoint(folder / "six", num_experts=6)
    quantise(cut_gguf, folder / "8.gguf", "Q4_K_M")
    return {8: folder / "8.gguf", 6: export_gguf(six, folder / "6.gguf", "q4_k_m")}


def test_types_do_not_depend_on_the_number_of_experts(mixed_types: dict[int, Path]) -> None:
    types = types_of(mixed_types[8])
    assert types == types_of(mixed_types[6])
    assert types["blk.0.attn_k.weight"] == "Q4_K"  # Mixtral's rule would have Q8_0
    assert set(types.values()) == {"F32", "Q4_K", "Q6_K"}
    assert {n: expert_count(path) for n, path in mixed_types.items()} == {8: 8, 6: 6}


def test_llama_cpp_s_own_tool_runs_the_file(mixed_types: dict[int, Path]) -> None:
    tool = llama_paths.HOME / "bin" / "llama-bench"
    result = subprocess.run([tool, "-m", mixed_types[8], "-p", "8", "-n", "8", "-r", "1"], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


def test_provenance_is_in_the_file(cut_gguf: Path) -> None:
    fields = GGUFReader(cut_gguf).fields
    found = {key.removeprefix("slimmoe."): fields[key].contents() for key in fields if key.startswith("slimmoe.")}
    assert json.loads(found.pop("prompt"))["user"].endswith("{text}")  # what the model is asked
    assert found == PROVENANCE | {"recovered": True, "recoveries": "full:5"}


def test_quantising_keeps_the_provenance(cut_gguf: Path, tmp_path: Path) -> None:
    quantise(cut_gguf, tmp_path / "q8.gguf", "Q8_0")
    assert GGUFReader(tmp_path / "q8.gguf").fields["slimmoe.hash"].contents() == PROVENANCE["hash"]


def test_the_converter_is_told_more_than_an_argument_may_hold(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    """As of a model of 150 thousand tokens, the numbers of those that stay."""
    convert = importlib.import_module("export.gguf.convert")
    long, run_tool, seen = "12345," * 50_000, convert.run_tool, list[str]()

    def told(command: list[str], *rest: Any, told: str = "", **options: Any) -> tuple[int, list[str]]:
        seen.extend(command)
        return run_tool(command, *rest, told=json.dumps(json.loads(told) | {"unknown": long}), **options)

    monkeypatch.setattr(convert, "run_tool", told)
    export_gguf(tiny_checkpoint, tmp_path / "model.gguf", "F32")
    assert (tmp_path / "model.gguf").stat().st_size and max(map(len, seen)) < 1000
    size = [sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"]
    assert run_tool(size, told=long) == (0, ["300000"])


def test_bf16_is_kept_bit_by_bit(cut_gguf: Path) -> None:
    types = types_of(cut_gguf)
    assert {types[name] for name in types if "exps" in name or "attn_q.weight" in name} == {"BF16"}


def test_different_numbers_of_experts_by_layer_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    prune(tiny_checkpoint, plan_for(tiny_checkpoint, [0, 1, 2], [0, 1]), tmp_path / "cut", ragged=True)
    with pytest.raises(RequestError, match="one number for all"):
        export_gguf(tmp_path / "cut", tmp_path / "x.gguf", "Q8_0")


def test_missing_llama_cpp_names_the_remedy(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_paths, "HOME", tmp_path / "nowhere")
    with pytest.raises(WorkError, match="make setup"):
        export_gguf(tiny_checkpoint, tmp_path / "x.gguf", "Q8_0")
