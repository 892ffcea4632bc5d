"""Which files of a folder are its own, and which of them hold the weights: the rule that transformers follows."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from prune.hub import resolve_model
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.kinds import kind_of
from runtime.formats.model_folder import INDEX, SINGLE, own_file, read_checkpoint


def write(folder: Path, name: str, **tensors: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_file({key: np.float32(value).reshape(1) for key, value in tensors.items()}, folder / name, {"format": "pt"})


def write_index(folder: Path, **shards: str) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def values_of(folder: Path, config: dict[str, Any] | None = None) -> dict[str, float]:
    found = read_checkpoint(folder, config)
    return {name: float(load_file(tensor.path)[name][0]) for name, tensor in found.items()}


def of_transformers(folder: Path, config: dict[str, Any]) -> dict[str, float]:
    """What transformers loads into a module with the parameters a and b."""
    from transformers import PreTrainedConfig, PreTrainedModel

    class Model(PreTrainedModel):
        config_class = PreTrainedConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.a, self.b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
            self.post_init()

    (folder / "config.json").write_text(json.dumps(config))
    model = Model.from_pretrained(folder, config=PreTrainedConfig.from_pretrained(folder), use_safetensors=True)
    return {name: float(value.detach()) for name, value in model.named_parameters()}


@pytest.mark.parametrize("named", [{}, {"transformers_weights": "other.safetensors"}], ids=["by name", "by config"])
@pytest.mark.parametrize("kind", ["single", "shards", "both", "odd names", "below", "consolidated"])
def test_weights_are_taken_from_where_transformers_takes_them(kind: str, named: dict[str, str], tmp_path) -> None:
    write(tmp_path, "other.safetensors", a=9, b=9)
    write(tmp_path, "original/model.safetensors", a=8, b=8)
    if kind == "consolidated":
        write(tmp_path, "consolidated.safetensors", a=7, b=7)
    if kind in ("single", "both", "consolidated"):
        write(tmp_path, SINGLE, a=1, b=1)
    if kind != "single":
        first, second = {
            "odd names": ("weights.part1.safetensors", "x y.safetensors"),
            "below": ("parts/1.safetensors", "parts/deep/2.safetensors"),
        }.get(kind, ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"))
        write(tmp_path, first, a=2)
        write(tmp_path, second, b=3)
        write_index(tmp_path, a=first, b=second)
    assert values_of(tmp_path, named) == of_transformers(tmp_path, named)


def test_an_index_that_names_more_than_there_is_is_refused_by_the_tensor(tmp_path) -> None:
    write(tmp_path, "x.safetensors", a=1)
    write_index(tmp_path, a="x.safetensors", more="x.safetensors")
    with pytest.raises(WorkError, match="'more'"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pytorch_model.bin", "pickled"),
        ("consolidated.safetensors", "consolidated.safetensors"),
        ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors"),
        ("original/model.safetensors", "original/model.safetensors"),
        ("onnx/model.onnx", "ONNX folder"),
        ("small.gguf", "small.gguf"),
    ],
)
def test_a_folder_without_weights_is_told_what_there_is_instead(name: str, told: str, tmp_path) -> None:
    write(tmp_path, name, a=1)
    with pytest.raises(RequestError, match=told):
        read_checkpoint(tmp_path)


def test_links_stay_in_the_folder_or_in_the_cache_of_hugging_face(tmp_path) -> None:
    write(tmp_path, "elsewhere.safetensors", a=1)
    repository = tmp_path / "hub" / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for blob in (repository / "blobs" / "own", tmp_path / "hub" / "blobs" / "ab" / "shared"):
        write(blob.parent, blob.name, a=1)
        (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))
        assert own_file(snapshot, blob.name)
    (snapshot / "inside").symlink_to("own")
    assert own_file(snapshot, "inside") and own_file(snapshot, "nowhere") is None
    for target in ("../../../../elsewhere.safetensors", tmp_path / "elsewhere.safetensors", "gone", "out"):
        (snapshot / "out").unlink(missing_ok=True)
        (snapshot / "out").symlink_to(target)
        with pytest.raises(WorkError):
            own_file(snapshot, "out")
    plain = tmp_path / "blobs-of-nobody" / "model"
    plain.mkdir(parents=True)
    (plain / SINGLE).symlink_to(repository / "blobs" / "own")
    with pytest.raises(WorkError, match="out of the folder"):
        read_checkpoint(plain)


def test_a_repository_in_the_cache_stands_for_its_snapshot(tmp_path) -> None:
    repository = tmp_path / "models--a--b"
    for name in ("old", "new"):
        (repository / "snapshots" / name).mkdir(parents=True)
    assert resolve_model(str(repository)).parent == repository / "snapshots"
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("old")
    assert resolve_model(str(repository)) == repository / "snapshots" / "old"
    (repository / "refs" / "main").write_text("../../..")
    assert resolve_model(str(repository)).parent == repository / "snapshots"


def test_a_path_is_known_by_what_it_is_and_a_file_is_no_model_folder(
    tiny_checkpoint: Path, tiny_onnx: Path, tmp_path
) -> None:
    shutil.copy(tiny_checkpoint / "config.json", tmp_path / "config.json")
    (tmp_path / "blob").write_bytes(b"GGUF\x03")
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    expected = {
        tiny_checkpoint: "checkpoint", tiny_onnx: "onnx", tmp_path / "blob": "gguf", tmp_path / "x.gguf": "gguf",
        tmp_path / "a.safetensors": "safetensors", tmp_path / "lora": "adapter", tmp_path / "config.json": "file",
        tmp_path.parent: "folder", tmp_path / "none": "nothing",
    }  # fmt: skip
    assert {path: kind_of(path) for path in expected} == expected
    for path, kind in expected.items():
        if kind in ("gguf", "safetensors", "file", "nothing"):
            with pytest.raises(SlimmoeError):
                resolve_model(str(path))
